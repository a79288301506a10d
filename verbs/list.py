"""`list`: recipes, studies and the parts that they can name."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from verbs.door import Debug, Json, tell, verb


@verb("python launch.py list models")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="recipes, studies, models, tasks, evals, optimizers, schedules, sources, frames, transforms, orders, noises, mixers, corruptions, protocols, samplers or schedulers"
        ),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="the JSON Schema of recipes, or of studies, for editors"),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List recipes, studies and the parts that they can name; in brackets their rows of docs/experiments.md."""
    from search.studies import catalogue as studies
    from trainers import catalogue

    if schema:
        tree = studies.schema() if kind == "studies" else catalogue.schema()
        print(json.dumps(tree, indent=1))
        return
    rows = [] if kind == "studies" else catalogue.rows(kind, "studies")
    if kind in (None, "studies"):
        rows = [*rows, *studies.rows()]
    lines = "\n".join(map(_line, rows))
    tell(as_json, rows, lines)


def _line(row: dict[str, Any]) -> str:
    told = ", ".join(map(str, row.get("rows", ())))
    doc = f"[{told}] {row['doc']}" if told else row["doc"]
    return f"{row['kind']:11} {row['name']:20} {row['path']:34} {doc}"
