"""How long a thread that launches many small operations is kept from Python's lock while pictures are decoded beside it.

That thread is what trains on a GPU: each of its operations lets go of the lock and takes it again. What the kernel says of it
(/proc/self/task/ID/schedstat) tells waiting for the lock, neither running nor queued for a core, from having too few cores, so
two cores and a busy machine will do. Pictures are decoded by threads, then by processes, in turn.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks import gpu_feed
from benchmarks.reading import Reading, summed_up
from datasets import order
from datasets.frames import random_resized_crop
from datasets.readers.pool import readers
from datasets.sampling.samplers import Shuffled
from datasets.shards import Dataset, open_dataset
from datasets.stream import TrainStream, View

ROUNDS, SECONDS = 5, 3.0
READERS = (4, 12)
DRAWN, COPIES, BATCH = 256, 4, 64


def run(rounds: int | None = None) -> list[Reading]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
            gpu_feed.prepare(Path(name), DRAWN, COPIES)
            dataset = open_dataset(f"{name}/shards")
            return [reading for n in READERS for reading in _compared(dataset, n, rounds or ROUNDS)]
    finally:
        torch.set_num_threads(before)


def _compared(dataset: Dataset, number: int, rounds: int) -> list[Reading]:
    readers().want(number)
    readers().settle()
    found: dict[str, list[tuple[float, float]]] = {"threads": [], "processes": []}
    for _ in range(rounds):
        for how, told in found.items():
            told.append(_beside(dataset, number, processes=how == "processes"))
    readers().end()
    readings = []
    for how, told in found.items():
        blocked, pictures = zip(*told, strict=True)
        what = f"{number} {how}: waiting for the lock, of the time without a core's queue"
        note = f"{sum(pictures) / len(pictures):.0f} pictures a second"
        readings.append(summed_up("lock", what, blocked, unit="ratio", note=note))
    return readings


def _beside(dataset: Dataset, number: int, *, processes: bool) -> tuple[float, float]:
    """(share of its time that the thread waits for the lock, pictures a second)."""
    with _drained(dataset, number, processes=processes) as made:
        one, until = torch.zeros(1), time.perf_counter() + SECONDS
        begun, (ran, queued), first = time.perf_counter(), _schedule(), made[0]
        while time.perf_counter() < until:
            for _ in range(100):
                one.add_(1)
        wall, (ran_on, queued_on) = time.perf_counter() - begun, _schedule()
    ran, queued = ran_on - ran, queued_on - queued
    return max(0.0, 1 - ran / (wall - queued)), (made[0] - first) / wall


@contextmanager
def _drained(dataset: Dataset, number: int, *, processes: bool) -> Iterator[list[int]]:
    """Batches made as fast as they can be, by a thread of their own; how many pictures so far."""
    split = dataset.manifest.split("train")
    sampler = Shuffled(split, order.Plan(split.rows, BATCH, BATCH))
    view = View(random_resized_crop(mirror=0.5), 224, threads=number, processes=processes)
    stream = TrainStream(dataset, "train", sampler=sampler, seed=0, view=view)
    made, first, stop = [0], threading.Event(), threading.Event()

    def drain() -> None:
        epoch = 0
        while not stop.is_set():
            for batch in stream.epoch(0, epoch):
                made[0] += len(batch)
                first.set()
                if stop.is_set():
                    return
            epoch += 1

    thread = threading.Thread(target=drain)
    thread.start()
    first.wait()
    try:
        yield made
    finally:
        stop.set()
        thread.join()


def _schedule() -> tuple[float, float]:
    """Seconds that this thread ran, and that it waited for a core."""
    path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
    with open(path, encoding="ascii") as file:
        ran, queued, _ = file.read().split()
    return int(ran) / 1e9, int(queued) / 1e9
