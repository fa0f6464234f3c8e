"""Shared storage by fsspec: corpora are read from it, and indexes are pushed to it and pulled."""
