"""Pictures and texts in one space: what the tasks around a CLIP share."""
