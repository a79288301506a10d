"""Where a run starts from: its beginning, or the checkpoint that all ranks agree on."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from datasets.order import Plan
from trainers import checkpoint, parallel
from trainers.checkpoint import State
from trainers.recipe import Recipe
from trainers.session import Session
from trainers.stage import length


def agreed_latest(session: Session) -> str | None:
    """URL of rank 0's newest checkpoint, on every rank: ranks that look for themselves might see different ones."""
    found = session.latest() if session.rank == 0 else None
    # One more than the step, so that a sum over ranks in which the others are 0 tells none from step 0.
    own = checkpoint.read_state(found).step + 1 if found else 0
    agreed = int(parallel.summed(torch.tensor([float(own)], dtype=torch.float64))[0]) - 1
    return checkpoint.folder(session.folder, agreed) if agreed >= 0 else None


def beginning(recipe: Recipe, plans: Sequence[Plan], digest: str) -> State:
    """The state of a run at step 0."""
    return State(
        step=0,
        lengths=tuple(length(p, q) for p, q in zip(recipe.phases, plans, strict=True)),
        recipe=recipe.identity(digest),
        commit=commit(),
        kept=f"{recipe.keep.metric} {recipe.keep.mode}",
    )


def optimizer_names(recipe: Recipe, index: int) -> dict[str, str]:
    """Which optimizer each name of a phase is: moments of one mean nothing to another."""
    return {name: optim.name for name, optim in recipe.phases[index].optim.items()}


def commit() -> str:
    """The checkout's git commit, which the place found out."""
    return os.environ.get("MANTA_COMMIT", "")
