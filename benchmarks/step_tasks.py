"""A training step of other tasks than classification against the same mathematics by hand, on one thread: a GAN, a fit, SimCLR, CLIP."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import fair, plain_contrast, plain_tasks
from benchmarks.clock import interleaved, ratios
from benchmarks.reading import Reading, summed_up, total_ratio
from trainers.recipe import Recipe
from trainers.rooms import ROOT

ROUNDS = 101  # of short blocks: what else the machine does changes slowly


class Case(NamedTuple):
    """A recipe with its changes, the loop by hand, the loss that both give, and how many steps are timed as a block."""

    title: str
    recipe: str
    changes: dict[str, object]
    loop: Callable[[Recipe, int], Callable[[], Tensor]]
    loss: str  # "" where the loop by hand has an order of its own
    steps: int
    target: str = ""
    tolerance: float = fair.TOLERANCE


CASES = (
    Case("digits, dcgan, batch 64", "dcgan_digits", {}, plain_tasks.gan, "generator_loss", 4, "<= 1.05"),
    Case("digits, dcgan, batch 64, fed by torch's DataLoader", "dcgan_digits", {}, plain_tasks.gan_loaded, "", 4),
    Case("f2, 1-64-64-1, batch 70", "curve", {"data.batch": 70}, plain_tasks.regress, "loss", 80, "<= 1.05"),
    Case("f2, 1-64-64-1, batch 70, fed by torch's DataLoader", "curve", {"data.batch": 70}, plain_tasks.regress_loaded, "", 80),
    Case(
        "f2, 1-1024-1024-1, batch 1,024",
        "curve",
        {"data.source.num_rows": 8000, "data.batch": 1024, "model.hidden": [1024, 1024]},
        plain_tasks.regress,
        "loss",
        4,
        "<= 1.05",
    ),
    Case("digits, SimCLR, batch 256", "simclr_digits", {}, plain_contrast.simclr, "loss", 4, "<= 1.05", 1e-3),  # its rate lets roundings grow
    Case("digits, tiny CLIP, batch 64", "clip_digits", {}, plain_contrast.clip, "loss", 4, "<= 1.05"),
)  # fmt: skip


def run(rounds: int | None = None) -> list[Reading]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
            folders = [Path(name) / str(number) for number in range(len(CASES))]
            return [
                reading
                for case, folder in zip(CASES, folders, strict=True)
                for reading in _compared(case, folder, rounds or ROUNDS)
            ]
    finally:
        torch.set_num_threads(before)


def _compared(case: Case, folder: Path, rounds: int) -> list[Reading]:
    note, steps = _agreement(case, folder / "fair"), case.steps * (rounds + 1)
    recipe = _recipe(case, steps)
    by_hand = case.loop(recipe, steps)
    with fair.engine(recipe, fair.local(recipe, folder / "timed")) as reports:
        interleaved(reports.__next__, by_hand, steps=case.steps, rounds=1)  # warm-up
        a, b = interleaved(reports.__next__, by_hand, steps=case.steps, rounds=rounds)
    readings = []
    for clock, mine, others in (("wall", a.wall, b.wall), ("CPU time", a.cpu, b.cpu)):
        what, more = (
            f"{case.title}: step, {clock}",
            [(x - y) * 1e6 for x, y in zip(mine, others, strict=True)],
        )
        by = ratios(mine, others)
        readings += [
            total_ratio("step_tasks", f"{what}, sum over sum", mine, others, target=case.target),
            summed_up("step_tasks", what, by, note=note),
            summed_up("step_tasks", f"{case.title}: more a step, {clock}", more, unit="µs"),
        ]
    return readings


def _agreement(case: Case, folder: Path) -> str:
    if not case.loss:
        return "batches in another order: losses were not compared"
    short = _recipe(case, fair.STEPS)
    ours = fair.logged_losses(short, fair.local(short, folder), case.loss)
    advance = case.loop(short, fair.STEPS)
    theirs = [float(advance().detach()) for _ in range(fair.STEPS)]
    worst = fair.check(ours, theirs, tolerance=case.tolerance)
    return f"first {fair.STEPS} losses agree to {worst:.0e}"


def _recipe(case: Case, steps: int) -> Recipe:
    """No evaluation and no checkpoint within timed blocks; the log stays as it is. One thread, plain batch norm."""
    quiet = {
        "phases.0.epochs": None,
        "phases.0.steps": steps,
        "evals": {},
        "keep": {"metric": None, "every_steps": None, "every_seconds": None},
        "scale.device": "cpu",
        "scale.threads": 1,
        "scale.sync_bn": False,
    }
    return Recipe.load(str(ROOT / "recipes" / f"{case.recipe}.yaml")).override(
        {**quiet, **case.changes}
    )
