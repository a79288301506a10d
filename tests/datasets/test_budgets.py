"""Budgets, held through a real stream from object storage: of the host's disk, and of a rank's memory."""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import frames, gather, shards, store
from datasets.fetching import cache as caches
from datasets.order import Plan
from datasets.packed import shelf
from datasets.packing import encoded
from datasets.pictures.prepare import Options
from datasets.shards import Dataset
from datasets.source import Source
from datasets.store import TEMPORARY
from datasets.stream import View
from tests.datasets.photographs import source as photographs
from tests.datasets.streaming import shuffled

MiB = 2**20
NUM, SIZE = 150, 24
DEADLINE = 120  # seconds that another process may take


class Copies:
    """One small picture in a large file, as often as wanted."""

    def __init__(self, num: int) -> None:
        file, noise = io.BytesIO(), np.random.default_rng(0).bytes(130_000)
        Image.new("RGB", (40, 40)).save(file, "JPEG", icc_profile=noise)
        self.data, self.num = file.getvalue(), num

    def __len__(self) -> int:
        return self.num

    def read(self, row: int) -> bytes:
        return self.data

    def name(self, row: int) -> str:
        return f"{row}.jpg"


def write(source: Source, url: str, *, batch_rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.packing.writing.PICTURE_ROWS", batch_rows)
        splits, options = {"train": np.arange(len(source.columns["id"]))}, Options(tile=False)
        encoded.write(url, source, splits, name="p", options=options, packed={}, seed=0)


def batches(dataset: Dataset, *, epoch: int = 0) -> Iterator[dict[str, torch.Tensor]]:
    rows = dataset.manifest.splits["train"].rows
    view = View(frames.random_resized_crop(), SIZE, threads=2)
    stream = shuffled(dataset, Plan(rows, 8, 8), seed=1, view=view)
    for batch in stream.epoch(0, epoch):
        yield dict(batch.columns)


def set_bytes(dataset: Dataset) -> int:
    return sum(shard.bytes for shard in dataset.manifest.splits["train"].shards)


def sizes(folder: Path) -> Iterator[int]:
    """Of entries, and of files that are becoming one."""
    for entry in os.scandir(folder):
        if entry.name.endswith(caches.ENTRY) or entry.name.startswith(TEMPORARY):
            with suppress(FileNotFoundError):  # another thread may evict it now
                yield entry.stat().st_size


def evicted_and_mapped(folder: Path) -> int:
    """Bytes of the folder that this process still maps although they are deleted."""
    found = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, _, _, _, inode, path = (*line.split(maxsplit=5), "")[:6]
        if path.startswith(str(folder)) and path.endswith("(deleted)"):
            first, last = (int(address, 16) for address in addresses.split("-"))
            found[inode] = last - first
    return sum(found.values())


def test_the_disk_never_holds_more_than_its_budget(
    tmp_path: Path, bucket: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set of thrice the budget, twice: looked at whenever an entry is about to be written."""
    local = str(tmp_path / "set")
    write(photographs(tmp_path / "photographs", NUM), local, batch_rows=2)
    store.upload(local, f"{bucket}/set")
    here, dataset = shards.open_dataset(local), shards.open_dataset(f"{bucket}/set")
    budget = set_bytes(here) // 3
    monkeypatch.setenv("MANTA_CACHE_BYTES", str(budget))
    monkeypatch.setattr(shelf, "FEWEST", 2)
    monkeypatch.setattr(gather, "AHEAD_BYTES", 0)
    folder, put = cache / "batches", caches._put
    held, mapped, written = [], [], 0

    def watched(descriptor: int, data: bytes) -> None:
        nonlocal written
        written += len(data)
        held.append(sum(sizes(folder)))
        mapped.append(evicted_and_mapped(folder))
        put(descriptor, data)

    monkeypatch.setattr(caches, "_put", watched)
    for epoch in range(2):
        for one, two in zip(batches(dataset, epoch=epoch), batches(here, epoch=epoch), strict=True):
            assert all(torch.equal(one[name], two[name]) for name in two)
    assert written > 3 * budget, "nothing had to leave"
    assert budget // 2 < max(held) <= budget
    # Beyond it lies only what the two batches of eight in the making still show.
    shown = dataset.manifest.split("train").shards
    largest = max(batch.length for shard in shown for batch in shard.batches)
    assert max(mapped) <= 2 * 8 * largest


def _reads(url: str, says: Connection) -> None:
    """An epoch of a set, and how much the process had grown after its first batch and at its end."""
    dataset = shards.open_dataset(url)
    stream = batches(dataset)
    next(stream)
    before = peak_bytes()
    rows = sum(len(batch["id"]) for batch in stream)
    assert dataset.stats is not None
    says.send((rows, peak_bytes() - before, dataset.stats.bytes))


def peak_bytes() -> int:
    """The largest resident set so far. getrusage's is inherited from whoever started the process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_a_rank_grows_by_its_budgets_and_not_by_the_set(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    num, budget = 600, 8 * MiB
    ids = np.arange(num, dtype=np.int64)
    columns = {"id": ids, "label": ids % 2}
    copies = Copies(num)
    source = Source("copies", "image", columns, (0, 0, 3), copies, ("a", "b"))
    write(source, str(tmp_path / "set"), batch_rows=2)
    store.upload(str(tmp_path / "set"), f"{bucket}/set")
    total = set_bytes(shards.open_dataset(str(tmp_path / "set")))
    monkeypatch.setenv("MANTA_CACHE_BYTES", str(budget))
    found = in_a_process(_reads, f"{bucket}/set")
    rows, grown, fetched = found
    fetching = (
        shelf.FETCHERS * 3 * 2 * len(copies.data)
    )  # an answer, its pieces, what becomes a file
    allowed = budget + fetching + 8 * MiB  # allocators, threads, batches of a few kilobytes
    print(f"{total / MiB:.0f} MiB, grown by {grown / MiB:.0f} of {allowed / MiB:.0f}")
    assert rows == num - 8 and fetched > total > 2 * allowed
    assert grown <= allowed


def in_a_process(target: Callable[..., None], *arguments: object) -> tuple[int, int, int]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=target, args=(*arguments, there))
    child.start()
    there.close()
    try:
        assert here.poll(DEADLINE), "the process is silent"
        found: tuple[int, int, int] = here.recv()
        return found
    finally:
        child.kill()
        child.join()
