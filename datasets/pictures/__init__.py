"""From the bytes of one encoded picture to pixels."""
