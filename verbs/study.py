"""`study`: what is compared, in one file; its runs, its table, its report."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from datasets.refusal import Refusal
from verbs.door import Debug, Json, Out, draw, one_of, tell, verb

if TYPE_CHECKING:
    from search.studies.rows import Table

ACTIONS = ("status", "table", "diff")


@verb("python launch.py study studies/digits_lr.yaml seeds=5")
def study(
    path: Annotated[str, typer.Argument(help="a study (YAML), or its folder", metavar="STUDY")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="status, table, or diff ARM ARM; key=value of the study, set.PATH=VALUE of all its runs",
            metavar="[status|table|diff A B] [PATH=VALUE]...",
        ),
    ] = None,
    out: Out = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="run this arm alone; may be said again")
    ] = None,
    more_seeds: Annotated[
        int, typer.Option("--more-seeds", help="so many seeds more, from now on", min=0)
    ] = 0,
    rerun_stale: Annotated[
        bool,
        typer.Option("--rerun-stale", help="make runs of other code, or of other data, anew"),
    ] = False,
    form: Annotated[
        str, typer.Option("--as", help="of table: terminal, md, latex, csv or json")
    ] = "terminal",
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run what is missing of a study and draw its table; or look at one."""
    from search.studies.writing import KINDS

    words = words or []
    named = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    action = named[0] if named else ""
    if action and action not in ACTIONS:
        one_of("study", action, ACTIONS)
    if len(named) != (3 if action == "diff" else 1 if action else 0):
        raise Refusal(
            "takes two arms" if action == "diff" else "takes no more words",
            path=action,
            value=named[1:],
            remedy="study STUDY diff ARM ARM, in quotes where they have spaces",
        )
    one_of("--as", form, KINDS)
    for option, given in (
        ("--only", only),
        ("--more-seeds", more_seeds),
        ("--rerun-stale", rerun_stale),
    ):
        if action and given:
            raise Refusal(
                f"`{action}` looks at what has run, and runs nothing",
                path=option,
                value=given,
                remedy=f"leave out {option}, or {action}",
            )
    if form != "terminal" and action != "table":
        raise Refusal(
            "is a form of the table",
            path="--as",
            value=form,
            remedy=f"study STUDY table --as {form}; of `status`, --json is one too",
        )
    if action:
        _look(_table(path, overrides, out), action, named[1:], "json" if as_json else form)
        return
    _run(path, overrides, out, only or [], more_seeds, rerun_stale, quiet, as_json)


def _table(path: str, overrides: list[str], out: str | None) -> Table:
    """As it stands: of a file what it asks for, whether run or not."""
    from datasets import store
    from search.studies import looking, table
    from search.studies.folder import STUDY, Folder
    from search.studies.study import Study

    if not path.endswith((".yaml", ".yml")):
        folder = Folder.open(path)
        if not overrides:
            return table.read(looking.seen(folder))
        loaded = Study.load(store.join(folder.url, STUDY), overrides)
        said = _says_seeds(overrides)
        return table.read(looking.asked(folder, loaded, by_folder=True, seeds_said=said))
    loaded = Study.load(path, overrides)
    folder = Folder.of(loaded, out)
    if not store.exists(store.join(folder.url, STUDY)):
        return table.unrun(loaded, folder)
    return table.read(looking.asked(folder, loaded, seeds_said=_says_seeds(overrides)))


def _says_seeds(overrides: list[str]) -> bool:
    return any(word.partition("=")[0] == "seeds" for word in overrides)


def _look(found: Table, action: str, arms: list[str], form: str) -> None:
    from search.studies import beside, writing

    if action == "diff":
        draw(*beside.drawn(found, *arms))
    elif action == "status":
        if form == "json":
            tell(True, writing.states(found), "")
        else:
            draw(*writing.drawn_states(found))
    elif form == "terminal":
        draw(*writing.drawn(found))
    else:
        sys.stdout.write(writing.written(found, form))


def _run(
    path: str,
    overrides: list[str],
    out: str | None,
    only: list[str],
    more_seeds: int,
    rerun_stale: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from search.studies import ended
    from search.studies.folder import STUDY, Folder
    from search.studies.study import Study

    by_folder = not path.endswith((".yaml", ".yml"))
    if by_folder:
        at = Folder.open(path)
        path, out = f"{at.url}/{STUDY}", out or at.url.rpartition("/")[0]
    loaded = Study.load(path, overrides)
    folder = ended.whole(loaded, out, seeds_said=_says_seeds(overrides))
    if folder is None or only or more_seeds or rerun_stale:
        from search.studies import drive

        folder = drive.run(
            loaded,
            out=out,
            quiet=quiet or as_json,
            only=only,
            more_seeds=more_seeds,
            rerun_stale=rerun_stale,
            by_folder=by_folder,
            seeds_said=_says_seeds(overrides),
        )
    from search.studies import page, table, writing

    found = table.read(folder)
    report = page.refreshed(found)
    if as_json:
        sys.stdout.write(writing.written(found, "json"))
    else:
        draw(*writing.drawn(found))
        tell(False, None, report)
    status = found.state.get("status")
    if status == "stopped":
        sys.stderr.write("stopped; the same command goes on from there\n")
        raise SystemExit(130)
    if spent := found.state.get("spent"):
        sys.stderr.write(f"{spent}\n")
    if any(result.state == "failed" for row in found.rows for result in row.results):
        sys.stderr.write("some runs failed; the same command tries them again\n")
        raise SystemExit(1)
