"""A training step of the engine against the same step by hand on a CUDA device: bf16, channels-last, pinned copies on both sides."""

from __future__ import annotations

import torch

from benchmarks import fair, plain, workloads
from benchmarks.clock import interleaved, ratios
from benchmarks.reading import Reading, summed_up, total_ratio
from benchmarks.workloads import Workload
from trainers.recipe import Recipe

ROUNDS = 21
BLOCK = 200  # steps: some tenths of a second each
# Kernels that add in another order each time: two loops by hand part as far.
TOLERANCES = {"fp32": 2e-3, "bf16": 2e-2}


def run(rounds: int | None = None) -> list[Reading]:
    with workloads.on_one_thread() as both:
        return [reading for one in both for reading in _compared(one, rounds or ROUNDS)]


def _compared(work: Workload, rounds: int) -> list[Reading]:
    apart = {precision: _equal_work(work, precision) for precision in TOLERANCES}
    recipe = _on_cuda(work.recipe(BLOCK * (rounds + 2)), "auto")
    theirs = plain.loop(recipe)
    fence = torch.cuda.synchronize
    with fair.engine(recipe, fair.local(recipe, work.folder / "timed")) as reports:
        interleaved(reports.__next__, theirs, steps=BLOCK, rounds=1, fence=fence)  # warm-up
        a, b = interleaved(reports.__next__, theirs, steps=BLOCK, rounds=rounds, fence=fence)
    note = "first losses within " + ", ".join(f"{v:.0e} ({p})" for p, v in apart.items())
    more = [(x - y) * 1e6 for x, y in zip(a.wall, b.wall, strict=True)]
    what = f"{work.title}: step, wall"
    return [
        summed_up("gpu_step", what, ratios(a.wall, b.wall), target="<= 1.05", note=note),
        total_ratio("gpu_step", f"{what}, sum over sum", a.wall, b.wall),
        summed_up("gpu_step", f"{work.title}: more a step", more, unit="µs"),
        summed_up("gpu_step", f"{work.title}: by hand", [y * 1e6 for y in b.wall], unit="µs"),
    ]


def _equal_work(work: Workload, precision: str) -> float:
    recipe = _on_cuda(fair.shortened(work.recipe(100)), precision)
    ours = fair.logged_losses(recipe, fair.local(recipe, work.folder / precision))
    advance = plain.loop(recipe)
    theirs = [float(advance().detach()) for _ in range(fair.STEPS)]
    return fair.check(ours, theirs, tolerance=TOLERANCES[precision])


def _on_cuda(recipe: Recipe, precision: str) -> Recipe:
    return recipe.override({"scale.device": "cuda", "scale.precision": precision})
