"""What protocols found, drawn: a page from the folder alone, and figures for those that have some."""
