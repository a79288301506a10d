"""Packs pictures in files, several shards at a time. What was packed before an interruption is not packed again.

Each shard is a job of its own, and a function of the source, the options and the seed. A finished shard leaves a note
beside the data; the manifest is made of the notes, last, and they are removed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from datasets import order, store
from datasets.packed import manifest as manifests
from datasets.packed.columns import Array, type_of
from datasets.packed.manifest import Json, Manifest, RecordBatch, Shard, Split
from datasets.packing import writing
from datasets.pictures.decode import Undecodable
from datasets.pictures.prepare import Options, Prepared, prepare
from datasets.refusal import Refusal
from datasets.source import Source

BATCH_ROWS = 64
INDEX_ROWS = 65_536
SAMPLE = 256  # pictures looked at to guess how many fit a shard
Progress = Callable[[int, int], None]  # pictures done, of how many


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

    def done(self, job: Job) -> dict[str, Any] | None:
        """The note of a shard that was packed already."""
        url = store.join(self.notes, f"{job.path}.json")
        return dict(json.loads(store.read_bytes(url))) if store.exists(url) else None

    def run(self, job: Job) -> dict[str, Any]:
        """Pack one shard, and note it down."""
        left_out: list[tuple[int, str, str]] = []
        hashes: list[int] = []
        sums = np.zeros((3, self.source.shape[2]), np.int64)
        sizes: list[tuple[int, int]] = []
        kept: list[int] = []
        schema = writing.arrow_schema(self.columns, self.source.shape)

        def batches() -> Iterator[pa.RecordBatch]:
            held: list[tuple[int, Prepared]] = []
            for row in job.rows.tolist():
                try:
                    found = prepare(self._read(row), self.options, self._channels)
                except Undecodable as error:
                    left_out.append((row, self._pictures.name(row), str(error)))
                    continue
                kept.append(row)
                hashes.append(xxhash.xxh3_64_intdigest(found.data))
                sizes.append((found.height, found.width))
                sums.__iadd__(found.sums)
                held.append((row, found))
                full = sum(len(picture.data) for _, picture in held) >= writing.BATCH_BYTES
                if full or len(held) == BATCH_ROWS:
                    yield self._batch(held, schema)
                    held.clear()
            if held:
                yield self._batch(held, schema)

        with tempfile.TemporaryDirectory(prefix="manta-pack-") as folder:
            local = Path(folder, job.path)
            shard = writing.write_shard(local, job.path, batches(), schema)
            if left_out and not self.leave_out:
                raise _undecodable(left_out)
            if kept:
                store.upload(local, store.join(self.url, job.path))
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
    def _pictures(self) -> Any:
        assert self.source.pictures is not None
        return self.source.pictures

    @property
    def _channels(self) -> Any:
        return self.source.shape[2]

    def _read(self, row: int) -> bytes:
        try:
            return bytes(self._pictures.read(row))
        except OSError as error:
            raise Refusal(
                f"cannot be read: {error.strerror or error}",
                path=self._pictures.name(row),
                remedy="check the file; what is packed already is kept",
            ) from error

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


def write(
    url: str,
    source: Source,
    splits: Mapping[str, NDArray[np.int64]],
    *,
    name: str,
    options: Options,
    packed: Mapping[str, Json],
    seed: int,
    workers: int = 1,
    leave_out: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Packs the rows of each split, shuffled by `seed`, by `workers` threads; the manifest comes last.

    Raises Refusal where `url` holds a packed data set or cannot be written, and for pictures that do not decode unless
    they are to be left out. Whatever ends it, the same call goes on where it stopped.
    """
    writing.refuse_occupied(url)
    columns = _columns(source)
    jobs = _jobs(source, splits, seed)
    key = hashlib.sha256()
    decides = [manifests.FORMAT, asdict(options), options.tiled, dict(packed), seed, dict(columns)]
    key.update(json.dumps(decides, sort_keys=True, default=str).encode())
    for job in jobs:
        key.update(job.path.encode() + source.columns["id"][job.rows].tobytes())
    notes = store.join(url, f"{store.TEMPORARY}pack-{key.hexdigest()[:16]}")
    packing = Packing(source, url, options, columns, leave_out, notes)
    found = _run(packing, jobs, workers, progress)
    manifest = _manifest(packing, jobs, found, name=name, packed=packed, seed=seed)
    store.write_bytes(store.join(url, manifests.NAME), manifest.to_json())
    store.remove(notes)
    return manifest


def _columns(source: Source) -> dict[str, str]:
    """Types of all columns as stored, by name in order."""
    types = {name: str(type_of(name, values)) for name, values in source.columns.items()}
    made = {"image": "encoded", "tiles": "tiles", "height": "int64", "width": "int64"}
    return dict(sorted({**types, **made}.items()))


def _jobs(source: Source, splits: Mapping[str, NDArray[np.int64]], seed: int) -> list[Job]:
    assert source.pictures is not None
    every = np.concatenate([*splits.values()])
    # Which pictures are looked at, and so how many fill a shard, is the same on every machine.
    looked = every[order.permutation(len(every), order.key("sample", seed))[:SAMPLE]]
    average = sum(len(source.pictures.read(int(row))) for row in looked) / max(1, len(looked))
    large = average * len(every) >= writing.LARGE_SET_BYTES
    shard_bytes = writing.LARGE_SHARD_BYTES if large else writing.SMALL_SHARD_BYTES
    shard_rows = BATCH_ROWS * max(1, int(shard_bytes / max(1.0, average) / BATCH_ROWS))
    jobs = []
    for split, rows in splits.items():
        shuffled = rows[order.permutation(len(rows), order.key("pack", seed, split))]
        jobs += [
            Job(split, number, shuffled[start : start + shard_rows])
            for number, start in enumerate(range(0, len(rows), shard_rows))
        ]
    return jobs


