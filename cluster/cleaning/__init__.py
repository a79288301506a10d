"""Wrong labels found by runs: what they say of each sample, and the list that comes of it."""
