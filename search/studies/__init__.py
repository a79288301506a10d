"""Studies: arms of one question over several seeds, one table, and how far to trust it."""
