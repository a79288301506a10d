"""Before anything is timed: both sides give the same losses, step for step, or there is nothing to compare."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cluster.session import Local
from trainers import parallel
from trainers.engine import Reports, fit
from trainers.recipe import Recipe
from trainers.session import Session

STEPS, TOLERANCE = 12, 1e-4


@contextmanager
def engine(recipe: Recipe, session: Session) -> Iterator[Reports]:
    """The engine's generator, closed at the end."""
    reports = fit(recipe, session)
    try:
        yield reports
    finally:
        reports.close()


def shortened(recipe: Recipe) -> Recipe:
    return recipe.override({"phases.0.steps": STEPS, "phases.0.schedule.warmup_steps": 4})


def logged_losses(recipe: Recipe, session: Session, column: str = "loss") -> list[float]:
    """What the engine writes down in a short run of its own (rank 0's file: means over all ranks)."""
    for _ in fit(recipe, session):
        pass
    parallel.barrier()  # until rank 0 has closed its file
    lines = Path(session.folder, "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row[column] for row in map(json.loads, lines) if row["split"] == "train"]


def check(ours: list[float], theirs: list[float], *, tolerance: float = TOLERANCE) -> float:
    """The largest relative difference of the two sides' losses; RuntimeError where it is not rounding."""
    pairs = [(a, float(b)) for a, b in zip(ours, theirs, strict=True)]
    worst = max(abs(a - b) / max(abs(b), 1e-3) for a, b in pairs)
    if len(pairs) != STEPS or not worst <= tolerance:
        shown = ", ".join(f"{a:.6f} / {b:.6f}" for a, b in pairs)
        raise RuntimeError(
            f"the sides do unequal work, their losses differ by {worst:.2e}: {shown}"
        )
    return worst


def local(recipe: Recipe, folder: Path) -> Local:
    """A session in this process, in a new run folder."""
    folder.mkdir(parents=True)
    return Local(torch.device(recipe.scale.device), str(folder))
