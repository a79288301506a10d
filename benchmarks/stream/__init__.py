"""The stream beside other loaders: `python -m benchmarks.stream`, figures in docs/benchmarks.md.

Every side is a small file in `loaders/`, run as a fresh process over the same pictures, in interleaved rounds. Linux only.
"""
