"""A search from its recipe to its winner: begun, gone on with, paused, stopped; then the winner trained anew."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from cluster import opening
from cluster.doctor.admit import admit
from cluster.lock import Lock
from cluster.session import stopping_on_signals
from datasets import order, progress, store
from datasets.packed import leaks
from datasets.refusal import Refusal
from search.tune import shared, storage, tuner, warm, winner
from search.tune.folder import RECIPE, Folder, identity
from search.tune.population import Turns
from search.tune.records import Records
from search.tune.telling import Teller
from search.tune.tuner import Desk, Ended
from trainers import feed, rooms
from trainers.describe import preview
from trainers.recipe import Recipe
from trainers.searching import Search
from trainers.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import BaseStorage
    from optuna.study import Study

_CHANGED = (
    "Population-based training changed the winner's settings on its way (each trial's parent is in its run's summary); "
    "what was trained anew had its last settings from the first step."
)
PAUSE_SECONDS = 1.0  # between looks for the end of a pause, or of others' trials


def search(
    recipe: Recipe,
    *,
    out: str | None,
    quiet: bool,
    join: bool = False,
    at: Folder | None = None,
) -> Folder:
    """Run a recipe's search to its end, or to a signal; what was begun before is gone on with.

    `at` is the folder that is meant, whatever it is called now, unless the recipe has become another search's.

    With `join` it takes trials of a search that another machine has begun in the same database, and leaves the winner to
    that one.
    """
    if recipe.search is None:
        raise Refusal(
            "the recipe has no search",
            path="search",
            remedy="add search: {metric: ..., space: {...}} (docs/search.md)",
        )
    if recipe.data.cleaned and recipe.data.cleaned.by:
        raise Refusal(
            "each trial would find wrong labels anew",
            path="data.cleaned.by",
            value=recipe.data.cleaned.by,
            remedy="find them once, with `data clean RECIPE --out labels.csv`, and set data.cleaned=labels.csv",
        )
    preview(recipe)
    recipe = warm.resolved(opening.resolved(recipe))
    seeks = recipe.search
    assert seeks
    dataset = feed.dataset(recipe.data, shown=progress.silent if quiet else progress.shown)
    leaks.refuse(dataset.manifest, recipe.data.allow_leaks)
    sought = identity(recipe, dataset.manifest.digest)
    folder = Folder.of(recipe, dataset.manifest.digest, out)
    study = folder.name
    if at and Folder.of(opening.resolved(at.recipe), dataset.manifest.digest, out).name == study:
        folder = at
    space = Space.parse(seeks.space)
    points = _points(seeks, space)
    url = storage.url_of(seeks.storage)
    database = storage.database(url) if url else None
    if join:
        _database(database)
    folder.check_part(join)
    others = [] if join else warm.studies(seeks)
    if join:
        shared.check(_database(database), study, sought)
    admit(folder.url.rpartition("/")[0])
    with Lock(folder.url):
        folder.forget()
        store.write_bytes(store.join(folder.url, RECIPE), recipe.yaml().encode())
        with _going_on(folder, study, join), storage.answering(url):
            journal = storage.Journal(folder.url) if database is None else None
            kept = journal.storage() if journal else _database(database)
            # A journal's trials are all ours, even after its folder was moved.
            owner = study if journal else folder.owner()
            records = _records(recipe, space, study, kept, owner, alone=journal is not None)
            teller = Teller(recipe, records, quiet)
            if not join:
                if database:
                    shared.lead(records, teller.line)
                _begin(records, sought, points, others, seeks.budget, teller)
            driver = _Driver(recipe, folder, records, journal, teller, joined=join)
            with shared.Presence(records, teller.line) if database else nullcontext():
                driver.run()
    return folder


def _database(kept: BaseStorage | None) -> BaseStorage:
    if kept is None:
        raise Refusal(
            "no database is named, and a journal belongs to one machine",
            path="--join",
            remedy=f"search --join sqlite:////path/search.db RECIPE, or set {storage.VARIABLE}",
        )
    return kept


def _begin(
    records: Records,
    sought: shared.Identity,
    points: list[Mapping[str, Any]],
    others: list[Study],
    budget: int | None,
    teller: Teller,
) -> None:
    """What the machine that begins writes into the study; others may join when its identity is there, which is last."""
    attributes = records.study.user_attrs
    if shared.IDENTITY in attributes:
        shared.same(records.study.study_name, attributes[shared.IDENTITY], sought)
    records.allow(budget)
    records.enqueue(points)
    for line in warm.add(records, others):
        teller.line(line)
    records.study.set_user_attr(shared.IDENTITY, sought)


@contextmanager
def _going_on(folder: Folder, study: str, joined: bool) -> Iterator[None]:
    folder.amend(status="running", error=None, joined=joined or None, study=study)
    try:
        yield
    except BaseException as error:
        folder.amend(status="failed", error=f"{type(error).__name__}: {error}"[:2000])
        raise
    finally:
        folder.forget()


class _Driver:
    """A search at work in its folder: what its stages share."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Folder,
        records: Records,
        journal: storage.Journal | None,
        teller: Teller,
        *,
        joined: bool,
    ) -> None:
        assert recipe.search
        self.recipe, self.search, self.folder = recipe, recipe.search, folder
        self.records, self.journal, self.teller, self.joined = records, journal, teller, joined
        self.signals: list[int] = []
        self._begun, self._spent = time.monotonic(), float(folder.state.get("seconds", 0.0))

    def run(self) -> None:
        """Everybody's trials, then the winner, which is for who began the search."""
        with stopping_on_signals(self.signals):
            if not self._over():
                self.folder.amend(status="stopped" if self.signals else "cancelled")
            elif self.joined:
                self.teller.line("no more trials: who began the search chooses the winner")
                self.folder.amend(status="finished")
            else:
                if isinstance(self.records.study.pruner, Turns):
                    self.folder.amend(notes=[_CHANGED])
                quiet = self.teller.quiet
                whole = winner.retrain(self.recipe, self.folder, self.records, quiet=quiet)
                self.folder.amend(status="finished" if whole else "stopped")

    def _over(self) -> bool:
        """Work until there are enough trials, and those of others have ended too; False where a person ended it."""
        while True:
            wish = self._trials()
            if not self.joined and wish in (None, "stop"):
                wish = self._wait()
            if self.signals or wish == "cancel":
                return False
            if wish == "pause":
                self._pause()
            elif self.joined or self._enough():  # else what others lost is ours to try
                return True

    def _trials(self) -> str | None:
        """Run trials until there are enough of them, or somebody wishes something else."""
        desk = Desk(
            self.folder, self.recipe, self.records, enough=self._enough, say=self._ended_one
        )
        tuner.run(desk, self.recipe, wish=self._wish)
        self._keep()
        return desk.wish

    def _wait(self) -> str | None:
        """Until others' trials have ended or are lost; of those there is a point to try."""
        if self._late():
            self.records.allow(0)  # for others it may not be late yet
        told = False
        while (others := self.records.others()) and self._enough():
            if not told:
                self.teller.line(
                    f"waiting for other machines, which run {len(others)} of the trials"
                )
                told = True
            wish = self._wish()
            if wish in ("pause", "cancel"):
                return wish
            time.sleep(PAUSE_SECONDS)
        return None

    def _pause(self) -> None:
        self.teller.line("paused: `search FOLDER --resume` goes on, so does this command")
        self.folder.amend(status="paused")
        while self.folder.wish() == "pause" and not self.signals:
            time.sleep(PAUSE_SECONDS)
        self.folder.amend(status="running")

    def _wish(self) -> str | None:
        wish = "pause" if self.signals else self.folder.wish()
        if wish in ("stop", "cancel") and not self.joined:
            self.records.allow(0)  # nor do others begin any
        return wish

    def _enough(self) -> bool:
        return self._late() or self.records.full()

    def _late(self) -> bool:
        return self.search.seconds is not None and self._seconds() >= self.search.seconds

    def _ended_one(self, trial: Ended) -> None:
        self.teller(trial)
        self._keep()

    def _keep(self) -> None:
        self.folder.amend(seconds=round(self._seconds(), 1))
        if self.journal:
            self.journal.keep()

    def _seconds(self) -> float:
        return self._spent + time.monotonic() - self._begun


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
    study: str,
    kept: BaseStorage,
    owner: str,
    *,
    alone: bool,
) -> Records:
    from optuna.exceptions import ExperimentalWarning

    assert recipe.search
    search = recipe.search
    part = search.scheduler
    epochs = max(phase.epochs or 1 for phase in recipe.phases)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of Optuna, which we pin
    return Records.open(
        study,
        kept,
        search.goals(recipe),
        sampler=lambda begun: rooms.door("samplers", search.sampler.name).build(
            {"seed": order.key(recipe.seed, begun) % 2**32, "lasting_seed": recipe.seed},
            search.sampler.arguments,
        ),
        pruner=rooms.door("schedulers", part.name).build({"most": epochs}, part.arguments),
        space=space,
        tree=recipe.plain(),
        owner=owner,
        alone=alone,
    )
