"""A training step with `data.ledger=true` against the same step without, in this process, on one thread.

Each block ends with a checkpoint on both sides, for the ledger is written together with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks import fair, workloads
from benchmarks.clock import Advance, interleaved, ratios
from benchmarks.reading import Reading, summed_up, total_ratio
from trainers.engine import Reports
from trainers.recipe import Recipe

ROUNDS = 21


def run(rounds: int | None = None) -> list[Reading]:
    """ResNet-20 at batch 128 (10 steps a block), digits at batch 64 (200 steps a block)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
            folder = Path(name)
            return [
                *_compared(
                    "digits, small_cnn, batch 64",
                    lambda steps: workloads.digits(batch=64, steps=steps),
                    folder / "digits",
                    steps=200,
                    rounds=rounds or ROUNDS,
                ),
                *_compared(
                    "synthetic 32x32x3, ResNet-20, batch 128",
                    lambda steps: workloads.resnet20(folder, batch=128, steps=steps),
                    folder / "resnet20",
                    steps=10,
                    rounds=rounds or ROUNDS,
                ),
            ]
    finally:
        torch.set_num_threads(before)


def _compared(
    title: str, make: Callable[[int], Recipe], folder: Path, *, steps: int, rounds: int
) -> list[Reading]:
    recipe = make(steps * (rounds + 2))
    with ExitStack() as stack:
        sides = []
        for kept in (True, False):
            one = recipe.override({"data.ledger": kept})
            session = fair.local(one, folder / ("with" if kept else "without"))
            sides.append(_saving(stack.enter_context(fair.engine(one, session)), steps))
        interleaved(*sides, steps=steps, rounds=1)  # warm-up
        a, b = interleaved(*sides, steps=steps, rounds=rounds)
    files = list((folder / "with" / "ledger").iterdir())
    if len(files) != rounds + 1 or (folder / "without" / "ledger").exists():
        raise RuntimeError(f"{len(files)} parts of a ledger after {rounds + 1} checkpoints")
    readings = []
    for clock, ours, others in (("wall", a.wall, b.wall), ("CPU time", a.cpu, b.cpu)):
        what = f"{title}: with a ledger / without, {clock}"
        readings += [
            summed_up("ledger", what, ratios(ours, others), target="<= 1.02"),
            total_ratio("ledger", f"{what}, sum over sum", ours, others),
        ]
    return readings


def _saving(reports: Reports, steps: int) -> Advance:
    """One step a call; the last of a block also writes a checkpoint."""
    done = 0

    def advance() -> object:
        nonlocal done
        done += 1
        report = next(reports)
        return reports.send("save") if done % steps == 0 else report

    return advance
