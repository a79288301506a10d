"""`evaluate`: score a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from verbs.door import Debug, Json, RunPath, one_of, run_at, scored, tell, verb


@verb("python launch.py evaluate runs/digits-71f2417a --on test")
def evaluate(
    run: RunPath,
    checkpoint: Annotated[str, typer.Option(help="best or last")] = "best",
    on: Annotated[str, typer.Option(help="a split: train, val or test")] = "val",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a checkpoint of a run on a split. Opening the test split is counted in the run's summary."""
    from cluster.evaluate import evaluate as score

    one_of("--checkpoint", checkpoint, ("best", "last"))
    scores = score(run_at(run), checkpoint=checkpoint, split=on)
    lines = "\n".join(f"{name:28} {value:.4f}" for name, value in scores.items())
    tell(as_json, {**scored(run_at(run)), "scores": scores}, lines)
