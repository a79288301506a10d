"""`search`: try many settings of a recipe; or tell a search that runs elsewhere what to do."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from datasets.refusal import Refusal
from verbs.door import Debug, Json, Out, Overrides, not_both, tell, verb


@verb("python launch.py search recipes/digits_search.yaml search.trials=40")
def search(
    recipe: Annotated[
        str,
        typer.Argument(help="a recipe with search: (YAML), or a search folder", metavar="RECIPE"),
    ],
    overrides: Overrides = None,
    out: Out = None,
    pause: Annotated[bool, typer.Option("--pause", help="save all trials and wait")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on after a pause")] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="no more trials; those that run go to their end")
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="end it now, without a winner")] = False,
    from_wandb: Annotated[
        str | None,
        typer.Option("--from-wandb", help="print the search: of a W&B sweep file", metavar="SWEEP"),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name", help="where the sweep's KEY goes; KEY= leaves it out", metavar="KEY=PATH"
        ),
    ] = None,
    join: Annotated[
        bool,
        typer.Option(
            "--join", help="take trials of a search in a database, whose URL may precede RECIPE"
        ),
    ] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="watch it in the browser (optuna-dashboard)")
    ] = False,
    port: Annotated[int, typer.Option("--port", help="of --dashboard; 0: any", min=0)] = 8080,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Search a recipe's space, or go on where a search was interrupted; ends with the winner."""
    if from_wandb or names:
        wish = "--pause" if pause else "--resume" if resume else "--stop" if stop else "--cancel"
        not_both("--from-wandb", from_wandb, wish, pause or resume or stop or cancel)
        _translate(from_wandb, recipe, overrides, names or [], as_json)
        return
    said = [name for name, value in (("pause", pause), ("stop", stop), ("cancel", cancel)) if value]
    if len(said) + resume > 1:
        raise Refusal("one wish at a time", path=f"--{said[0]}", remedy="leave the others out")
    if said or resume:
        _wish(recipe, said[0] if said else "", out)
        return
    if dashboard:
        _watch(recipe, port)
        return
    overrides = overrides or []
    if join:
        recipe, overrides = _joined(recipe, overrides)
    _search(recipe, overrides, out, quiet, as_json, join)


def _joined(word: str, words: list[str]) -> tuple[str, list[str]]:
    """The recipe and its overrides, of which a database's URL before them is one."""
    from search.tune import storage

    if not storage.is_database(word):
        return word, words
    storage.url_of(word, "--join")
    if not words:
        raise Refusal("which recipe?", path="--join", remedy="search --join URL RECIPE")
    return words[0], [*words[1:], f"search.storage={word}"]


def _watch(path: str, port: int) -> None:
    from search.tune import watching
    from search.tune.folder import Folder

    def say(url: str) -> None:
        tell(False, None, url)
        sys.stdout.flush()  # it stays open, maybe into a pipe

    watching.serve(Folder.open(path), port, say)


def _search(
    path: str, overrides: list[str], out: str | None, quiet: bool, as_json: bool, join: bool
) -> None:
    from search.tune import drive
    from search.tune.folder import Folder
    from trainers.recipe import Recipe

    at = None
    if path.endswith((".yaml", ".yml")):
        recipe = Recipe.load(path, overrides)
    else:
        at = Folder.open(path)
        recipe = at.recipe.override(*overrides)
        out = out or at.url.rpartition("/")[0]
    folder = drive.search(recipe, out=out, quiet=quiet or as_json, join=join, at=at)
    state = folder.state
    page = None if join else _page(folder.url)
    if as_json:
        tell(True, {**state, "search": folder.url, "report": page}, "")
    if state["status"] == "stopped":
        sys.stderr.write("stopped; the same command goes on from there\n")
        raise SystemExit(130)
    if state["status"] == "finished" and not (join or state.get("best")):
        sys.stderr.write("no trial ran to its end, so there is no winner\n")
        raise SystemExit(1)
    if not as_json:
        scores = ", ".join(
            f"{name} {found['mean']:.4f}"
            + (f" ± {found['sd']:.4f}" if found["sd"] is not None else "")
            for name, found in state.get("scores", {}).items()
            if name.startswith("test/")
        )
        tell(False, None, "\n".join(filter(None, [scores, page or folder.url])))


def _page(folder: str) -> str | None:
    """The report, and TensorBoard's HParams; a search that they cannot be drawn of has ended well nevertheless."""
    from search.trials import hparams
    from search.trials.page import write

    try:
        hparams.write(folder)
        return write(folder)
    except Refusal as refusal:
        sys.stderr.write(f"no report: {refusal}\n")
        return None


def _wish(path: str, wish: str, out: str | None) -> None:
    """Into the folder, where whoever drives the search looks once a second."""
    from cluster.lock import held
    from search.tune.folder import Folder

    folder = Folder.open(path)
    status = folder.state.get("status")
    if status == "finished":
        raise Refusal(
            "the search is finished",
            path=folder.url,
            value=status,
            remedy=f"`python launch.py search {folder.url} search.trials=...` goes on with more trials",
        )
    if status not in ("running", "paused") or not held(folder.url):
        raise Refusal(
            f"the search is {status}, nobody drives it"
            if status not in ("running", "paused")
            else "nobody drives the search, it was interrupted",
            path=folder.url,
            value=status,
            remedy=f"`python launch.py search {folder.url}` goes on with it",
        )
    folder.forget()
    if wish:
        folder.say(wish)
    tell(False, None, f"{folder.name}: asked to {wish or 'go on'}")


def _translate(
    sweep: str | None, path: str, overrides: list[str] | None, names: list[str], as_json: bool
) -> None:
    """On stdout what is to be pasted into the recipe, on stderr what is not the same."""
    from datasets import store
    from search.tune.sweeps import translate
    from trainers.grammar import read_yaml
    from trainers.recipe import Recipe

    if not sweep:
        raise Refusal("says what a sweep's key is", path="--name", remedy="add --from-wandb SWEEP")
    if not store.exists(sweep):
        raise Refusal(
            "no such file", path=sweep, value=sweep, remedy="name a W&B sweep file (YAML)"
        )
    tree = read_yaml(store.read_bytes(sweep).decode("utf-8", errors="replace"), sweep)
    found = translate(tree, Recipe.load(path, overrides or ()), names)
    for note in found.notes:
        sys.stderr.write(f"{note}\n")
    tell(as_json, {"search": found.block, "notes": found.notes}, found.yaml().rstrip())
