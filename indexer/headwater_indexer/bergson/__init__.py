"""Gradients that bergson stored (github.com/EleutherAI/bergson, 2.5), as an index that can be asked."""
