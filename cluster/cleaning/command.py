"""`data clean`: a recipe's labels gone through as a person asks for it, the list put where they say."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cluster import opening
from cluster.cleaning import prepare
from cluster.cleaning.evidence import Bench
from cluster.pool import Pool, alone
from cluster.run import runs_folder
from cluster.session import stopping_on_signals
from datasets import progress, store
from datasets.cleaning import lists
from datasets.refusal import Refusal
from trainers import feed
from trainers.recipe import Recipe


def clean(
    path: str,
    overrides: Sequence[str],
    said: Mapping[str, Any],
    *,
    out: str | None,
    runs: str | None,
    parallel: int | None,
    quiet: bool,
) -> dict[str, Any]:
    """Write the list and its page; the figures, with where these lie. `said` are keys of `data.cleaned`, None where nothing is said."""
    if out:
        lists.kind_of(out)
    recipe = _asking(Recipe.load(path, list(overrides)), said)
    plain = recipe.override({"data.cleaned": None, "search": None})
    dataset = feed.dataset(plain.data, shown=progress.silent if quiet else progress.shown)
    folder = prepare.folder_of(plain, dataset, runs_folder(runs))
    signals: list[int] = []

    def say(text: str) -> None:
        if not quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    with stopping_on_signals(signals), prepare.alone_in(folder):
        pool = Pool(recipe.scale, parallel or alone(recipe.scale))
        bench = Bench(store.join(folder, "runs"), pool, lambda: bool(signals), say)
        found = prepare.clean(recipe, dataset, bench)
    url = out or store.join(folder, "labels.csv")
    lists.write(url, found.labels, dataset.manifest.classes)
    return {**found.told, "list": url, "page": prepare.write_page(url, found)}


def _asking(recipe: Recipe, said: Mapping[str, Any]) -> Recipe:
    """The recipe with what the options say of `data.cleaned`, over what it says itself."""
    own = recipe.data.cleaned
    if own and not own.by:
        raise Refusal(
            "the recipe takes a list already",
            path="data.cleaned",
            value=own.path,
            remedy="to make a new one, say data.cleaned=null",
        )
    before = own.model_dump(exclude_none=True, exclude={"path"}) if own else {"by": "kfold"}
    given = {name: value for name, value in said.items() if value is not None}
    if given.get("by", before["by"]) != before["by"]:
        kept = ("action", "share", "set")  # what any way of finding them takes
        before = {name: value for name, value in before.items() if name in kept}
    return opening.resolved(recipe.override({"data.cleaned": {**before, **given}}))
