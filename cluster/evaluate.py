"""Score a checkpoint of a finished or running run on a split, and write down that the test split was opened."""

from __future__ import annotations

from cluster.run import Run
from trainers import evaluation, summary


def evaluate(run: Run, *, checkpoint: str = "best", split: str = "val") -> dict[str, float]:
    """`{"<split>/<score>": value}` of the recipe's evaluators."""
    saved = run.best if checkpoint == "best" else run.last
    if split == "test":
        summary.count_opening(run.url, split)
    found, _ = saved.evaluate(split)
    return evaluation.scores(found, split)
