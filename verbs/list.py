"""`list`: recipes and the parts that they can name."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from verbs.door import Debug, Json, tell, verb


@verb("python launch.py list models")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="recipes, models, tasks, evals, optimizers, schedules, sources, frames, transforms, orders, noises, mixers, samplers or schedulers"
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="the recipes' JSON Schema, for editors")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List recipes and the parts that they can name."""
    from trainers import catalogue

    if schema:
        print(json.dumps(catalogue.schema(), indent=1))
        return
    rows = catalogue.rows(kind)
    lines = "\n".join(
        f"{row['kind']:11} {row['name']:20} {row['path']:34} {row['doc']}" for row in rows
    )
    tell(as_json, rows, lines)
