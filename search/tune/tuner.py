"""Ray Tune, told what to run and when to end it; it keeps nothing that anybody needs again."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster import capacity
from cluster.connection import connected
from cluster.session import STOP
from datasets import store
from search.tune.folder import Folder
from search.tune.population import Population, Turns
from search.tune.records import Asked, Records
from search.tune.winner import recipe_of
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_DEATHS = 3  # of a trial's process, before the trial fails
POLL_SECONDS = 1.0
PAY_SECONDS = 10.0  # of a trial's time, at most, that is forgotten when its driver is killed
CANCELLED = "cancelled"
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the run folders have all of it
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # a search is rebuilt from its own records
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a result that ends a trial has no value
    "TUNE_RESULT_DELIM": "/",
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass(frozen=True)
class Ended:
    """A trial that is over, for who watches."""

    number: int
    how: str  # finished, pruned, failed, known (the same point was tried before)
    changes: dict[str, Any]
    values: Sequence[float]
    why: str = ""
    seconds: float = 0.0


class Later:
    """Nothing to run now: all who could go on are at work."""


class Desk:
    """Hands out trials and takes their results: what Tune's searcher and scheduler ask.

    `enough` says whether no more are to be begun, `wish` what a person wishes (pause, stop, cancel).
    """

    def __init__(
        self,
        folder: Folder,
        recipe: Recipe,
        records: Records,
        *,
        enough: Callable[[], bool],
        say: Callable[[Ended], None],
    ) -> None:
        assert recipe.search
        self.folder, self.recipe, self.records = folder, recipe, records
        self.goals = recipe.search.goals(recipe)
        self.seeds = recipe.search.seeds
        self.enough, self.say = enough, say
        self.wish: str | None = None
        self.left = records.unfinished()
        self.live: dict[str, Asked] = {}
        self.twins: list[Asked] = []  # of the point of one that runs: what becomes of it is theirs
        turns = records.study.pruner
        self.population = (
            Population(records, turns, upwards=self.goals[0].mode == "max", seed=recipe.seed)
            if isinstance(turns, Turns)
            else None
        )
        self._pruned: set[str] = set()
        self._paid: dict[str, float] = {}  # seconds of a trial's process that are on record

    def next(self, id: str) -> dict[str, Any] | Later | None:
        """What the trial with Tune's `id` runs; None when there are no more, Later when there may be."""
        found = self._begun(id)
        # Who rests goes on even after `stop`: it has been begun.
        while not found and self.population and self.wish not in ("pause", "cancel"):
            turn = self.population.next(more=bool(self.live))
            if turn is None:
                break
            if gone := turn.instead_of:
                copy, parent = turn.asked.number, turn.asked.parent
                why = f"trial {copy:04d}, a copy of {parent:04d}, goes on in its place"
                self.say(Ended(gone.asked.number, "pruned", gone.asked.changes, (), why))
            found = self._handed(id, turn.asked)
        waiting = self.twins or self.population
        return found or (Later() if waiting and self.live else None)

    def close(self) -> None:
        """No more are handed out: of a search that was cancelled, none is left running on record."""
        if self.wish == "cancel":
            for asked in (*self.left, *self.twins):
                self.records.fail(asked.number, CANCELLED)

    def _begun(self, id: str) -> dict[str, Any] | None:
        """Of a trial that an earlier driver left, or a new one."""
        while asked := self._asked():
            if any(asked.changes == other.changes for other in self.live.values()):
                self.twins.append(asked)
                continue
            if known := self.records.known(asked):
                self.records.repeat(asked.number, known)
                why = f"the point of trial {known.number:04d}"
                whole = known.state.name == "COMPLETE"
                values = list(known.values or ()) if whole else []
                self.say(Ended(asked.number, "known", asked.changes, values, why))
                continue
            if handed := self._handed(id, asked):
                return handed
        return None

    def _asked(self) -> Asked | None:
        """What was begun goes on even after `stop`."""
        if self.wish in ("pause", "cancel"):
            return None
        running = [other.changes for other in self.live.values()]
        for twin in self.twins:
            if twin.changes not in running:
                self.twins.remove(twin)
                return twin
        if self.left:
            return self.left.pop(0)
        while not (self.wish or self.enough()):
            if asked := self.records.ask():
                return asked
        return None

    def _handed(self, id: str, asked: Asked) -> dict[str, Any] | None:
        try:
            runs = self._runs(asked)
        except ValueError as refusal:  # a combination that the recipe does not take
            self.records.fail(asked.number, str(refusal))
            self.say(Ended(asked.number, "failed", asked.changes, (), str(refusal)))
            return None
        self.live[id] = asked
        goals = [goal.model_dump() for goal in self.goals]
        turn = self.population.turns.interval if self.population else None
        return {"trial": json.dumps({"runs": runs, "goals": goals, "turn": turn})}

    def judge(self, id: str, result: dict[str, Any]) -> bool:
        """Whether to end the trial after this evaluation."""
        asked = self.live.get(id)
        if asked is None or "judged" not in result or result["value"] is None:
            return False
        number, evaluation = asked.number, int(result["judged"])
        if len(self.goals) > 1:  # which of them should count, nobody has said
            self.records.counted(number, evaluation)
            ends = False
        else:
            ends = self.records.report(number, evaluation, float(result["value"]))
            ends &= not result["last"]
        if ends:
            self._pruned.add(id)
        else:
            self._pay(id, number, float(result["seconds"]), PAY_SECONDS)
        return ends

    def _pay(self, id: str, number: int, seconds: float, least: float = 0.0) -> None:
        """Put on record what the trial's process took so far, where it is `least` more than is there."""
        before = self._paid.get(id, 0.0)
        if seconds < before:  # the process died, and another was started
            before = self._paid[id] = 0.0
        if seconds - before >= least:
            self.records.spent(number, seconds - before)
            self._paid[id] = seconds

    def over(self, id: str, result: dict[str, Any] | None, died: bool) -> None:
        """A trial has ended, in whatever way."""
        asked = self.live.pop(id, None)
        if asked is None:
            return
        found = result or {}
        number, seconds = asked.number, float(found.get("seconds", 0.0))
        if why := self.records.lost(number):
            self.say(Ended(number, "failed", asked.changes, (), why, seconds))
            return
        self._pay(id, number, seconds)
        self._paid.pop(id, None)
        if died:
            why = f"its process died {MOST_DEATHS + 1} times"
            self.records.fail(number, why)
            self.say(Ended(number, "failed", asked.changes, (), why))
        elif id in self._pruned:
            self.records.prune(number)
            self.say(Ended(number, "pruned", asked.changes, [found["value"]], "", seconds))
        elif found.get("ended") == "finished":
            values = [float(value) for value in found["values"]]
            self.records.complete(number, values)
            self.say(Ended(number, "finished", asked.changes, values, "", seconds))
        elif found.get("ended") == "resting" and self.population:
            self.records.report(number, int(found["judged"]), float(found["value"]))
            self.population.rest(asked, int(found["judged"]))
        elif found.get("ended") == "failed":
            self.records.fail(number, found["why"])
            self.say(Ended(number, "failed", asked.changes, (), found["why"], seconds))
        elif self.wish == "cancel":
            self.records.fail(number, CANCELLED)
        # Else it was paused, and stays running as far as the records know.

    def stop_runs(self) -> None:
        """Ask the trials that run to save and end."""
        for asked in [*self.live.values()]:
            for seed in range(self.seeds):
                folder = self.folder.trial(asked.number, seed)
                if store.exists(store.join(folder, "recipe.yaml")):
                    store.write_bytes(store.join(folder, STOP), b"")

    def _runs(self, asked: Asked) -> list[dict[str, Any]]:
        recipe = recipe_of(self.recipe, asked.changes)
        parent = None if asked.parent is None else self.folder.trial(asked.parent)
        return [
            {
                "recipe": recipe.override({"seed": recipe.seed + seed}).plain(),
                "folder": self.folder.trial(asked.number, seed),
                "parent": parent,
            }
            for seed in range(self.seeds)
        ]


