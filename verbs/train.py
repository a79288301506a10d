"""`train`: train a recipe here, or where its `scale` says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verbs.door import Debug, Json, Out, Overrides, decimals, recipe_or_run, scored, tell, verb

if TYPE_CHECKING:
    from cluster.run import Run


@verb("python launch.py train recipes/digits.yaml model.width=64 data.batch=128 seed=3")
def train(
    recipe: Annotated[
        str, typer.Argument(help="a recipe (YAML), or a run folder to go on with", metavar="RECIPE")
    ],
    overrides: Overrides = None,
    out: Out = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="rename the old run folder and start anew")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe, or go on where its run was interrupted; ends with the path of a report."""
    loaded, parent = recipe_or_run(recipe, overrides)
    from cluster.run import run

    if parent is not None and out is None:
        out = parent.url.rsplit("/", 1)[0]
    done: Run = run(loaded, out=out, fresh=fresh, quiet=quiet or as_json, parent=parent)
    summary = done.summary
    from search.report import write

    page = write(done.url)
    if summary.get("status") == "stopped":
        sys.stderr.write(
            f"stopped at step {summary['steps']}; the same command goes on from there\n"
        )
        if as_json:
            tell(True, scored(done), "")
        raise SystemExit(130)
    for note in summary.get("notes", ()):
        sys.stderr.write(f"note: {note}\n")
    tell(as_json, scored(done), f"{_best_line(summary)}{page}")


def _best_line(summary: dict[str, Any]) -> str:
    scores = {k: v for k, v in summary.get("scores", {}).items() if k.startswith("test/")}
    wanted = [key for n, key in enumerate(scores) if n == 0 or key.endswith(("/loss", "f1"))]
    shown = ", ".join(f"{name} {decimals(scores[name])}" for name in wanted)
    return f"{shown}\n" if shown else ""
