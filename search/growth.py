"""Pictures that were drawn at every evaluation, side by side: how samples came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search import sheets
from search.evidence import Evidence
from trainers import growing

if TYPE_CHECKING:
    from search.report import Picture

MOST = 10  # pictures of one figure


@dataclass(frozen=True)
class Strip:
    """One figure over time; the first and the last picture are always among them."""

    title: str
    pictures: list[Picture]


def strips(found: Evidence) -> list[Strip]:
    """What there is of each figure; one picture alone tells nothing of time."""
    from search.report import embedded

    epochs = _epochs(found)
    listed = []
    for name in growing.names(found.run.url):
        pictures = []
        for step in spread(growing.steps(found.run.url, name)):
            data = found.bytes(*growing.place(name, step).split("/"))
            said = f"epoch {epochs[step]}" if step in epochs else f"step {step}"
            if data and data.startswith(b"\x89PNG"):
                pictures.append(embedded(data, said))
        if len(pictures) > 1:
            split, _, rest = name.partition("_")
            listed.append(Strip(f"{sheets.heading(rest)} over time, {split} split", pictures))
    return listed


def spread(steps: list[int]) -> list[int]:
    """At most MOST of them, as evenly as may be, the ends among them."""
    if len(steps) <= MOST:
        return steps
    last = len(steps) - 1
    return [steps[round(place * last / (MOST - 1))] for place in range(MOST)]


def _epochs(found: Evidence) -> dict[int, int]:
    """The epoch, counted from 1, that had ended at a step; of several phases the steps alone tell."""
    metrics = found.metrics
    if not {"epoch", "phase", "split"} <= set(metrics.columns):
        return {}
    rows = metrics[metrics["split"] == "val"].dropna(subset=["epoch", "phase"])
    if rows["phase"].nunique() > 1:
        return {}
    return {int(step): int(epoch) + 1 for step, epoch in rows[["step", "epoch"]].to_numpy()}
