"""Influence by gradients that are not projected: EK-FAC (arXiv 2308.03296) and, past it, Gauss-Newton steps."""
