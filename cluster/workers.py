"""A group of Ray Train workers: started, driven, restarted when one dies or its node goes. See docs/cluster.md for the traps."""

from __future__ import annotations

import logging
import math
import tempfile
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from cluster import capacity, watchdog
from cluster.connection import connected, on_cluster
from cluster.follower import Follower
from cluster.lock import Lock
from cluster.session import REGROUP, STOP, RayWorker
from datasets import store
from datasets.refusal import Refusal
from trainers import checkpoint, summary
from trainers.accumulation import OutOfMemory
from trainers.engine import fit
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from trainers.progress import Bar

logger = logging.getLogger(__name__)

MOST_RESTARTS = 3  # without a new checkpoint in between
RETURN_SECONDS = 600.0  # that lost nodes get to be replaced in
GROW_SECONDS = 60.0  # a group works at least, before it ends to start again with more workers
LEAVING, ROOM = "a node is about to be taken away", "there is room for more workers"


def train(
    recipe: Recipe,
    folder: str,
    fewest: int,
    most: int,
    *,
    lock: Lock,
    bar: Bar,
    signals: list[int],
    opens_test: bool = True,
) -> None:
    """Drive a run on Ray workers, as many as there is room for, to its end.

    Dead workers (killed, out of memory, lost nodes) are replaced and the run goes on from the newest complete
    checkpoint of its folder; an exception in our code or the user's is raised at once, since it would only come again.
    Before a node goes that has been given notice, and to take in new ones, the group saves, ends and starts again.
    """
    group = Group(recipe, folder, lock, bar, signals, opens_test=opens_test)
    wait = recipe.scale.wait_seconds
    with capacity.wanted(most, group.device):
        while not group.stopping():
            size = capacity.awaited(
                fewest, most, group.device, seconds=wait, say=bar.say, stopping=group.stopping
            )
            if size and group.ended(size, most):
                return
            wait = max(wait, RETURN_SECONDS)
    group.stopped()


class Group:
    """The workers of a run, over all the times that they are started."""

    def __init__(
        self,
        recipe: Recipe,
        folder: str,
        lock: Lock,
        bar: Bar,
        signals: list[int],
        *,
        opens_test: bool,
    ) -> None:
        connected(1)
        self.recipe, self.folder, self.bar = recipe, folder, bar
        self.device = capacity.device_type(recipe.scale)
        self.lock, self.signals, self.opens_test = lock, signals, opens_test
        self.follower = Follower(folder, bar, signals)
        self.token = ""
        self.deaths, self.reached = 0, checkpoint.latest(folder)
        self.stacks = {*watchdog.found(folder)}

    def stopping(self) -> bool:
        """Whether a person wishes the run to end, by a signal or the file: not forgotten between two groups."""
        return bool(self.signals) or store.exists(store.join(self.folder, STOP))

    def stopped(self) -> None:
        """The run ends here while no group works."""
        step = checkpoint.step_of(checkpoint.latest(self.folder))
        summary.amend(self.folder, status="stopped", steps=step)

    def ended(self, size: int, most: int) -> bool:
        """Start `size` workers and follow them; whether the run is over, rather than to go on with another group."""
        from ray.exceptions import ActorDiedError
        from ray.train import TrainingFailedError

        place = summary.read(self.folder).get("place", {})
        summary.amend(self.folder, status="running", place={**place, "workers": size})
        self.token = self.lock.renew()  # of this group: one that is cut off may still work
        leaving, small_since = capacity.draining(), math.inf
        others = capacity.reserved()

        def reason() -> str:
            nonlocal small_since
            going = capacity.draining() - leaving
            if going and capacity.workers_on(going):
                return LEAVING
            if size == most or capacity.workers_on() < size:
                return ""
            # Of a remote folder no steps are seen here: the time since all workers were there counts.
            moved = time.monotonic() if store.is_remote(self.folder) else self.follower.moved
            small_since = min(small_since, moved)
            late = time.monotonic() - small_since > GROW_SECONDS
            return ROOM if late and capacity.room(self.device) else ""

        error = None
        try:
            self.follower.during(lambda: self._fit(size), reason)
        except (TrainingFailedError, ActorDiedError) as raised:  # workers, or Ray's controller
            error = raised
            capacity.release(self.token, others)
        cause, why = _cause(error), self.follower.why
        if cause is not None and not isinstance(cause, OutOfMemory):
            raise cause from None
        if error is None and (not why or summary.read(self.folder).get("status") == "finished"):
            return True
        store.remove(store.join(self.folder, REGROUP))
        if cause is not None:
            self._too_large(cause)
        elif why == LEAVING:
            self._preempted()
        elif why:
            self._tell("resized", why, f"{why}: starting again with them")
        else:
            self._died(error)
        return False

    def _too_large(self, error: OutOfMemory) -> None:
        """Start again with half as many rows at once, where the recipe leaves it to us."""
        rows = int(error.value) // 2
        if self.recipe.scale.micro_batch != "auto" or not rows:
            raise error from None
        summary.amend(self.folder, micro_batch=rows)
        why = f"{error.value} rows at once do not fit into memory"
        self._tell("too_large", why, f"{why}: starting again with {rows}")

    def _preempted(self) -> None:
        """Counted apart from deaths: nobody did anything wrong, and nothing done was lost if there was time to save."""
        known = summary.read(self.folder)
        step = checkpoint.step_of(checkpoint.latest(self.folder))
        summary.amend(self.folder, preemptions=[*known.get("preemptions", []), step])
        self._tell(
            "preempted", LEAVING, f"{LEAVING}: saved at step {step}, starting again without it"
        )

    def _died(self, error: BaseException | None) -> None:
        newest = checkpoint.latest(self.folder)
        # A run that gets on may lose many workers; one that does not, few.
        self.deaths = self.deaths + 1 if newest == self.reached else 1
        self.reached = newest
        crowded = _unplaced(error)
        event, told = ("crowded", "no room for all of them") if crowded else ("died", _line(error))
        if self.deaths > MOST_RESTARTS:
            raise Refusal(
                f"{self.deaths} groups of workers ended without a new checkpoint; the last: {told}",
                path=self.folder,
                remedy="the same command goes on from the last checkpoint",
            ) from error
        if crowded:
            text = "room for the workers went while they started: starting again with what there is"
            self._tell(event, told, text)
            return
        if hung := sorted({*watchdog.found(self.folder)} - self.stacks):
            seconds = self.recipe.scale.hang_seconds
            event, told = "hung", f"no step for {seconds:g} s, see {watchdog.FOLDER}/{hung[0]}"
            self.stacks.update(hung)
        self._tell(event, told, f"a worker died ({told}); restarting from the last checkpoint")

    def _tell(self, event: str, why: str, text: str) -> None:
        """To the report's timeline, and to who watches."""
        saved = checkpoint.step_of(checkpoint.latest(self.folder))
        summary.happened(self.folder, event, step=max(saved, self.bar.step), why=why)
        self.bar.say(text)

    def _fit(self, size: int) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        from cluster.network import Wired

        cuda = self.device.type == "cuda"
        with tempfile.TemporaryDirectory(prefix="manta-ray-", ignore_cleanup_errors=True) as own:
            # Ray's own state: on a cluster beside the run, since every node must see it.
            storage = store.join(self.folder, "ray") if on_cluster() else own
            trainer = TorchTrainer(
                worker,
                train_loop_config={
                    "recipe": self.recipe.plain(),
                    "folder": self.folder,
                    "opens_test": self.opens_test,
                    "token": self.token,
                },
                torch_config=Wired(backend="nccl" if cuda else "gloo", timeout_s=1800),
                scaling_config=ScalingConfig(
                    num_workers=size,
                    use_gpu=cuda,
                    resources_per_worker=capacity.share(size, self.device),
                    placement_strategy=_PLACEMENTS[self.recipe.scale.placement],
                ),
                run_config=RunConfig(
                    name=uuid.uuid4().hex,  # Ray would otherwise resume by its own memory; ours is the run folder
                    storage_path=storage,
                    failure_config=FailureConfig(
                        max_failures=0, max_preemption_failures=0, controller_failure_limit=0
                    ),
                ),
            )
            trainer.fit()
            with suppress(Refusal):  # nobody reads it again: no reason to fail
                store.remove(storage)


