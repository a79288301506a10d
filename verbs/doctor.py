"""`doctor`: what would fail later, found out now."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Annotated, Any

import typer

from verbs.door import Debug, Json, Out, Overrides, recipe_or_run, tell, verb


@verb("python launch.py doctor recipes/digits.yaml")
def doctor(
    recipe: Annotated[
        str | None, typer.Argument(help="a recipe (YAML)", metavar="[RECIPE]")
    ] = None,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(help="a cluster's dashboard: examine all its nodes, by a job there"),
    ] = None,
    out: Out = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check this machine or a cluster, its storage and a recipe before anything is paid for."""
    if address:
        words = [*filter(None, [recipe]), *(overrides or ()), *(("--out", out) if out else ())]
        _there(words, address, as_json)
        return
    loaded = recipe_or_run(recipe, overrides)[0] if recipe else None
    from cluster.doctor.check import lines
    from cluster.doctor.examine import examine

    with contextlib.redirect_stdout(sys.stderr):  # Ray prints there what befalls its nodes
        checks = examine(loaded, out)
    tell(as_json, {"checks": [check.as_dict() for check in checks]}, lines(checks))
    if not all(check.ok for check in checks):
        raise SystemExit(2)


def _there(words: list[str], address: str, as_json: bool) -> None:
    """The same on a cluster, as a job of it; its exit code is ours."""
    from cluster import entrypoint
    from cluster import submit as jobs
    from cluster.shipping import cargo
    from trainers.rooms import ROOT
    from verbs.submit import follow

    shipped = cargo(ROOT)
    planned = entrypoint.planned(["doctor", *words, *(["--json"] if as_json else [])], shipped)
    there = jobs.Jobs(address)
    sys.stderr.write(f"shipping {shipped} to {there.address}\n")
    job = there.submit(planned, shipped, {})
    said = io.StringIO()
    follow(there, job, said if as_json else sys.stdout)
    if as_json:
        tell(True, _answer(said.getvalue()), "")
    if code := there.exit_code(job):
        raise SystemExit(code)


def _answer(said: str) -> Any:
    """The JSON object among the lines of a job, whose stderr comes with its stdout."""
    start = said.find("{\n")
    if start < 0:
        return {"checks": [], "error": said.strip()[-2000:]}
    return json.JSONDecoder().raw_decode(said[start:])[0]
