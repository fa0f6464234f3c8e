"""Rows on disk: HDF5 shards that are whole or absent, named by a manifest. Imports no torch."""