def _run(
    packing: Packing, jobs: Sequence[Job], workers: int, progress: Progress | None
) -> list[dict[str, Any]]:
    """The notes of all jobs, in their order."""
    total = sum(len(job.rows) for job in jobs)
    notes: dict[int, dict[str, Any]] = {}

    def noted(number: int, note: dict[str, Any]) -> None:
        notes[number] = note
        if progress:
            progress(sum(len(jobs[n].rows) for n in notes), total)

    for number, job in enumerate(jobs):
        if note := packing.done(job):
            noted(number, note)
    left = [number for number in range(len(jobs)) if number not in notes]
    # Threads: what takes the time (jpegtran, decoding, resizing, writing) is done outside Python.
    with ThreadPoolExecutor(workers, "pack") as pool:
        waiting = {pool.submit(packing.run, jobs[number]): number for number in left}
        try:
            for future in as_completed(waiting):
                noted(waiting[future], future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [notes[number] for number in range(len(jobs))]


def _manifest(
    packing: Packing,
    jobs: Sequence[Job],
    notes: Sequence[dict[str, Any]],
    *,
    name: str,
    packed: Mapping[str, Json],
    seed: int,
) -> Manifest:
    source = packing.source
    splits, sums = {}, np.zeros((3, source.shape[2]), np.int64)
    for split in dict.fromkeys(job.split for job in jobs):
        own = [note for job, note in zip(jobs, notes, strict=True) if job.split == split]
        shards = tuple(_shard(note["shard"]) for note in own if note["rows"])
        index = _write_index(packing, split, own) if shards else None
        content = _content(source, own)
        splits[split] = Split(sum(shard.rows for shard in shards), content, shards, index)
        if split == "train":
            sums = np.sum([note["sums"] for note in own], axis=0)
    left_out = [entry for note in notes for entry in note["left_out"]]
    mean, std = _moments(sums)
    stored = "encoded", source.shape, packing.columns, source.classes, splits, mean, std
    return Manifest(
        name=name,
        kind=source.kind,
        codec="encoded",
        shape=source.shape,
        columns=packing.columns,
        classes=source.classes,
        splits=splits,
        mean=mean,
        std=std,
        packed={
            **packed,
            "row_order": {"shuffled_by_seed": seed},
            "pictures": {**asdict(packing.options), "tile": packing.options.tiled},
            "left_out": [f"{name}: {reason}" for _, name, reason in left_out],
        },
        digest=manifests.digest(source.kind, *stored),
    )


def _shard(tree: dict[str, Any]) -> Shard:
    batches = tuple(RecordBatch(**batch) for batch in tree["batches"])
    return Shard(tree["path"], tree["rows"], tree["bytes"], batches)


def _small_columns(source: Source, notes: Sequence[dict[str, Any]]) -> dict[str, Array]:
    """All columns of a split but pictures, in the order of its rows."""
    rows = np.array([row for note in notes for row in note["rows"]], np.int64)
    sizes = np.array([size for note in notes for size in note["sizes"]], np.int64).reshape(-1, 2)
    columns: dict[str, Array] = {name: values[rows] for name, values in source.columns.items()}
    return columns | {"height": sizes[:, 0], "width": sizes[:, 1]}


def _write_index(packing: Packing, split: str, notes: Sequence[dict[str, Any]]) -> Shard:
    names = {
        name: words for name, words in packing.columns.items() if name not in ("image", "tiles")
    }
    schema = writing.arrow_schema(names, packing.source.shape)
    columns, path = _small_columns(packing.source, notes), f"{split}-index.arrow"
    with tempfile.TemporaryDirectory(prefix="manta-pack-") as folder:
        local = Path(folder, path)
        batches = writing.record_batches(columns, schema, INDEX_ROWS)
        shard = writing.write_shard(local, path, batches, schema)
        store.upload(local, store.join(packing.url, path))
    return shard


def _content(source: Source, notes: Sequence[dict[str, Any]]) -> str:
    """A hash of the columns that does not depend on how they are cut into shards."""
    pictures = b"".join(base64.b64decode(note["hashes"]) for note in notes)
    columns = _small_columns(source, notes) | {"image": np.frombuffer(pictures, "<u8")}
    whole = xxhash.xxh3_128()
    for name, values in sorted(columns.items()):
        whole.update(f"{name}:{writing.column_hash(values)};".encode())
    return whole.hexdigest()


def _moments(sums: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of pixels in [0, 1], from exact sums."""
    mean, std = [], []
    for count, total, squares in zip(*(line.tolist() for line in sums), strict=True):
        mean.append(total / (255 * count) if count else 0.0)
        std.append((count * squares - total * total) ** 0.5 / (255 * count) if count else 1.0)
    return tuple(mean), tuple(std)


def _undecodable(left_out: Sequence[tuple[int, str, str]]) -> Refusal:
    _, name, reason = left_out[0]
    more = f" (and {len(left_out) - 1} more in its shard)" if len(left_out) > 1 else ""
    return Refusal(
        f"{reason}{more}",
        path=name,
        remedy="mend or remove it, or leave out what does not decode with --leave-out",
    )
