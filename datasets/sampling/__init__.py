"""Who fills which slot of which step: whole epochs in turn, classes balanced, sets mixed."""