def run(desk: Desk, recipe: Recipe, *, wish: Callable[[], str | None]) -> None:
    """Run trials until the desk has no more; `wish` is asked once a second."""
    os.environ.update({key: os.environ.get(key, value) for key, value in _SETTINGS.items()})
    connected(1)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # each failure is a line of ours
    from ray import tune

    from search.tune.adapters import Proposer, Umpire
    from search.tune.trainable import Trainable

    assert recipe.search
    parallel, resources = capacity.processes(
        recipe.scale, recipe.search.parallel, recipe.search.gpus
    )
    with tempfile.TemporaryDirectory(prefix="manta-tune-", ignore_cleanup_errors=True) as own:
        tuner = tune.Tuner(
            tune.with_resources(Trainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=Proposer(desk),
                scheduler=Umpire(desk),
                num_samples=-1,
                max_concurrent_trials=parallel,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=own,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MOST_DEATHS),
                # Runs keep their own checkpoints.
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        )
        with _watched(desk, wish):
            tuner.fit()
    desk.close()


@contextmanager
def _watched(desk: Desk, wish: Callable[[], str | None]) -> Iterator[None]:
    """Wishes are heard while Tune works: after each of them no trial is begun; pause and cancel end those that run."""
    done = threading.Event()

    def watch() -> None:
        asked = 0.0
        while not done.wait(POLL_SECONDS):
            desk.wish = desk.wish or wish()
            # Again and again: a trial may have been on its way when it was asked.
            if desk.wish in ("pause", "cancel") and time.monotonic() - asked > 5 * POLL_SECONDS:
                desk.stop_runs()
                asked = time.monotonic()

    thread = threading.Thread(target=watch, name="wishes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
