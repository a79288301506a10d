"""What a checkpoint can be put through, a file each."""
