"""Where a run starts from: its beginning, or the checkpoint that all ranks agree on."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import torch

from datasets.order import Plan
from trainers import checkpoint, parallel, summary
from trainers.checkpoint import Damaged, State
from trainers.recipe import Recipe
from trainers.session import Session
from trainers.stage import length

logger = logging.getLogger(__name__)


def agreed_latest(session: Session) -> str | None:
    """URL of the checkpoint that rank 0 goes on from, on every rank: those that look for themselves might see others."""
    found = _newest_whole(session.folder) if session.rank == 0 else None
    # One more than the step, so that a sum over ranks in which the others are 0 tells none from step 0.
    own = checkpoint.read_state(found).step + 1 if found else 0
    agreed = int(parallel.summed(torch.tensor([float(own)], dtype=torch.float64))[0]) - 1
    return checkpoint.folder(session.folder, agreed) if agreed >= 0 else None


def _newest_whole(folder: str) -> str | None:
    """The newest checkpoint that is as it was written; newer ones are set aside, which the report says.

    Raises Damaged, and changes nothing, where there are only damaged ones.
    """
    spoilt: list[tuple[str, Damaged]] = []
    found = checkpoint.latest(folder)
    while found:
        try:
            checkpoint.verify(found)
            break
        except Damaged as error:
            spoilt.append((found, error))
            found = checkpoint.before(found)
    if spoilt and not found:
        raise spoilt[0][1]
    for url, damaged in spoilt:
        set_aside(folder, url, damaged, "the run went on from an older one")
    return found


def set_aside(folder: str, url: str, damaged: Damaged, then: str) -> None:
    """A damaged checkpoint counts no more; `then` says in the report what the run did instead."""
    logger.warning("%s: %s; it is set aside", damaged.path, damaged.error)
    checkpoint.set_aside(url)
    step = checkpoint.step_of(url)
    summary.happened(folder, "damaged", step=step, why=damaged.error)
    note = f"the checkpoint of step {step} was found damaged: {then}"
    summary.amend(folder, notes=[*summary.read(folder).get("notes", []), note])


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
