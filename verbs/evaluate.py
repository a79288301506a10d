"""`evaluate`: score a checkpoint, or put it through a protocol."""

from __future__ import annotations

from typing import Annotated

import typer

from datasets.refusal import Refusal
from verbs.door import (
    Debug,
    Json,
    Overrides,
    RunPath,
    Workers,
    decimals,
    one_of,
    run_at,
    scored,
    tasks_of,
    tell,
    verb,
)


@verb("python launch.py evaluate runs/digits-71f2417a --on test")
def evaluate(
    run: RunPath,
    arguments: Overrides = None,
    checkpoint: Annotated[str, typer.Option(help="best or last")] = "best",
    on: Annotated[str, typer.Option(help="a split: train, val or test")] = "val",
    protocol: Annotated[
        str | None,
        typer.Option(help="`launch.py list protocols`; arguments of its own as name=value"),
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a checkpoint of a run on a split. Opening the test split is counted in the run's summary."""
    one_of("--checkpoint", checkpoint, ("best", "last"))
    if protocol is not None:
        _protocol(run, protocol, arguments or [], checkpoint, on, workers, as_json)
        return
    if workers is not None:
        raise Refusal(
            "workers are for a protocol, which encodes pictures",
            path="--workers",
            value=workers,
            remedy="name one with --protocol, or leave it out",
        )
    if arguments:
        raise Refusal(
            "arguments are for a protocol",
            path=arguments[0].partition("=")[0],
            value=arguments[0],
            remedy="name one with --protocol; the run's own recipe says how it is scored",
        )
    from cluster.evaluate import evaluate as score

    scores = score(run_at(run), checkpoint=checkpoint, split=on)
    tell(as_json, {**scored(run_at(run)), "scores": scores}, _lines(scores))


def _protocol(
    path: str,
    name: str,
    arguments: list[str],
    checkpoint: str,
    split: str,
    workers: str | None,
    as_json: bool,
) -> None:
    from cluster import protocol

    given, tasks = protocol.checked(name, arguments), tasks_of(workers)
    protocol.check_workers(name, tasks)
    found = run_at(path)
    from datasets import progress

    shown = progress.silent if as_json else progress.shown
    folder = protocol.run(
        found, name, given, checkpoint=checkpoint, split=split, workers=tasks, shown=shown
    )
    from search.protocols.page import write

    page, said = write(folder), protocol.read(folder)
    tree = {**scored(found), "scores": said["scores"], "said": said["sentences"], "report": page}
    text = "\n".join([_lines(said["scores"]), "", *said["sentences"], "", page])
    tell(as_json, tree, text)


def _lines(scores: dict[str, float]) -> str:
    shown = {name: "-" if value is None else decimals(value) for name, value in scores.items()}
    wide = max([28, *map(len, shown)])
    return "\n".join(f"{name:{wide}} {value}" for name, value in shown.items())
