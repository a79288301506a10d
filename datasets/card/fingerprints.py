"""Every picture of a packed set decoded once, in threads: a hash of its pixels, one of its looks, or why it does not decode."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from datasets.packed.records import Ragged
from datasets.packed.shelf import Shelf
from datasets.pictures import likeness
from datasets.pictures.decode import Channels, Pixels, Undecodable, decode
from datasets.pictures.likeness import Copies, Hashes
from datasets.progress import Progress
from datasets.shards import Dataset

Failures: TypeAlias = list[tuple[str, int, str]]


@dataclass(frozen=True)
class Fingerprints:
    """N pictures that decode, of all splits, in order; and the others.

    `place` (N, 2) int64 is number of split and row in it, `pixels` (N,) a hash of height, width and every pixel;
    `looks` (N,) and `small` (N, 256) are those of `likeness`, and mean something where `telling` (N,) holds.
    """

    splits: tuple[str, ...]
    place: NDArray[np.int64]
    pixels: Hashes
    looks: Hashes
    small: Copies
    telling: NDArray[np.bool_]
    undecodable: Failures  # split, row, reason

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class _Part:
    """Those of one record batch."""

    rows: NDArray[np.int64]
    pixels: Hashes
    looks: Hashes
    small: Copies
    telling: NDArray[np.bool_]
    failed: list[tuple[int, str]]


def take(dataset: Dataset, *, threads: int = 0, progress: Progress | None = None) -> Fingerprints:
    """Reads and decodes the whole set; without a number of threads, as many as there are cores."""
    splits = tuple(dataset.manifest.splits)
    shelves = [shelf for shelf in map(dataset.shelf, splits) if isinstance(shelf, Shelf)]
    assert len(shelves) == len(splits), "cards are of packed sets"
    batches = [(n, number) for n, shelf in enumerate(shelves) for number in range(len(shelf))]
    total = sum(split.rows for split in dataset.manifest.splits.values())
    parts: dict[tuple[int, int], _Part] = {}
    channels: Channels = 1 if dataset.manifest.shape[2] == 1 else 3
    with ThreadPoolExecutor(threads or _cores(), "fingerprint") as pool:
        for shelf in shelves:
            shelf.prefetch(range(len(shelf)))
        waiting = {pool.submit(_part, shelves[n], b, channels): (n, b) for n, b in batches}
        try:
            done = 0
            for future in as_completed(waiting):
                part = parts[waiting[future]] = future.result()
                done += len(part.rows) + len(part.failed)
                if progress:
                    progress(done, total)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            for shelf in shelves:
                shelf.close()
    return _joined(splits, [(n, parts[n, b]) for n, b in batches])


def _part(shelf: Shelf, number: int, channels: Channels) -> _Part:
    """In a thread: the pictures of a record batch."""
    rows: list[int] = []
    pixels: list[int] = []
    failed: list[tuple[int, str]] = []
    telling: list[bool] = []
    reductions: list[NDArray[np.uint8]] = []
    start, blank = int(shelf.starts[number]), np.zeros((likeness.SIDE, likeness.SIDE), np.uint8)
    for place, picture in enumerate(_pictures(shelf, number, channels)):
        if isinstance(picture, Undecodable):
            failed.append((start + place, str(picture)))
            continue
        height, width = picture.shape[:2]
        large = min(height, width) >= likeness.SIDE
        rows.append(start + place)
        pixels.append(
            xxhash.xxh3_64_intdigest(np.ascontiguousarray(picture).data, height << 32 | width)
        )
        telling.append(large)
        reductions.append(likeness.reduced(picture) if large else blank)
    reduced = np.stack(reductions) if reductions else blank[None][:0]
    looks, detailed = likeness.hashes(reduced)
    small = likeness.copies(reduced)
    found = np.array(pixels, np.uint64)
    return _Part(
        np.array(rows, np.int64), found, looks, small, detailed & np.array(telling, bool), failed
    )


def _pictures(shelf: Shelf, number: int, channels: Channels) -> Iterator[Pixels | Undecodable]:
    pictures = shelf.open(number)["image"]
    for row in range(len(pictures)):
        if not isinstance(pictures, Ragged):
            yield pictures[row]
            continue
        try:
            yield decode(pictures[row].data, channels)
        except Undecodable as error:
            yield error


def _joined(splits: tuple[str, ...], parts: list[tuple[int, _Part]]) -> Fingerprints:
    found = [part for _, part in parts]
    places = [np.stack((np.full_like(p.rows, n), p.rows), 1) for n, p in parts]
    return Fingerprints(
        splits=splits,
        place=np.concatenate([np.empty((0, 2), np.int64), *places]),
        pixels=np.concatenate([np.empty(0, np.uint64), *(p.pixels for p in found)]),
        looks=np.concatenate([np.empty(0, np.uint64), *(p.looks for p in found)]),
        small=np.concatenate(
            [np.empty((0, likeness.COPY_SIDE**2), np.uint8), *(p.small for p in found)]
        ),
        telling=np.concatenate([np.empty(0, bool), *(p.telling for p in found)]),
        undecodable=[(splits[n], row, why) for n, part in parts for row, why in part.failed],
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
