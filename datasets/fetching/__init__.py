"""Record batches of remote sets: byte ranges with retries, and the disk cache that a host shares."""
