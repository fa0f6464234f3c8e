"""Rows of few bits: whitened rows rounded to a fixed number of bytes, from which influence is estimated."""
