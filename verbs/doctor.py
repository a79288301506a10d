"""`doctor`: what would fail later, found out now."""

from __future__ import annotations

from typing import Annotated

import typer

from verbs.door import Debug, Json, Out, Overrides, recipe_or_run, tell, verb


@verb("python launch.py doctor recipes/digits.yaml")
def doctor(
    recipe: Annotated[
        str | None, typer.Argument(help="a recipe (YAML)", metavar="[RECIPE]")
    ] = None,
    overrides: Overrides = None,
    out: Out = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check this machine, its storage and a recipe before anything is paid for."""
    loaded = recipe_or_run(recipe, overrides)[0] if recipe else None
    from cluster.preflight import examine

    checks = examine(loaded, out)
    lines = "\n".join(f"{'ok ' if c.ok else 'BAD'}  {c.name:12} {c.found}" for c in checks)
    tell(as_json, {"checks": [c.as_dict() for c in checks]}, lines)
    if not all(check.ok for check in checks):
        raise SystemExit(2)
