"""Losses that are no numbers: found when steps are written down, noted with the samples of their batch, and the end of the run unless its phase skips them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import order, store
from datasets.refusal import Refusal
from datasets.sampling.samplers import Sampler
from datasets.shards import Dataset
from trainers.recipe import Recipe

FOLDER = "nonfinite"
_NAME = re.compile(r"^step-(\d{8,})\.json$")


class Watch:
    """Looks at the rows of steps on every rank, so that all end together; rank 0 notes what it finds."""

    def __init__(
        self,
        run: str,
        recipe: Recipe,
        dataset: Dataset,
        samplers: Sequence[Sampler],
        *,
        notes: bool,
    ) -> None:
        self.run, self.recipe, self.dataset, self.samplers = run, recipe, dataset, samplers
        self.notes = notes

    def look(self, rows: Sequence[Mapping[str, Any]], lengths: Sequence[tuple[int, int]]) -> None:
        """Note the steps whose loss is no number. Raises Refusal at the first of a phase that does not skip them.

        `lengths` are (steps an epoch, steps) of the phases as they were.
        """
        for row in rows:
            losses = {name: value for name, value in row.items() if name.endswith("loss")}
            if all(map(math.isfinite, losses.values())):
                continue
            if self.notes:
                self._note(row, losses, lengths)
            if self.recipe.phases[row["phase"]].nonfinite != "skip":
                raise self._refusal(row, losses)

    def _note(
        self,
        row: Mapping[str, Any],
        losses: Mapping[str, float],
        lengths: Sequence[tuple[int, int]],
    ) -> None:
        """`nonfinite/step-N.json`: the step, its losses in words, and its samples in the order of their slots."""
        phase, epoch, place = order.locate(row["step"] - 1, lengths)
        line = self.samplers[phase].epoch(seed=self.recipe.seed, phase=phase, epoch=epoch)
        rows = line.rows(place)
        found = {
            **{"step": row["step"], "phase": phase, "epoch": epoch},
            "losses": {name: str(value) for name, value in losses.items()},
            "sample_ids": self.dataset.columns("train")["id"][rows].tolist(),
        }
        url = store.join(self.run, FOLDER, f"step-{row['step']:08}.json")
        store.write_bytes(url, json.dumps(found).encode())

    def _refusal(self, row: Mapping[str, Any], losses: Mapping[str, float]) -> Refusal:
        step, phase = row["step"], row["phase"]
        name, value = next((n, v) for n, v in losses.items() if not math.isfinite(v))
        return Refusal(
            f"{name} became {value} at step {step} (phase {phase}, epoch {row['epoch'] + 1})",
            path=self.run,
            value=str(value),
            remedy=f"lower the lr or clip gradients, or set phases.{phase}.nonfinite=skip; "
            f"`launch.py data replay {self.run} --step {step}` shows the batch",
        )


def steps(run: str) -> list[int]:
    """The steps that were noted, in order."""
    matches = map(_NAME.match, store.names(store.join(run, FOLDER)))
    return sorted(int(match[1]) for match in matches if match)


def notes(run: str) -> list[str]:
    """What a reader of the run's scores must know."""
    found = steps(run)
    if not found:
        return []
    many = f"{len(found)} steps" if len(found) > 1 else "1 step"
    return [f"The loss of {many} was no number (the first is step {found[0]}); see {FOLDER}/."]


def forget(run: str, *, after: int) -> None:
    """Remove the notes of steps past this one: they are about to be done again."""
    for step in steps(run):
        if step > after:
            store.remove(store.join(run, FOLDER, f"step-{step:08}.json"))
