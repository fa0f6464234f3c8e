"""One bit a column: what a quick pass over all documents looks at, before the best are scored from their rows."""
