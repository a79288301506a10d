"""Shards of pictures in files, each a job of its own: a function of the source, the options and the seed.

A finished job leaves a note beside the data, so that it is not done again; whoever runs jobs, threads or other machines,
needs only `Packing`, which travels.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from datasets import store
from datasets.packing import writing
from datasets.pictures.decode import Undecodable
from datasets.pictures.prepare import LOOKED, Options, Prepared, prepare
from datasets.refusal import Refusal
from datasets.source import Pictures, Source

Note: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One shard to be."""

    split: str
    number: int
    rows: NDArray[np.int64]  # of the source, in the order of the shard

    @property
    def path(self) -> str:
        return f"{self.split}-{self.number:05}.arrow"


@dataclass(frozen=True)
class Packing:
    """What every job needs to know."""

    source: Source
    url: str
    options: Options
    columns: Mapping[str, str]
    leave_out: bool
    notes: str  # the folder of notes

    def done(self, job: Job) -> Note | None:
        """The note of a shard that was packed already."""
        url = store.join(self.notes, f"{job.path}.json")
        return dict(json.loads(store.read_bytes(url))) if store.exists(url) else None

    def run(self, job: Job) -> Note:
        """Pack one shard, and note it down."""
        left_out: list[tuple[int, str, str]] = []
        hashes: list[int] = []
        sums = np.zeros((3, self.source.shape[2]), np.int64)
        sizes: list[tuple[int, int]] = []
        kept: list[int] = []
        schema = writing.arrow_schema(self.columns, self.source.shape)

        def batches() -> Iterator[pa.RecordBatch]:
            held: list[tuple[int, Prepared]] = []
            for place, row in enumerate(job.rows.tolist()):
                look = self.options.checked or place % LOOKED == 0
                try:
                    data = read(self._pictures, row)
                    found = prepare(data, self.options, self._channels, look=look)
                except Undecodable as error:
                    left_out.append((row, self._pictures.name(row), str(error)))
                    continue
                kept.append(row)
                hashes.append(xxhash.xxh3_64_intdigest(found.data))
                sizes.append((found.height, found.width))
                sums.__iadd__(found.sums)
                held.append((row, found))
                full = sum(len(picture.data) for _, picture in held) >= writing.BATCH_BYTES
                if full or len(held) == writing.PICTURE_ROWS:
                    yield self._batch(held, schema)
                    held.clear()
            if held:
                yield self._batch(held, schema)

        target = store.join(self.url, job.path)
        with store.placing(target) as local:
            shard = writing.write_shard(local, job.path, batches(), schema)
            if left_out and not self.leave_out:
                raise undecodable([(name, reason) for _, name, reason in left_out])
        if not kept:
            store.remove(target)
        note = {
            "shard": asdict(shard),
            "rows": kept,
            "sizes": sizes,
            "hashes": base64.b64encode(np.array(hashes, "<u8").tobytes()).decode(),
            "sums": sums.tolist(),
            "left_out": left_out,
        }
        store.write_bytes(store.join(self.notes, f"{job.path}.json"), json.dumps(note).encode())
        return note

    @property
    def _pictures(self) -> Pictures:
        assert self.source.pictures is not None
        return self.source.pictures

    @property
    def _channels(self) -> Any:
        return self.source.shape[2]

    def _batch(self, held: Sequence[tuple[int, Prepared]], schema: pa.Schema) -> pa.RecordBatch:
        rows = np.array([row for row, _ in held], np.int64)
        pictures = [picture for _, picture in held]
        made: dict[str, Any] = {
            "height": np.array([picture.height for picture in pictures], np.int64),
            "width": np.array([picture.width for picture in pictures], np.int64),
        }
        arrays = []
        for field in schema:
            if field.name == "image":
                arrays.append(pa.array([picture.data for picture in pictures], field.type))
            elif field.name == "tiles":
                arrays.append(pa.array([picture.tiles for picture in pictures], field.type))
            else:
                values = made.get(field.name)
                values = self.source.columns[field.name][rows] if values is None else values
                arrays.append(writing.arrow(values, field.type))
        return pa.record_batch(arrays, schema=schema)


# Runs jobs wherever they run, each once, and yields the place of each and its note as they are done.
Runner: TypeAlias = Callable[[Packing, Sequence[Job]], Generator[tuple[int, Note]]]


def in_threads(num: int) -> Runner:
    """Threads of this process: what takes the time (jpegtran, decoding, resizing, writing) is done outside Python."""

    def run(packing: Packing, jobs: Sequence[Job]) -> Generator[tuple[int, Note]]:
        with ThreadPoolExecutor(num, "pack") as pool:
            waiting = {pool.submit(packing.run, job): place for place, job in enumerate(jobs)}
            try:
                for future in as_completed(waiting):
                    yield waiting[future], future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    return run


def read(pictures: Pictures, row: int) -> bytes:
    """The bytes of a picture. Raises Refusal where they cannot be had."""
    try:
        return bytes(pictures.read(row))
    except OSError as error:
        raise Refusal(
            f"cannot be read: {error.strerror or error}",
            path=pictures.name(row),
            remedy="check the file; what is packed already is kept",
        ) from error


def undecodable(found: Sequence[tuple[str, str]]) -> Refusal:
    """What to say of (name, reason) of pictures that do not decode."""
    name, reason = found[0]
    more = f" (and {len(found) - 1} more with it)" if len(found) > 1 else ""
    return Refusal(
        f"{reason}{more}",
        path=name,
        remedy="mend or remove it, or leave out what does not decode: data.leave_out=true, or pack with --leave-out",
    )
