"""Score a checkpoint of a finished or running run on a split, and write down that the test split was opened."""

from __future__ import annotations

import json

from cluster.run import Run
from datasets import store
from trainers import evaluation


def evaluate(run: Run, *, checkpoint: str = "best", split: str = "val") -> dict[str, float]:
    """`{"<split>/<score>": value}` of the recipe's evaluators."""
    saved = run.best if checkpoint == "best" else run.last
    found, _ = saved.evaluate(split)
    scores = evaluation.scores(found, split)
    if split == "test":
        summary = run.json("summary.json")
        opened = summary.get("opened", {})
        summary["opened"] = {**opened, "test": opened.get("test", 0) + 1}
        data = json.dumps(summary, indent=1).encode()
        store.write_bytes(store.join(run.url, "summary.json"), data)
    return scores
