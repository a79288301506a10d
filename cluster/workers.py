"""A group of Ray Train workers: started, driven, followed, restarted when one dies. See docs/cluster.md for the traps."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cluster import watchdog
from cluster.session import STOP, RayWorker
from datasets import store
from datasets.refusal import Refusal
from trainers import checkpoint
from trainers.engine import fit
from trainers.recipe import Recipe, Scale
from trainers.rooms import ROOT

if TYPE_CHECKING:
    from trainers.progress import Bar

logger = logging.getLogger(__name__)

MOST_RESTARTS = 3  # without a new checkpoint in between
MOST_SHARING_CORES = 8  # CPU workers on fewer cores: fine for tests and laptops, a mistake beyond
_POLL_SECONDS = 0.3

# Read by Ray when its modules are imported. Its own poll of 2 s would be paid at every report.
_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def num_gpus() -> int:
    """GPUs of the cluster that this process would use, or of this machine."""
    if os.environ.get("RAY_ADDRESS"):
        ray = connected(1)
        return int(ray.cluster_resources().get("GPU", 0))
    return torch.cuda.device_count()


def device_type(scale: Scale) -> torch.device:
    """What the workers compute on."""
    if scale.device == "auto":
        return torch.device("cuda" if num_gpus() else "cpu")
    kind = torch.device(scale.device).type
    if kind == "mps":
        raise Refusal(
            "MPS runs in one process only",
            path="scale.workers",
            value=scale.workers,
            remedy="set scale.workers=1, or scale.device=cpu",
        )
    return torch.device(kind)


def train(
    recipe: Recipe, folder: str, num_workers: int, *, token: str, bar: Bar, signals: list[int]
) -> None:
    """Drive a run on Ray workers to its end.

    Dead workers (killed, out of memory, lost nodes) are replaced and the run goes on from the newest complete
    checkpoint of its folder; an exception in our code or the user's is raised at once, since it would only come again.
    """
    from ray.exceptions import ActorDiedError
    from ray.train import TrainingFailedError

    ray = connected(num_workers)
    device = device_type(recipe.scale)
    resources = _resources(ray, num_workers, device)
    follower = _Follower(folder, bar, signals)
    config = {"recipe": recipe.plain(), "folder": folder, "token": token}
    deaths, reached, stacks = 0, checkpoint.latest(folder), {*watchdog.found(folder)}
    while True:
        try:
            follower.during(lambda: _fit(folder, config, num_workers, resources, device))
            return
        except (TrainingFailedError, ActorDiedError) as error:  # workers, or Ray's controller
            cause = _cause(error)
            if cause is not None:
                raise cause from None
            newest = checkpoint.latest(folder)
            # A run that gets on may lose many workers; one that does not, few.
            deaths, reached = (deaths + 1 if newest == reached else 1), newest
            if deaths > MOST_RESTARTS:
                raise Refusal(
                    f"workers died {deaths} times without a new checkpoint; last: {_line(error)}",
                    path=folder,
                    remedy="the same command goes on from the last checkpoint",
                ) from error
            told = _line(error)
            if hung := sorted({*watchdog.found(folder)} - stacks):
                told = (
                    f"no step for {recipe.scale.hang_seconds:g} s, see {watchdog.FOLDER}/{hung[0]}"
                )
                stacks.update(hung)
            said = f"a worker died ({told}); restarting from the last checkpoint"
            bar.console.print(said, markup=False, highlight=False, soft_wrap=True)


def worker(config: dict[str, Any]) -> None:
    """What each Ray worker runs."""
    import ray.train

    recipe = Recipe.check(config["recipe"])
    session = RayWorker.here(config["folder"], recipe.scale, config["token"])
    try:
        for report in fit(recipe, session):
            session.alive()
            # Ray keeps no metrics without a checkpoint and polls at leisure: it is told of scores, never of steps.
            if report.scores:
                ray.train.report({"step": report.step, **report.scores})
    finally:
        session.close()


def _fit(
    folder: str,
    config: dict[str, Any],
    num_workers: int,
    resources: dict[str, float],
    device: torch.device,
) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from cluster.network import Wired

    with tempfile.TemporaryDirectory(prefix="manta-ray-", ignore_cleanup_errors=True) as scratch:
        storage = _ray_storage(folder, scratch)
        trainer = TorchTrainer(
            worker,
            train_loop_config=config,
            torch_config=Wired(backend="nccl" if device.type == "cuda" else "gloo", timeout_s=1800),
            scaling_config=ScalingConfig(
                num_workers=num_workers,
                use_gpu=device.type == "cuda",
                resources_per_worker=resources,
            ),
            run_config=RunConfig(
                name=uuid.uuid4().hex,  # Ray would otherwise resume by its own memory; ours is the run folder
                storage_path=storage,
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=2),
            ),
        )
        trainer.fit()
        with suppress(Refusal):  # nobody reads it again, but a finished run does not fail over it
            store.remove(storage)


def _ray_storage(folder: str, scratch: str) -> str:
    """Where Ray keeps its own state: beside the run on a cluster, since every node must see it."""
    if os.environ.get("RAY_ADDRESS"):
        return store.join(folder, "ray")
    return scratch


def connected(num_workers: int) -> Any:
    """Ray, started here unless a cluster is named by RAY_ADDRESS or a session is open already."""
    os.environ.update({k: os.environ.get(k, v) for k, v in _SETTINGS.items()})
    # Workers import Manta from the checkout, whatever directory they are put into.
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    import ray

    if ray.is_initialized():
        return ray
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**options)
    else:
        cores = os.cpu_count() or 1
        ray.init(
            address="local",
            num_cpus=max(cores, min(num_workers, MOST_SHARING_CORES) + 1),
            include_dashboard=False,
            **options,
        )
    # Ray's own stories of lost nodes, with stacks of its C++, go to stdout; ours is a line on stderr.
    ray._private.worker._worker_logs_enabled = False
    return ray


def check(num_workers: int, device: torch.device) -> None:
    """Refuse a group that can never be met, before anything is written; Ray would wait for it for ever."""
    cluster = bool(os.environ.get("RAY_ADDRESS"))
    have = connected(1).cluster_resources() if cluster else {}
    cores = os.cpu_count() or 1
    if device.type == "cuda":
        gpus = int(have.get("GPU", 0)) if cluster else torch.cuda.device_count()
        if num_workers > gpus:
            raise Refusal(
                f"scale.workers={num_workers} needs {num_workers} GPUs, there are {gpus}",
                path="scale.workers",
                value=num_workers,
                remedy="use fewer workers, or scale.device=cpu",
            )
        return
    most = int(have.get("CPU", 0)) if cluster else max(MOST_SHARING_CORES, cores)
    if num_workers > most:
        raise Refusal(
            f"scale.workers={num_workers} is more than {most} CPU workers",
            path="scale.workers",
            value=num_workers,
            remedy="use fewer workers",
        )
    if not cluster and num_workers > cores:
        logger.warning("%d workers share %d cores: right, but slow", num_workers, cores)


def _resources(ray: Any, num_workers: int, device: torch.device) -> dict[str, float]:
    """What one worker asks for."""
    cpus = ray.cluster_resources().get("CPU", 0.0)
    if device.type == "cuda":
        return {"GPU": 1, "CPU": min(1.0, cpus / (2 * num_workers))}
    # The trial driver and Ray's own actors want a little too, so never all of it.
    return {"CPU": min(1.0, round(0.9 * cpus / num_workers, 3))}


class _Follower:
    """Shows what rank 0 writes into the run folder, and carries signals into it, while the group works."""

    def __init__(self, folder: str, bar: Bar, signals: list[int]) -> None:
        self.folder, self.bar, self.signals = folder, bar, signals
        self._seen = self._size()

    def during(self, work: Any) -> None:
        """Run `work` in a thread of its own: Ray would put its own SIGINT handler into the main one."""
        failure: list[BaseException] = []

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  raised again by the main thread
                failure.append(error)

        thread = threading.Thread(target=guarded, name="ray train", daemon=True)
        thread.start()
        asked = False
        while thread.is_alive():
            thread.join(timeout=_POLL_SECONDS)
            if self.signals and not asked:
                store.write_bytes(store.join(self.folder, STOP), b"")
                asked = True
            self._show()
        self._show()
        if failure:
            raise failure[0]

    def _size(self) -> int:
        if store.is_remote(self.folder):
            return 0  # mirrored every half minute: too late for a bar
        path = Path(self.folder, "metrics.jsonl")
        return path.stat().st_size if path.exists() else 0

    def _show(self) -> None:
        size = self._size()
        if size < self._seen:
            self._seen = 0  # rewritten by a restart
        if size == self._seen:
            return
        with Path(self.folder, "metrics.jsonl").open("rb") as file:
            file.seek(self._seen)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._seen += len(whole)
        self.bar.show([json.loads(line) for line in whole.splitlines()])


def _cause(error: Any) -> BaseException | None:
    """The exception that code raised in a worker, or None where workers died."""
    from ray.exceptions import RayTaskError

    for failure in getattr(error, "worker_failures", {}).values():
        if isinstance(failure, RayTaskError):
            failure = failure.cause
        while failure is not None and not isinstance(failure, Refusal) and failure.__cause__:
            failure = failure.__cause__
        if isinstance(failure, Exception) and not _of_a_death(failure):
            return failure
    return None


def _of_a_death(failure: Exception) -> bool:
    """Ray's word that a worker is gone, or what the others raise in the collective that it left them in."""
    return (
        type(failure).__module__.startswith("ray.")
        or isinstance(failure, ConnectionError | torch.distributed.DistError)
        or (isinstance(failure, RuntimeError) and "gloo/transport" in str(failure))
    )


def _line(error: BaseException) -> str:
    """The first sentence of an error's last line: Ray goes on with what else it might have been."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1].partition(". ")[0] if lines else type(error).__name__)[:200]


if (
    "ray" in sys.modules
):  # too late for what Ray reads at import; say so instead of being slow in silence
    missing = {k: v for k, v in _SETTINGS.items() if k not in os.environ}
    if missing and "ray.train" in sys.modules:
        logger.info("ray was imported before Manta: %s not in force", ", ".join(missing))
