"""What an attribution is compared with: scores that know the text (BM25), or the model's states (hidden states)."""
