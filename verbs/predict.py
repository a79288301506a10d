"""`predict`: classify pictures with a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from verbs.door import Debug, Json, RunPath, one_of, run_at, tell, verb


@verb(
    "python launch.py predict runs/digits-71f2417a runs/digits-71f2417a/figures/data_examples.png"
)
def predict(
    run: RunPath,
    images: Annotated[list[str], typer.Argument(help="pictures (PNG, JPEG)")],
    checkpoint: Annotated[str, typer.Option(help="best or last")] = "best",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Classify pictures with a run's checkpoint."""
    one_of("--checkpoint", checkpoint, ("best", "last"))
    opened = run_at(run)
    rows = (opened.best if checkpoint == "best" else opened.last).predict(images)
    found = rows.to_dict("records")
    lines = "\n".join(f"{r['image']}: {r['prediction']} ({r['probability']:.1%})" for r in found)
    tell(as_json, {"predictions": found}, lines)
