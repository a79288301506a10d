"""Retrieval where runs happen: features computed here or on a cluster, indexes made and asked."""
