"""The places a run can be: this process, and a worker of Ray Train. Each says where a process stands."""

from __future__ import annotations

import functools
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch

from cluster import lock
from cluster.metrics import Exported
from cluster.watchdog import Watchdog
from datasets import store
from datasets.refusal import Refusal
from trainers.scale import Scale

logger = logging.getLogger(__name__)

# Files in the run folder. Whoever writes the first asks the run to save and end;
# the second is the driver's: its workers save and end, to start again as another group.
STOP, REGROUP = "stop", "regroup"
LOOK_SECONDS = 1.0


@dataclass
class Local:
    """This process. `SIGINT` and `SIGTERM` set a flag that the engine reads between steps."""

    device: torch.device
    folder: str
    show: Callable[[list[dict[str, Any]]], None] = lambda rows: None
    rank: int = 0
    world: int = 1
    leads: bool = True
    opens_test: bool = True
    draws: bool = True
    signals: list[int] = field(default_factory=list)

    def holds(self) -> bool:
        return True  # the lock is this very process's

    def alive(self) -> None:
        """Nothing: a person sees it, and may end it."""

    def should_stop(self) -> bool:
        return bool(self.signals)


@dataclass
class TrialProcess(Local):
    """A process in which one run after another is driven by somebody else: trials of a search, cells of a study."""

    opens_test: bool = False
    draws: bool = False
    dog: Watchdog | None = None
    stopping: Callable[[], bool] = lambda: False
    _asked: float = 0.0

    def alive(self) -> None:
        if self.dog:
            self.dog.alive()

    def should_stop(self) -> bool:
        """Wishes of other processes arrive through the run folder; it is looked into once a second."""
        if self.stopping():
            return True
        if time.monotonic() - self._asked < LOOK_SECONDS:
            return False
        self._asked = time.monotonic()
        return store.exists(store.join(self.folder, STOP))

    def close(self) -> None:
        if self.dog:
            self.dog.close()


@dataclass
class RayWorker:
    """One worker of a Ray Train group; made inside it."""

    device: torch.device
    folder: str
    rank: int
    world: int
    token: str
    leads: bool
    opens_test: bool = True
    draws: bool = True
    dog: Watchdog | None = None
    exported: Exported | None = None

    @classmethod
    def here(cls, folder: str, scale: Scale, token: str, *, opens_test: bool = True) -> RayWorker:
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        device = ray.train.torch.get_device()
        set_threads(scale, workers_on_host=context.get_local_world_size())
        rank, world = context.get_world_rank(), context.get_world_size()
        dog = Watchdog(folder, rank, scale.hang_seconds) if scale.hang_seconds else None
        leads = context.get_local_rank() == 0
        return cls(device, folder, rank, world, token, leads, opens_test, opens_test, dog)

    def alive(self) -> None:
        if self.dog:
            self.dog.alive()

    def close(self) -> None:
        """The work is done: from here on nobody hangs."""
        if self.dog:
            self.dog.close()

    def holds(self) -> bool:
        # A killed driver's workers live on for seconds; whoever starts the run anew writes another token.
        return lock.token(self.folder) == self.token

    def should_stop(self) -> bool:
        # Wishes arrive through the run folder, which every place can see. Asked about once a second.
        return self.rank == 0 and not {STOP, REGROUP}.isdisjoint(store.names(self.folder))

    def show(self, rows: list[dict[str, Any]]) -> None:
        """To Prometheus; for people the driver follows metrics.jsonl."""
        if self.exported is None:
            self.exported = Exported(self.folder)
        self.exported.tell(rows)


@contextmanager
def stopping_on_signals(signals: list[int]) -> Iterator[None]:
    """The first SIGINT or SIGTERM is written down, so that the run can end in order; the second acts as usual."""

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        for each, handler in former.items():
            signal.signal(each, handler)

    former: dict[int, Any] = {}
    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            former[each] = signal.signal(each, note)
    except ValueError:  # not the main thread: a notebook's or a server's worker decides by itself
        former = {}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def choose_device(scale: Scale) -> torch.device:
    """The device of one process: cuda:0, else mps, else cpu, or what the recipe names."""
    if scale.device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    check_device(scale)
    device = torch.device(scale.device)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)  # torch takes no other
        torch.cuda.set_device(device)
    return device


def device_here(scale: Scale) -> torch.device:
    """The device of a run that is put back to work: its recipe's, or the best that there is where this machine has not that one."""
    try:
        return choose_device(scale)
    except Refusal as refusal:
        found = choose_device(scale.model_copy(update={"device": "auto"}))
        say_once(f"{refusal.error}: {found} computes in its place")
        return found


@functools.cache
def say_once(line: str) -> None:
    """What is true of a whole command, however many of its passes find it."""
    logger.warning(line)


def check_device(scale: Scale) -> None:
    """Refuse a device that this machine has not. Nothing is begun on one that it has."""
    if scale.device == "auto":
        return
    device = torch.device(scale.device)
    if device.type == "cuda":
        found = torch.cuda.device_count()
        if (device.index or 0) >= found:
            raise Refusal(
                f"no {scale.device} here: {found} CUDA device{'' if found == 1 else 's'} found",
                path="scale.device",
                value=scale.device,
                remedy="use scale.device=auto" if not found else f"use cuda:0 .. cuda:{found - 1}",
            )
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise Refusal(
            "there is no MPS device here", path="scale.device", value="mps", remedy="use auto"
        )


def set_threads(scale: Scale, *, workers_on_host: int) -> None:
    """Threads of torch's CPU kernels: the host's cores shared by its workers. More would fight for them.

    A process of its own heeds OMP_NUM_THREADS; for its workers Ray sets that variable by itself, to something else.
    """
    if workers_on_host == 1 and not scale.threads and os.environ.get("OMP_NUM_THREADS"):
        return
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    torch.set_num_threads(scale.threads or max(1, cores // workers_on_host))