_PLACEMENTS = {"packed": "PACK", "spread": "SPREAD"}


def worker(config: dict[str, Any]) -> None:
    """What each Ray worker runs."""
    import ray.train

    recipe = Recipe.check(config["recipe"])
    session = RayWorker.here(
        config["folder"], recipe.scale, config["token"], opens_test=config.get("opens_test", True)
    )
    if session.rank == 0:
        capacity.claim(config["token"])
    try:
        for report in fit(recipe, session):
            session.alive()
            # Ray keeps no metrics without a checkpoint and polls at leisure: it is told of scores, never of steps.
            if report.scores:
                ray.train.report({"step": report.step, **report.scores})
    finally:
        session.close()


def _cause(error: Any) -> BaseException | None:
    """The exception that code raised in a worker, or None where workers died, or nothing went wrong."""
    from ray.exceptions import RayTaskError

    for failure in getattr(error, "worker_failures", {}).values():
        if isinstance(failure, RayTaskError):
            failure = failure.cause
        while failure is not None and not isinstance(failure, Refusal) and failure.__cause__:
            failure = failure.__cause__
        if isinstance(failure, Exception) and not _of_a_death(failure):
            return failure
    return None


def _unplaced(error: BaseException | None) -> bool:
    """Whether Ray found no room for all workers, though there was some before: a node went in between."""
    failure = getattr(error, "controller_failure", None)
    return type(failure).__name__ == "WorkerGroupStartupTimeoutError"


def _of_a_death(failure: Exception) -> bool:
    """Ray's word that a worker is gone, or what the others raise in the collective that it left them in."""
    return (
        type(failure).__module__.startswith("ray.")
        or isinstance(failure, ConnectionError | torch.distributed.DistError)
        or (isinstance(failure, RuntimeError) and "gloo/transport" in str(failure))
    )


def _line(error: BaseException | None) -> str:
    """The first sentence of an error's last line: Ray goes on with what else it might have been."""
    if "memory pressure" in str(error) or "OutOfMemoryError" in str(error):
        return "its host ran out of memory"
    if "RpcError" in str(error):
        return "its node does not answer"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1].partition(". ")[0] if lines else type(error).__name__)[:200]
