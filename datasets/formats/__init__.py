"""How pictures and labels lie in their publishers' files: what sources share."""
