"""`submit`: run a verb as a job of a Ray cluster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from verbs.door import Debug, Json, not_both, tell, verb

if TYPE_CHECKING:
    from cluster.submit import Jobs


@verb("python launch.py submit -- train recipes/digits.yaml --out s3://bucket/runs")
def submit(
    words: Annotated[
        list[str] | None, typer.Argument(help="what the job runs, behind --", metavar="-- VERB ...")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="the cluster's dashboard [$RAY_API_SERVER_ADDRESS, else 127.0.0.1:8265]"),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, or NAME as it is here, for the job; no secrets; repeatable"),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(help="the head's interpreter [the path of this one, else python on its PATH]"),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="do not follow the job")] = False,
    attach: Annotated[str | None, typer.Option(metavar="JOB", help="follow a job again")] = None,
    stop: Annotated[str | None, typer.Option(metavar="JOB", help="end a job")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a verb as a job of a Ray cluster: ships the checkout, follows the logs, ends with the job's exit code."""
    from cluster import entrypoint
    from cluster import submit as jobs
    from cluster.shipping import cargo
    from trainers.rooms import ROOT

    not_both("--attach", attach, "--stop", stop)
    not_both("--attach" if attach else "--stop", attach or stop, "a verb", words)
    if stop:
        status = jobs.Jobs(address).stop(stop)
        tell(as_json, {"job": stop, "status": status}, f"{stop} {status.lower()}")
        return
    job = attach
    if job is None:
        _check_study(words or [])
        shipped = cargo(ROOT)
        planned, variables = (
            entrypoint.planned(words or (), shipped),
            entrypoint.variables(env or ()),
        )
    there = jobs.Jobs(address)
    if job is not None:
        there.known(job)
    else:
        sys.stderr.write(f"shipping {shipped} to {there.address}\n")
        job = there.submit(planned, shipped, variables, python=python)
    sys.stderr.write(f"job {job}; {_again(job)}\n")
    if detach:
        tell(as_json, {"job": job, "status": there.status(job)}, job)
        return
    follow(there, job, sys.stderr if as_json else sys.stdout)
    code = there.exit_code(job)
    if as_json:
        tell(True, {"job": job, "status": there.status(job), "exit_code": code}, "")
    if code:
        sys.stderr.write(f"job {job} {there.status(job).lower()}: {there.why(job)}\n")
        raise SystemExit(code)


def _check_study(words: list[str]) -> None:
    """A mistake in a study costs a second here, and minutes there."""
    verb, *rest = [word for word in words if not word.startswith("-")] or [""]
    if verb == "study" and rest and rest[0].endswith((".yaml", ".yml")):
        from search.studies import arms
        from search.studies.study import Study

        arms.arms(Study.load(rest[0], [word for word in rest[1:] if "=" in word]))


def follow(there: Jobs, job: str, sink: TextIO) -> None:
    """Write the job's output as it comes; Ctrl-C leaves the job running."""
    try:
        for text in there.follow(job):
            sink.write(text)
            sink.flush()
    except KeyboardInterrupt:
        sys.stderr.write(f"\nthe job goes on; {_again(job)}\n")
        raise SystemExit(130) from None


def _again(job: str) -> str:
    return f"`submit --attach {job}` follows it, `submit --stop {job}` ends it"
