"""A training step of the engine against the same step by hand, in this process, on one thread."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import fair, plain, workloads
from benchmarks.clock import interleaved, ratios
from benchmarks.reading import Reading, summed_up, total_ratio
from trainers.recipe import Recipe

ROUNDS = 21
MakeRecipe = Callable[[int], Recipe]


def run(rounds: int | None = None) -> list[Reading]:
    """ResNet-20 at batch 128 (10 steps a block), digits at batch 64 (200 steps a block)."""
    rounds = rounds or ROUNDS
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
                    rounds=rounds,
                    targets=("", "<= 150"),
                ),
                *_compared(
                    "synthetic 32x32x3, ResNet-20, batch 128",
                    lambda steps: workloads.resnet20(folder, batch=128, steps=steps),
                    folder / "resnet20",
                    steps=10,
                    rounds=rounds,
                    targets=("<= 1.05", ""),
                ),
            ]
    finally:
        torch.set_num_threads(before)


def _compared(
    title: str, make: MakeRecipe, folder: Path, *, steps: int, rounds: int, targets: tuple[str, str]
) -> list[Reading]:
    worst = _equal_work(make, folder / "fair")
    recipe = make(steps * (rounds + 2))
    theirs = plain.loop(recipe)
    with fair.engine(recipe, fair.local(recipe, folder / "timed")) as reports:
        interleaved(reports.__next__, theirs, steps=steps, rounds=1)  # warm-up
        a, b = interleaved(reports.__next__, theirs, steps=steps, rounds=rounds)
    note = f"first {fair.STEPS} losses agree to {worst:.0e}"
    readings = []
    for clock, ours, others in (("wall", a.wall, b.wall), ("CPU time", a.cpu, b.cpu)):
        more = [(x - y) * 1e6 for x, y in zip(ours, others, strict=True)]
        readings += [
            summed_up(
                "step",
                f"{title}: step, {clock}",
                ratios(ours, others),
                target=targets[0],
                note=note,
            ),
            total_ratio("step", f"{title}: step, {clock}, sum over sum", ours, others),
            summed_up("step", f"{title}: more a step, {clock}", more, unit="µs", target=targets[1]),
            summed_up("step", f"{title}: by hand, {clock}", [y * 1e6 for y in others], unit="µs"),
        ]
    return readings


def _equal_work(make: MakeRecipe, folder: Path) -> float:
    recipe = fair.shortened(make(100))
    ours = fair.logged_losses(recipe, fair.local(recipe, folder))
    advance = plain.loop(recipe)
    return fair.check(ours, [float(advance().detach()) for _ in range(fair.STEPS)])
