"""What came of a search: its trials as a table, what may be said of the best of them, and how it is shown."""
