"""The rows of a split by their number, wherever they lie: mapped from disk, or fetched into the cache batch by batch."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datasets import store
from datasets.fetching.cache import Cache
from datasets.fetching.ranges import Ranges, Stats
from datasets.packed import records
from datasets.packed.manifest import Manifest, Shard
from datasets.packed.records import Column
from datasets.packing.writing import arrow_schema
from datasets.refusal import Refusal
from datasets.remote import explained

FETCHERS = 16  # threads that wait for the network
CACHE_BYTES = 64 * 2**30
FEWEST = 64  # open record batches, however small the budget
OLDEST = 16  # of the open ones that are looked at when another is opened


def cache_bytes() -> int:
    """What fetched data may take of a host's disk: $MANTA_CACHE_BYTES, or 64 GiB."""
    text = os.environ.get("MANTA_CACHE_BYTES") or str(CACHE_BYTES)
    if not text.isdecimal():
        raise Refusal(
            f"'{text}' is no number of bytes",
            path="MANTA_CACHE_BYTES",
            value=text,
            remedy="use 64000000000",
        )
    return int(text)


class Books(Protocol):
    """Rows by their number: what gathering asks of a shelf, or of several as one."""

    url: str

    def __len__(self) -> int:
        """Record batches."""
        ...

    def locate(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which record batch each row lies in, and its place there."""
        ...

    def open(self, number: int) -> dict[str, Column]: ...
    def prefetch(self, numbers: Iterable[int]) -> None: ...
    def interrupt(self) -> None: ...
    def close(self) -> None: ...


class Shelf:
    """Record batches of some shards, opened when first asked for and checked then. Safe to use from many threads.

    A local set is mapped, and costs no memory of its own. Of a remote one each record batch is fetched once a host into
    `$MANTA_CACHE/batches`, which keeps to `cache_bytes()` over all sets.
    """

    def __init__(
        self,
        url: str,
        manifest: Manifest,
        shards: Sequence[Shard],
        columns: Mapping[str, str] | None = None,
        *,
        stats: Stats | None = None,
    ) -> None:
        self.url, self.manifest, self.columns = url, manifest, columns or manifest.columns
        self.shards = shards
        self.places = [(shard, n) for shard in shards for n in range(len(shard.batches))]
        rows = np.array([b.rows for shard in shards for b in shard.batches], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(rows)])
        self._opened: dict[int, dict[str, Column]] = {}
        self._lengths: dict[int, int] = {}  # bytes of the open ones of a remote set, oldest first
        self._open_bytes, self._lengths_lock = 0, threading.Lock()
        self._mapped: dict[str, pa.Buffer] = {}
        self._locks = [threading.Lock() for _ in range(64)]
        self._remote = store.is_remote(url)
        self._fetching: dict[int, Future[pa.Buffer]] = {}
        self._pool: ThreadPoolExecutor | None = None
        if self._remote:
            self._stats = stats or Stats()
            self._ranges = Ranges(url, stats=self._stats)
            self._cache = Cache(store.cache_folder() / "batches", cache_bytes())

    def __reduce__(self) -> tuple[Any, ...]:
        """As it was before anything was opened."""
        return Shelf, (self.url, self.manifest, self.shards, self.columns)

    def __len__(self) -> int:
        """Record batches."""
        return len(self.places)

    def locate(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which record batch each row lies in, and its place there."""
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        return numbers, rows - self.starts[numbers]

    def open(self, number: int) -> dict[str, Column]:
        """The columns of a record batch. Raises Refusal where it is missing, cut or altered."""
        found = self._opened.get(number)
        if found is not None:
            return found
        with self._locks[number % len(self._locks)]:
            found = self._opened.get(number)
            if found is None:
                shard, place = self.places[number]
                where = store.join(self.url, shard.path)
                message = self._message(number, shard, place, where)
                found = records.read(message, shard, place, self.manifest, where, self.columns)
                self._keep(number, found, shard.batches[place].length)
        return found

    def _keep(self, number: int, columns: dict[str, Column], length: int) -> None:
        """Remember an open record batch; of a remote set the oldest are let go of beyond half of the cache's budget.

        So are those that the cache has evicted: mapped, they would keep their disk space and the cache not its budget.
        """
        self._opened[number] = columns
        if not self._remote:
            return
        with self._lengths_lock:
            self._lengths[number] = length
            self._open_bytes += length
            for old in [*islice(self._lengths, OLDEST)]:
                many = self._open_bytes > self._cache.budget // 2 and len(self._lengths) > FEWEST
                if many or not self._cache.holds(*self._entry(old)):
                    self._open_bytes -= self._lengths.pop(old)
                    self._opened.pop(old, None)

    def prefetch(self, numbers: Iterable[int]) -> None:
        """Start fetching record batches that are not here yet."""
        if not self._remote:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        for number in numbers:
            if number not in self._opened and number not in self._fetching:
                self._fetching[number] = self._pool.submit(self._fetched, number)

    def interrupt(self) -> None:
        """Whoever waits for the network gives up at the next failure, until `close`: a bad one would hold them a whole deadline."""
        if self._remote:
            self._ranges.close()

    def close(self) -> None:
        """Stop fetching. What is open stays open."""
        if self._remote:
            self.interrupt()
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool, self._ranges = None, Ranges(self.url, stats=self._stats)
        self._fetching.clear()

    def _message(self, number: int, shard: Shard, place: int, where: str) -> pa.Buffer:
        if self._remote:
            waiting = self._fetching.pop(number, None)
            return waiting.result() if waiting else self._fetched(number)
        whole = self._mapped.get(shard.path)
        if whole is None:
            whole = self._mapped[shard.path] = _local(
                where, shard, self.columns, self.manifest.shape
            )
        batch = shard.batches[place]
        return whole.slice(batch.offset, batch.length)

    def _fetched(self, number: int) -> pa.Buffer:
        shard, place = self.places[number]
        batch, asked = shard.batches[place], False

        def fetch() -> Iterator[bytes]:
            nonlocal asked
            asked = True
            return self._ranges.pieces(shard.path, batch.offset, batch.length)

        key, length, checksum = self._entry(number)
        try:
            message = self._cache.mapped(key, length, checksum, fetch)
        except Refusal as refusal:
            if refusal.path == key:  # the cache's name of it says little to people
                refusal.path = store.join(self.url, shard.path)
            raise
        self._stats.count(found=not asked)
        return message

    def _entry(self, number: int) -> tuple[str, int, str]:
        """What the cache knows a record batch by."""
        shard, place = self.places[number]
        batch = shard.batches[place]
        return f"{self.manifest.stored}/{shard.path}/{batch.offset}", batch.length, batch.checksum


def _local(
    where: str, shard: Shard, columns: Mapping[str, str], shape: tuple[int, ...]
) -> pa.Buffer:
    """A shard mapped from disk, its size, schema and record batches as the manifest says."""
    path = store.path_of(where)
    with explained("read", where):
        if not path.exists():
            raise Refusal(
                f"shard is missing, the manifest promises {shard.bytes} bytes",
                path=where,
                remedy="copy or pack the data set again",
            )
        actual = path.stat().st_size
        if actual != shard.bytes:
            raise Refusal(
                f"shard has {actual} bytes, the manifest promises {shard.bytes}",
                path=where,
                value=actual,
                remedy="copy or pack the data set again",
            )
        data = pa.memory_map(str(path)).read_buffer()
    try:
        file = pa.ipc.open_file(data)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise records.unfit(where, error) from error
    schema = arrow_schema(columns, shape)
    if not file.schema.equals(schema):
        raise records.lying(where, f"columns {_spelt(file.schema)}", _spelt(schema))
    if file.num_record_batches != len(shard.batches):
        raise records.lying(
            where, f"{file.num_record_batches} record batches", f"{len(shard.batches)}"
        )
    return data


def _spelt(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
