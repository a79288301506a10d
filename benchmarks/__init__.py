"""Benchmarks: `python -m benchmarks [step ddp first_step demo]`, figures in docs/benchmarks.md.

Each module has `run(rounds) -> list[Reading]`. A reading is a ratio (or a difference) against something measured in the
same run, in interleaved blocks after a warm-up; it is recorded, and never passes or fails.
"""
