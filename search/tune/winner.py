"""The winner of a search: chosen on the validation split, trained anew over several seeds, its test opened once a run."""

from __future__ import annotations

import itertools
import statistics
import sys
from typing import Any

from cluster.run import Run, run
from datasets import store
from search.tune.folder import Folder
from search.tune.records import Records
from trainers.recipe import Recipe
from trainers.searching import COSTS

BEST = "best"


def recipe_of(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with a trial's changes, runnable by itself."""
    assert recipe.search
    kept = next(goal for goal in recipe.search.goals(recipe) if goal.metric not in COSTS)
    return recipe.override({"search": None}).override(
        changes, {"keep.metric": kept.metric, "keep.mode": kept.mode}
    )


def retrain(recipe: Recipe, folder: Folder, records: Records, *, quiet: bool) -> bool:
    """Write `best.yaml`; train it with seeds that no trial has had, into `best/`. False where it was asked to stop."""
    assert recipe.search
    best = records.best()
    if best is None:
        folder.amend(best=None)
        return True
    chosen = recipe_of(recipe, best.changes)
    store.write_bytes(store.join(folder.url, "best.yaml"), chosen.yaml().encode())
    folder.amend(best={"trial": best.number, "changes": best.changes, "values": best.values})
    runs: list[Run] = []
    for seed in _new_seeds(recipe, records):
        if not quiet:
            sys.stderr.write(f"trial {best.number:04d} anew with seed {seed}\n")
        out = store.join(folder.url, BEST, f"seed-{seed}")
        done = run(chosen.override({"seed": seed}), out=out, quiet=True)
        if not done.finished:
            return False
        runs.append(done)
    folder.amend(retrained=[each.url for each in runs], scores=_summed(runs))
    return True


def _new_seeds(recipe: Recipe, records: Records) -> list[int]:
    """As many as the winner is trained with, that no trial had: a trial may have changed its seed, too."""
    assert recipe.search
    first = {int(changes.get("seed", recipe.seed)) for changes in records.points()} | {recipe.seed}
    had = {seed + index for seed in first for index in range(recipe.search.seeds)}
    new = (seed for seed in itertools.count(recipe.seed) if seed not in had)
    return [*itertools.islice(new, recipe.search.retrain)]


def _summed(runs: list[Run]) -> dict[str, Any]:
    """{score: {n, mean, sd}} over the runs."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for each in runs for name in each.scores):
        values = [each.scores[name] for each in runs if name in each.scores]
        sd = statistics.stdev(values) if len(values) > 1 else None
        found[name] = {"n": len(values), "mean": statistics.fmean(values), "sd": sd}
    return found
