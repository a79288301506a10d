"""A run that another one drives, from one evaluation to the next: a trial of a search, or a cell of a study.

A trial never opens the test split.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from cluster import opening, workers
from cluster.lock import Lock, held
from cluster.session import STOP, TrialProcess, choose_device
from cluster.train import Place, choose_place
from cluster.watchdog import Watchdog
from datasets import store
from datasets.packed import leaks
from datasets.refusal import Refusal
from trainers import checkpoint, feed, summary
from trainers.describe import preview
from trainers.engine import Reports, fit
from trainers.progress import Bar
from trainers.recipe import Recipe
from trainers.stage import length

HANDOVER_SECONDS, POLL_SECONDS = 60.0, 0.5

Row = Mapping[str, Any]


class Judged(NamedTuple):
    """An evaluation: its number in the run, counted from 1, over interruptions; its scores."""

    number: int
    step: int
    scores: Mapping[str, float]


class Trial:
    """A run at `folder`, begun or gone on with; `advance` until it gives None, then `close`.

    One that has a `parent` begins at that run's newest checkpoint. With `opens_test` it is scored on the test split at
    its end. `stopping` is asked beside the run folder whether to save and end.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: str,
        parent: str | None = None,
        *,
        opens_test: bool = False,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Raises Refusal where the recipe cannot be run."""
        self.recipe, self.folder, self.parent = opening.resolved(recipe), folder, parent
        self.opens_test, self.stopping = opens_test, stopping
        self.steps = 0  # of the whole run
        self.earlier: tuple[float, ...] = ()  # kept scores of evaluations before this start
        self.lock = _locked(folder)
        try:
            self._source = self._opened()
        except BaseException:
            self.close()
            raise

    @property
    def status(self) -> str:
        """running, finished, stopped or failed."""
        return str(summary.read(self.folder).get("status", "running"))

    def advance(self) -> Judged | None:
        """Work until the next evaluation; None when the run is over, or was asked to stop."""
        return next(self._source, None)

    def rest(self) -> None:
        """Save where it stands, after an evaluation, and end this start of it. Of a run of one worker."""
        with suppress(StopIteration):
            self._source.send(True)

    def close(self, status: str | None = None, why: str = "") -> None:
        """Let go of it where it stands; `status` is written down where it had not ended."""
        if status and self.status == "running":
            summary.amend(self.folder, status=status, error=why or None)
        source = getattr(self, "_source", None)
        if source:
            source.close()
        store.remove(store.join(self.folder, STOP))
        self.lock.__exit__(None, None, None)

    def _opened(self) -> Generator[Judged, bool | None, None]:
        """Everything that a run's folder has, then the source of its evaluations."""
        recipe, folder = self.recipe, self.folder
        if self.status == "finished":
            return _nothing()
        preview(recipe)
        place = _place(recipe)
        if recipe.data.cleans_first:
            recipe = self.recipe = self._cleaned()
        dataset = feed.dataset(recipe.data)
        leaks.refuse(dataset.manifest, recipe.data.allow_leaks)
        plans = opening.plans_of(recipe, dataset, place.workers)
        files = opening.foreknown(recipe, dataset, plans, folder, self.parent)
        self.steps = sum(length(p, q)[1] for p, q in zip(recipe.phases, plans, strict=True))
        store.sweep(folder)
        store.remove(store.join(folder, STOP))
        # recipe.yaml is written last: until then a copy that was cut off is made again.
        if self.parent and not store.exists(store.join(folder, "recipe.yaml")):
            opening.inherit(self.parent, folder)
        says = place.says(recipe, self.steps)
        opening.open_folder(folder, recipe, dataset.manifest.digest, files, says, self.parent)
        if latest := checkpoint.latest(folder):
            self.earlier = tuple(score for *_, score in checkpoint.read_state(latest).scores)
        if place.ray:
            return self._of_a_group(recipe, place, len(self.earlier))
        return self._alone(recipe, len(self.earlier))

    def _cleaned(self) -> Recipe:
        """The recipe with the list of wrong labels that it asks for, found first, in this process."""
        from cluster.cleaning import prepare  # which makes runs, as this does
        from cluster.pool import Pool

        return prepare.prepared(
            self.recipe,
            self.folder.rpartition("/")[0],
            pool=lambda: Pool(self.recipe.scale, here=True),
            stopping=self.stopping,
            say=lambda text: None,
        )

    def _alone(self, recipe: Recipe, judged: int) -> Generator[Judged, bool | None, None]:
        """The run in this process."""
        folder, patience = self.folder, recipe.scale.hang_seconds
        dog = Watchdog(folder, 0, patience) if patience else None
        session = TrialProcess(
            choose_device(recipe.scale),
            folder,
            opens_test=self.opens_test,
            dog=dog,
            stopping=self.stopping,
        )
        reports: Reports = fit(recipe, session)
        try:
            for report in reports:
                session.alive()
                if report.scores and summary.read(folder)["status"] == "running":
                    judged += 1
                    if (yield Judged(judged, report.step, report.scores)):
                        reports.send("stop")
                        return
        finally:
            reports.close()
            session.close()

    def _of_a_group(
        self, recipe: Recipe, place: Place, judged: int
    ) -> Generator[Judged, bool | None, None]:
        """The run on Ray workers, driven by a thread of this process."""
        told, signals, failure = _Told(), list[int](), list[BaseException]()

        def drive() -> None:
            try:
                workers.train(
                    recipe,
                    self.folder,
                    place.fewest,
                    place.workers,
                    lock=self.lock,
                    bar=told,
                    signals=signals,
                    opens_test=self.opens_test,
                )
            except BaseException as error:  # noqa: BLE001  raised again by the one who waits
                failure.append(error)
            finally:
                told.rows.put(None)

        thread = threading.Thread(target=drive, name="trial", daemon=True)
        thread.start()
        seen = -1
        try:
            while row := told.rows.get():
                if row["step"] <= seen:
                    continue  # done again after a restart
                seen, judged = int(row["step"]), judged + 1
                scores = {key: value for key, value in row.items() if key.startswith("val/")}
                yield Judged(judged, seen, scores)
        finally:
            if thread.is_alive():
                signals.append(0)  # as a person would: save and end
                thread.join()
        if failure:
            raise failure[0]


def _nothing() -> Generator[Judged, bool | None, None]:
    yield from ()


def _place(recipe: Recipe) -> Place:
    """A run of one worker is this process's own, in a job too: who drives it has reserved what it needs."""
    if recipe.scale.group[1] == 1:
        return Place(1, 1, choose_device(recipe.scale), ray=False)
    return choose_place(recipe)


def _locked(folder: str) -> Lock:
    """The lock; the process of a search whose driver was killed lives on for seconds, and is waited for."""
    until = time.monotonic() + HANDOVER_SECONDS
    while True:
        try:
            return Lock(folder).__enter__()
        except Refusal:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_SECONDS)


class _Told(Bar):
    """What a group writes, as evaluations."""

    def __init__(self) -> None:
        super().__init__(steps=0, epochs=[], quiet=True)
        self.rows: queue.Queue[Row | None] = queue.Queue()

    def show(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row["split"] == "val":
                self.rows.put(row)

    def say(self, text: str) -> None:
        """The run's events tell it."""


def failed(folder: str, error: BaseException, *, ours: bool) -> str:
    """Why a trial ended, in a line; written down unless another process has its folder."""
    why = f"{type(error).__name__}: {error}" if not isinstance(error, Refusal) else str(error)
    why = " ".join(why.split())[:500]
    if ours or not held(folder):
        summary.amend(folder, status="failed", error=why)
    return why
