"""The doctor: what would fail later, found out now. Nothing here imports torch or Ray before it must."""
