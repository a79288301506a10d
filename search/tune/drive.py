"""A search from its recipe to its winner: begun, gone on with, paused, stopped; then the winner trained anew."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from cluster import opening
from cluster.doctor.admit import admit
from cluster.lock import Lock
from cluster.session import stopping_on_signals
from datasets import order, progress, store
from datasets.packed import leaks
from datasets.refusal import Refusal
from search.tune import storage, tuner, winner
from search.tune.folder import RECIPE, Folder
from search.tune.records import Records
from search.tune.tuner import Desk, Ended
from trainers import feed, rooms
from trainers.describe import preview
from trainers.recipe import Recipe
from trainers.searching import Search
from trainers.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import BaseStorage

PAUSE_SECONDS = 1.0  # between looks for the end of a pause


def search(recipe: Recipe, *, out: str | None, quiet: bool) -> Folder:
    """Run a recipe's search to its end, or to a signal; what was begun before is gone on with."""
    if recipe.search is None:
        raise Refusal(
            "the recipe has no search",
            path="search",
            remedy="add search: {metric: ..., space: {...}} (docs/search.md)",
        )
    preview(recipe)
    recipe = opening.resolved(recipe)
    seeks = recipe.search
    assert seeks
    dataset = feed.dataset(recipe.data, shown=progress.silent if quiet else progress.shown)
    leaks.refuse(dataset.manifest, recipe.data.allow_leaks)
    folder = Folder.of(recipe, dataset.manifest.digest, out)
    space = Space.parse(seeks.space)
    points = _points(seeks, space)
    url = storage.url_of(seeks.storage)
    admit(folder.url.rpartition("/")[0])
    with Lock(folder.url):
        folder.forget()
        store.write_bytes(store.join(folder.url, RECIPE), recipe.yaml().encode())
        with _going_on(folder):
            journal = None if url else storage.Journal(folder.url)
            kept = journal.storage() if journal else storage.database(str(url))
            records = _records(recipe, space, folder, kept)
            records.enqueue(points)
            _drive(recipe, folder, records, journal, quiet)
    return folder


@contextmanager
def _going_on(folder: Folder) -> Iterator[None]:
    folder.amend(status="running", error=None)
    try:
        yield
    except BaseException as error:
        folder.amend(status="failed", error=f"{type(error).__name__}: {error}"[:2000])
        raise
    finally:
        folder.forget()


def _drive(
    recipe: Recipe, folder: Folder, records: Records, journal: storage.Journal | None, quiet: bool
) -> None:
    assert recipe.search
    signals: list[int] = []
    begun, spent = time.monotonic(), float(folder.state.get("seconds", 0.0))

    def seconds() -> float:
        return spent + time.monotonic() - begun

    def wish() -> str | None:
        return "pause" if signals else folder.wish()

    tell = _Teller(recipe, records, quiet)

    def ended(trial: Ended) -> None:
        tell(trial)
        folder.amend(seconds=round(seconds(), 1))
        if journal:
            journal.keep()

    with stopping_on_signals(signals):
        while True:
            desk = Desk(
                folder,
                recipe,
                records,
                enough=partial(_enough, recipe.search, records, seconds),
                say=ended,
            )
            tuner.run(desk, recipe, wish=wish)
            if desk.wish != "pause" or signals:
                break
            tell.line("paused: `search FOLDER --resume` goes on, so does this command")
            folder.amend(status="paused")
            while folder.wish() == "pause" and not signals:
                time.sleep(PAUSE_SECONDS)
            if signals:
                break
            folder.amend(status="running")
        if journal:
            journal.keep()
        folder.amend(seconds=round(seconds(), 1))
        if signals or desk.wish == "cancel":
            folder.amend(status="stopped" if signals else "cancelled")
            return
        whole = winner.retrain(recipe, folder, records, quiet=quiet)
        folder.amend(status="finished" if whole else "stopped")


def _enough(search: Search, records: Records, seconds: Any) -> bool:
    late = search.seconds is not None and seconds() >= search.seconds
    return late or (search.budget is not None and records.begun() >= search.budget)


def _points(search: Search, space: Space) -> list[Mapping[str, Any]]:
    """Those that are tried first; of a grid all of them."""
    if search.sampler.name != "grid":
        return list(search.first)
    for dimension in space.dimensions:
        if not dimension.finite:
            raise Refusal(
                "a grid needs values that can be counted",
                path=f"search.space.{dimension.path}",
                value=dimension.kind,
                remedy="use choice(...) or quniform(...), or another sampler",
            )
    found = list(space.combinations())
    if search.trials and len(found) > search.trials:
        raise Refusal(
            f"the grid has {len(found)} points, and {search.trials} trials are allowed",
            path="search.trials",
            value=search.trials,
            remedy=f"set search.trials={len(found)}, or use another sampler",
        )
    return [*search.first, *found]


def _records(
    recipe: Recipe,
    space: Space,
    folder: Folder,
    kept: BaseStorage,
) -> Records:
    from optuna.exceptions import ExperimentalWarning

    assert recipe.search
    search = recipe.search
    part = search.scheduler
    epochs = max(phase.epochs or 1 for phase in recipe.phases)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of Optuna, which we pin
    return Records.open(
        folder.name,
        kept,
        search.goals(recipe),
        sampler=lambda begun: rooms.door("samplers", search.sampler.name).build(
            {"seed": order.key(recipe.seed, begun) % 2**32, "lasting_seed": recipe.seed},
            search.sampler.arguments,
        ),
        pruner=rooms.door("schedulers", part.name).build({"most": epochs}, part.arguments),
        space=space,
        tree=recipe.plain(),
        owner=folder.url,
    )


class _Teller:
    """A line for each trial that ends, on stderr."""

    def __init__(self, recipe: Recipe, records: Records, quiet: bool) -> None:
        assert recipe.search
        self.goals = recipe.search.goals(recipe)
        self.budget, self.records, self.quiet = recipe.search.budget, records, quiet
        self.best: tuple[int, float] | None = None

    def __call__(self, trial: Ended) -> None:
        said = ", ".join(f"{path.split('.')[-1]} {_short(v)}" for path, v in trial.changes.items())
        values = ", ".join(
            f"{goal.metric} {value:.4g}"
            for goal, value in zip(self.goals, trial.values, strict=False)
        )
        how = {"pruned": "ended early at ", "failed": "failed: "}.get(trial.how, "")
        same = f" ({trial.why})" if trial.how == "known" else ""
        took = f", {trial.seconds:.0f} s" if trial.seconds else ""
        of = f" of {self.budget}" if self.budget else ""
        self.line(
            f"trial {trial.number:04d}{of}: {how}{values or trial.why}{took}{same}{self._best(trial)} | {said}"
        )

    def _best(self, trial: Ended) -> str:
        if len(self.goals) > 1 or trial.how not in ("finished", "known"):
            return ""
        sign = 1 if self.goals[0].mode == "max" else -1
        value = trial.values[0]
        if value == value and (self.best is None or sign * value > sign * self.best[1]):
            self.best = (trial.number, value)
        return f" (best {self.best[1]:.4g}, trial {self.best[0]:04d})" if self.best else ""

    def line(self, text: str) -> None:
        if not self.quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
