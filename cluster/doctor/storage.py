"""What is kept and read far away: whether it can be written, whether all nodes see the same, how fast it is read."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster.doctor.check import Finding
from cluster.doctor.machine import room
from datasets import store
from datasets.fetching.ranges import Ranges
from datasets.packed.manifest import NAME
from datasets.refusal import Refusal

READ_BYTES = 32 * 2**20  # what is read at most to measure a speed,
READ_SECONDS = 2.0  # and for how long
LEAST_BYTES = 4 * 2**20  # of less, only the latency would be measured
PIECE_BYTES = 2**20
READERS = 8
SLOW = 20.0  # MB/s that a node should read at least
SIGN_BYTES = 8 * 2**20  # of a sign whose reading is measured
_NOT_SHARED = "every node needs it: say --out s3://bucket/runs, or a folder that all nodes share"


@dataclass(frozen=True, slots=True)
class Sign:
    """A file that one machine leaves for others to find; `digest` is the SHA-256 of its bytes."""

    url: str
    digest: str
    bytes: int

    @property
    def folder(self) -> str:
        return self.url.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed data set as the driver found it: `pieces` are (path, offset, length) of some of its bytes."""

    url: str
    digest: str  # SHA-256 of its manifest's bytes
    bytes: int
    pieces: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, url: str) -> Packed:
        """Raises Refusal where there is no packed set."""
        from datasets.packed import reading as manifests

        manifest = manifests.read(url)
        shards = [shard for split in manifest.splits.values() for shard in split.shards]
        data = store.read_bytes(store.join(url, NAME))
        total = sum(shard.bytes for shard in shards)
        pieces = _pieces([(shard.path, shard.bytes) for shard in shards])
        return cls(url, hashlib.sha256(data).hexdigest(), total, pieces)


def _pieces(files: Sequence[tuple[str, int]]) -> tuple[tuple[str, int, int], ...]:
    """Stretches of the files' beginnings, from as many of them as it takes."""
    found: list[tuple[str, int, int]] = []
    left = READ_BYTES
    for path, size in files:
        for offset in range(0, min(size, left), PIECE_BYTES):
            found.append((path, offset, min(PIECE_BYTES, size - offset)))
        left -= min(size, left)
    return tuple(found)


@contextmanager
def signed(folder: str, size: int) -> Iterator[Sign]:
    """A sign of `size` bytes in a folder, which is left as it was found. Raises Refusal where it cannot be written."""
    url = store.join(folder, f"manta-doctor-{uuid.uuid4().hex}")
    absent = (
        [] if store.is_remote(url) else [p for p in store.path_of(url).parents if not p.exists()]
    )
    data = os.urandom(size)
    store.write_bytes(url, data)
    try:
        yield Sign(url, hashlib.sha256(data).hexdigest(), size)
    finally:
        store.remove(url)
        for path in absent:
            if path.is_dir() and not os.listdir(path):
                path.rmdir()


def run_folders(folder: str, sign: Sign | None = None) -> Finding:
    """Written, read and deleted from here; and the sign that another machine left there is seen."""
    if sign is not None:
        if not store.exists(sign.url):
            raise Refusal(
                "what the driver wrote there is not seen here, so it is not the same folder",
                path=folder,
                remedy=_NOT_SHARED,
            )
        if hashlib.sha256(store.read_bytes(sign.url)).hexdigest() != sign.digest:
            raise Refusal(
                "what the driver wrote there reads otherwise here",
                path=sign.url,
                remedy="check the storage; no checkpoint could be trusted",
            )
    store.probe(folder)
    free = room(folder)
    return Finding(f"{folder}: written, read and deleted", free, "GiB free" if free else "")


def data_set(packed: Packed) -> str:
    """The data set is read here as the driver reads it."""
    path = store.join(packed.url, NAME)
    if hashlib.sha256(store.read_bytes(path)).hexdigest() != packed.digest:
        raise Refusal(
            "another data set lies there than on the driver",
            path=path,
            remedy="name a place that all nodes share, or copy the set anew",
        )
    return f"{packed.url}: read"


def reading(packed: Sequence[Packed], sign: Sign | None) -> Finding:
    """MB/s at which the data come here, or (where they are few) a file among the run folders."""
    pieces = [(each.url, *piece) for each in packed for piece in each.pieces]
    if sign and sum(length for *_, length in pieces) < LEAST_BYTES:
        name = sign.url.rpartition("/")[2]
        pieces = [(sign.folder, *piece) for piece in _pieces([(name, sign.bytes)])]
    if sum(length for *_, length in pieces) < LEAST_BYTES:
        return Finding("too little to read for a speed")
    start = time.perf_counter()
    until = start + READ_SECONDS
    with ThreadPoolExecutor(READERS, thread_name_prefix="doctor") as pool:
        read = sum(pool.map(partial(_read, until), pieces))
    speed = read / 1e6 / (time.perf_counter() - start)
    place = pieces[0][0]
    if speed >= SLOW:
        return Finding(place, speed, "MB/s")
    return Finding(f"{place}: slow, training may wait for data", speed, "MB/s", "warn")


def _read(until: float, piece: tuple[str, str, int, int]) -> int:
    """Bytes read of (url, path, offset, length) before the time was up."""
    url, path, offset, length = piece
    if time.perf_counter() > until:
        return 0
    if not store.is_remote(url):
        with Path(store.path_of(url), path).open("rb") as file:
            if hasattr(os, "posix_fadvise"):  # or the page cache would be measured
                os.posix_fadvise(file.fileno(), offset, length, os.POSIX_FADV_DONTNEED)
            file.seek(offset)
            return len(file.read(length))
    read = 0
    for part in Ranges(url, deadline=10.0).pieces(path, offset, length):
        read += len(part)
        if time.perf_counter() > until:
            break
    return read
