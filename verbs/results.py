"""`results`: runs listed, filtered and compared; the trials of a search."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from datasets.refusal import Refusal
from verbs.door import Debug, Json, Out, draw, not_both, tell, verb


@verb("python launch.py results --since 7d --sort val/accuracy --where model=small_cnn")
def results(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="run folders to compare, or one search or study folder"),
    ] = None,
    out: Out = None,
    since: Annotated[str | None, typer.Option(help="7d, 12h or a date")] = None,
    sort: Annotated[str | None, typer.Option(help="a column, such as val/accuracy")] = None,
    where: Annotated[list[str] | None, typer.Option(help="dotted.path=value")] = None,
    save: Annotated[
        str | None,
        typer.Option(
            help="a search's trials as .csv, .parquet or .json, a study's table, or the curves of runs as .png"
        ),
    ] = None,
    best: Annotated[
        str | None, typer.Option(help="write a search's winner as a recipe", metavar="RECIPE.yaml")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List and filter runs; given two or more, compare their recipes, scores and curves; given a search, its trials; given a study, its table."""
    from search import listing, terminal

    width = terminal.line()
    tree: Any
    if runs and len(runs) == 1 and _is_search(runs[0]):
        options = {"--since": since, "--sort": sort, "--where": where, "--out": out}
        for option, value in options.items():
            not_both(option, value, "a search", runs[0])
        _trials(runs[0], save, best, as_json, width)
        return
    if runs and len(runs) == 1 and _is_study(runs[0]):
        _cells(runs[0], save, as_json)
        return
    if best or (save and not runs):
        raise Refusal(
            "is of a search" if best else "is of a search, a study, or runs that are compared",
            path="--best" if best else "--save",
            value=best or save,
            remedy="name one search folder: results FOLDER --best winner.yaml",
        )
    if save and not save.endswith(".png"):
        raise Refusal(
            "the curves of runs are a picture", path="--save", value=save, remedy="name a .png file"
        )
    if runs:
        tree, drawn = listing.compared(runs, width=width, save=save)
    else:
        tree, one = listing.listed(out=out, since=since, sort=sort, where=where or [], width=width)
        drawn = [one]
    if as_json:
        tell(True, tree, "")
    else:
        draw(*drawn)


def _is_study(folder: str) -> bool:
    from datasets import store
    from search.studies.folder import STUDY

    return store.exists(store.join(folder, STUDY))


def _is_search(folder: str) -> bool:
    from datasets import store
    from search.tune.folder import RECIPE

    return store.exists(store.join(folder, RECIPE))


def _cells(folder: str, save: str | None, as_json: bool) -> None:
    """A study's table; `save` writes a row a run."""
    from datasets import store
    from search.studies import table, writing
    from search.studies.folder import Folder

    found = table.read(Folder.open(folder))
    if as_json:
        tell(True, writing.tree(found), "")
    elif save:
        kind = save.rpartition(".")[2].lower()
        store.write_bytes(save, writing.written(found, kind).encode())
        tell(False, None, save)
    else:
        draw(*writing.drawn(found))


def _trials(folder: str, save: str | None, best: str | None, as_json: bool, width: int) -> None:
    from search.trials import found, listing

    search = found.read(folder)
    written = [listing.save(search, save)] if save else []
    written += [listing.write_winner(search, best)] if best else []
    if as_json:
        tree, _ = listing.listed(search, width=width)
        tell(True, tree, "")
    elif written:
        tell(False, None, "\n".join(written))
    else:
        _, drawn = listing.listed(search, width=width)
        draw(*drawn)
