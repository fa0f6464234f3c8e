"""How good an attribution is: ground truths made by retraining, and what is measured against them."""
