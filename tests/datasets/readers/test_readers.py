"""Processes that decode: the same batches as threads', and threads' batches where a process fails."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets import assembled, frames, processes, shards, store, subsets, transforms
from datasets.gather import Ahead, Order
from datasets.noise import symmetric
from datasets.order import Plan
from datasets.packing import encoded
from datasets.pictures import prepare
from datasets.pictures.prepare import Options
from datasets.readers import pool
from datasets.readers.pool import Readers, readers
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.stream import EvalStream, View
from tests.datasets.photographs import source as photographs
from tests.datasets.streaming import same, shuffled

NUM = 90
Batches = list[dict[str, torch.Tensor]]


@pytest.fixture(autouse=True)
def two() -> Iterator[Readers]:
    """Two processes of this test's own, that are up."""
    readers.cache_clear()
    own = readers()
    own.want(2)
    own.settle()
    yield own
    own.end()
    readers.cache_clear()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("photographs")
    url, rows = str(folder / "set"), np.arange(NUM)
    options = Options(tile=prepare.jpegtran() is not None)
    splits = {"train": rows[:70], "val": rows[70:]}
    packed: dict[str, Any] = {"name": "photographs", "packed": {}, "seed": 0}
    encoded.write(url, photographs(folder / "files", NUM), splits, options=options, **packed)
    return shards.open_dataset(url)


def view(number: int = 24, *, views: int = 1, processes: bool = True) -> View:
    return View(
        frames.random_resized_crop(mirror=0.5),
        number,
        [transforms.pad_crop(padding=2), transforms.flip()],
        views=views,
        threads=2,
        processes=processes,
    )


def epoch(dataset: Dataset, shown: View) -> Batches:
    rows = dataset.manifest.split("train").rows
    stream = shuffled(dataset, Plan(rows, 16, 16, "keep"), seed=3, view=shown)
    return [dict(batch.columns) for batch in stream.epoch(0, 1)]


@pytest.mark.parametrize("views", [1, 2])
def test_processes_make_the_batches_that_threads_make(
    pictures: Dataset, two: Readers, views: int
) -> None:
    for size in (24, 40, 16):  # their memory grows, and is larger than needed
        before = two.made
        theirs = epoch(pictures, view(size, views=views))
        assert two.made - before == 5, "parts of one batch each"
        assert same(epoch(pictures, view(size, views=views, processes=False)), theirs)
        judged = [
            [dict(batch.columns) for batch in EvalStream(pictures, "val", batch=7, view=shown)]
            for shown in (view(size), view(size, processes=False))
        ]
        assert same(*judged)


def fewer(whole: Dataset) -> Dataset:
    return subsets.of_train(whole, shots=5, fraction=None)


def noisy(whole: Dataset) -> Dataset:
    return subsets.noisy(whole, symmetric(rate=0.4, seed=1))


def mixed(whole: Dataset) -> Dataset:
    return assembled.mixed([whole, fewer(whole)], [1.0, 1.0])


@pytest.mark.parametrize("made", [fewer, noisy, mixed, lambda whole: mixed(noisy(whole))])
def test_sets_that_are_made_of_others_are_read_there_too(
    pictures: Dataset, two: Readers, made: Callable[[Dataset], Dataset]
) -> None:
    before = two.made
    theirs = epoch(made(pictures), view())
    assert two.made > before
    assert same(epoch(made(pictures), view(processes=False)), theirs)


def test_a_remote_set_is_fetched_once_for_all(pictures: Dataset, bucket: str, two: Readers) -> None:
    store.upload(pictures.url, f"{bucket}/set")
    remote = shards.open_dataset(f"{bucket}/set")
    assert same(epoch(pictures, view(processes=False)), epoch(remote, view()))
    assert two.made == 5
    assert remote.stats
    lengths = [b.length for s in remote.manifest.split("train").shards for b in s.batches]
    assert remote.stats.bytes == sum(lengths), "each record batch once, by the one that is served"


def test_processes_that_die_leave_the_batches_as_they_are(pictures: Dataset, two: Readers) -> None:
    expected, found = epoch(pictures, view(processes=False)), []
    rows = pictures.manifest.split("train").rows
    stream = shuffled(pictures, Plan(rows, 16, 16, "keep"), seed=3, view=view())
    victims = two.pids()
    for number, batch in enumerate(stream.epoch(0, 1)):
        if not number:
            killed(victims)
        found.append(dict(batch.columns))
    assert same(expected, found)
    two.want(2)
    two.settle()
    assert len(two.pids()) == 2 and not {*victims} & {*two.pids()}
    before = two.made
    assert same(expected, epoch(pictures, view()))
    assert two.made - before == 5


class Deadly:
    """Rows that no process survives but the one that asked for them."""

    shape = (2, 2, 3)

    def __init__(self) -> None:
        self.home = os.getpid()

    def prefetch(self, rows: np.ndarray) -> None: ...
    def hold(self, rows: np.ndarray) -> None: ...
    def interrupt(self) -> None: ...
    def close(self) -> None: ...

    def take(
        self, rows: np.ndarray, frames: Sequence[int], out: Sequence[torch.Tensor]
    ) -> dict[str, np.ndarray]:
        if os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        out[0].fill_(7)
        return {"id": rows}


def test_what_kills_processes_is_done_by_threads_and_said(
    two: Readers, caplog: pytest.LogCaptureFixture
) -> None:
    orders = [Order(np.arange(8), [], 0, 0) for _ in range(40)]
    for _ in range(4 * pool.DEATHS):  # a busy machine's threads may be faster than a process
        ahead = Ahead(Deadly(), threads=2, processes=True)
        two.settle()
        if not two.pids():
            break
        for batch in ahead.batches(orders):
            assert batch["image"].eq(7).all() and batch["id"].tolist() == [*range(8)]
    assert not two.pids() and "have died: threads decode from here on" in caplog.text


def test_a_picture_that_does_not_decode_is_the_same_refusal(
    pictures: Dataset, tmp_path: Path
) -> None:
    class Lying:
        """A frame beyond the picture."""

        def __call__(self, height: Any, width: Any, ids: Any, key: int) -> Any:
            return np.stack([height, width, height, width, ids * 0], axis=1)

    said = []
    for processes_ in (False, True):
        with pytest.raises(Refusal) as refused:
            epoch(pictures, View(Lying(), 8, threads=1, processes=processes_))
        said.append(str(refused.value))
    assert said[0] == said[1] and "the picture with id" in said[0]


def test_they_end_with_the_process_that_they_serve() -> None:
    script = (
        "import sys; from datasets.readers.pool import readers; r = readers(); r.want(2); r.settle();"
        "print(*r.pids(), flush=True); sys.stdin.read()"
    )
    served = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=processes.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert served.stdout and served.stdin
    pids = [int(pid) for pid in served.stdout.readline().split()]
    assert len(pids) == 2
    ends = [os.pidfd_open(pid) for pid in pids]
    served.kill()
    served.wait()
    ended(ends)
    served.stdin.close()
    served.stdout.close()


def killed(pids: Sequence[int]) -> None:
    ends = [os.pidfd_open(pid) for pid in pids]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    ended(ends)


def ended(descriptors: list[int]) -> None:
    """Wait until all of these processes have ended."""
    while descriptors:
        gone, _, _ = select.select(descriptors, [], [], 30)
        assert gone, "a process goes on"
        for descriptor in gone:
            os.close(descriptor)
            descriptors.remove(descriptor)
