"""Pictures decoded in processes of their own, so that whoever launches a GPU's kernels need not wait for Python's lock.

Sixteen threads that decode leave the thread that trains a small share of the lock: an H100 that could learn from 11,600
pictures a second was given 1,800 by them (docs/benchmarks.md).
"""
