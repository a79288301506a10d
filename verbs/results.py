"""`results`: runs listed, filtered and compared."""

from __future__ import annotations

import shutil
from typing import Annotated, Any

import typer

from verbs.door import Debug, Json, Out, draw, tell, verb


@verb("python launch.py results --since 7d --sort val/accuracy --where model=small_cnn")
def results(
    runs: Annotated[list[str] | None, typer.Argument(help="run folders to compare")] = None,
    out: Out = None,
    since: Annotated[str | None, typer.Option(help="7d, 12h or a date")] = None,
    sort: Annotated[str | None, typer.Option(help="a column, such as val/accuracy")] = None,
    where: Annotated[list[str] | None, typer.Option(help="dotted.path=value")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List and filter runs; given two or more, compare their recipes, scores and curves."""
    from search import listing

    width = shutil.get_terminal_size((100, 24)).columns
    tree: Any
    if runs:
        tree, drawn = listing.compared(runs, width=width)
    else:
        tree, one = listing.listed(out=out, since=since, sort=sort, where=where or [], width=width)
        drawn = [one]
    if as_json:
        tell(True, tree, "")
    else:
        draw(*drawn)
