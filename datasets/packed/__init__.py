"""Packed data sets as they lie on disk: manifest, column types, record batches, rows by their number."""
