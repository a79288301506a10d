"""Wrong labels: how they are found, and the list of what is to become of them."""
