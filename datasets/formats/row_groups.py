"""Pictures in a column of parquet files, which are read a row group at a time."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets import store
from datasets.packed.columns import Array
from datasets.refusal import Refusal
from datasets.remote import Remote, explained, redact

logger = logging.getLogger(__name__)

KEPT_BYTES = 512 * 2**20  # of row groups, in each process that reads
_LARGE_GROUP_BYTES = 256 * 2**20


class ParquetPictures:
    """Rows of a column of bytes, or of structs with `bytes`. A row group is read whole, and the last ones are kept."""

    def __init__(
        self,
        paths: Sequence[str],
        column: str,
        places: Sequence[tuple[int, int, int]],
        names: Array,
    ) -> None:
        self.paths, self.column, self.names = tuple(paths), column, names
        self.places = np.array(places, dtype=np.int32).reshape(-1, 3)  # file, row group, row in it

    def __len__(self) -> int:
        return len(self.places)

    def read(self, row: int) -> bytes:
        file, group, place = (int(number) for number in self.places[row])
        with readable(self.name(row)):
            value = _kept.group(self.paths[file], group, self.column)[place].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes) or not data:
            raise Refusal(
                "the row has no bytes of a picture",
                path=self.name(row),
                remedy="embed the pictures in the files",
            )
        return data

    def name(self, row: int) -> str:
        return str(self.names[row])


class _Kept:
    """The row groups that were read last; one at a time, since a parquet reader serves one thread."""

    def __init__(self) -> None:
        self.lock, self.groups = Lock(), dict[tuple[str, int, str], Any]()

    def group(self, path: str, number: int, column: str) -> Any:
        key = (path, number, column)
        with self.lock:
            if key not in self.groups:
                table = opened(path).read_row_group(number, columns=[column])
                self.groups[key] = table.column(0)
                while (
                    len(self.groups) > 1
                    and sum(kept.nbytes for kept in self.groups.values()) > KEPT_BYTES
                ):
                    del self.groups[next(iter(self.groups))]
            return self.groups[key]


_kept = _Kept()


def places(parquet: pq.ParquetFile, number: int, name: str) -> Iterator[tuple[int, int, int]]:
    """(file, row group, row in it) of each row of the file with this number."""
    groups = [parquet.metadata.row_group(group) for group in range(parquet.num_row_groups)]
    largest = max((group.total_byte_size for group in groups), default=0)
    if largest > _LARGE_GROUP_BYTES:
        logger.warning(
            "%s: row groups of up to %.0f MiB are read whole for a picture: write smaller ones",
            name,
            largest / 2**20,
        )
    for place, group in enumerate(groups):
        yield from ((number, place, row) for row in range(group.num_rows))


def opened(path: str) -> pq.ParquetFile:
    """The file, once a process."""
    return _file(path, os.getpid())


@lru_cache(maxsize=64)
def _file(path: str, process: int) -> pq.ParquetFile:
    return pq.ParquetFile(path, memory_map=True)


def local_copy(url: str) -> str:
    """The file itself, or its copy in the cache folder: pictures are read in any order, a group at a time."""
    if not store.is_remote(url):
        return str(store.path_of(url))
    remote = Remote(url)
    with explained("looked at", url):
        state = remote.system.info(remote.path)
    version = [str(state.get(name)) for name in ("size", "ETag", "LastModified", "blob_id")]
    key = hashlib.sha256("\n".join([url, *version]).encode()).hexdigest()[:16]
    target = store.cache_folder() / "downloads" / f"{key}-{url.rpartition('/')[2]}"
    if not target.exists():
        logger.info("copying %s to %s", redact(url), target)
        store.download(url, target)
    return str(target)


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turns damage into a Refusal that names `path`."""
    try:
        with explained("read", path):
            yield
    except pa.ArrowInvalid as error:
        raise Refusal(
            f"is no parquet file, or a damaged one: {error}",
            path=path,
            remedy="get it again, or write it again",
        ) from error
