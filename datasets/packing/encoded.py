"""Packs pictures in files, several shards at a time. What was packed before an interruption is not packed again.

The manifest is made of the notes that the jobs leave (jobs.py), last, and they are removed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from datasets import order, store
from datasets.packed import folds, leaks
from datasets.packed import manifest as manifests
from datasets.packed.columns import Array, type_of
from datasets.packed.manifest import Json, Manifest, RecordBatch, Shard, Split
from datasets.packing import writing
from datasets.packing.jobs import Job, Note, Packing, Runner, in_threads, read
from datasets.pictures.prepare import Options
from datasets.progress import Progress
from datasets.source import Source

INDEX_ROWS = 65_536
SAMPLE = 256  # pictures looked at to guess how many fit a shard


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
    runner: Runner | None = None,
    leave_out: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Packs the rows of each split, shuffled by `seed`, by `workers` threads or by `runner`; the manifest comes last.

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
    found = _run(packing, jobs, runner or in_threads(workers), progress)
    manifest = _manifest(packing, jobs, found, name=name, packed=packed, seed=seed)
    writing.finish(url, manifest)
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
    average = sum(len(read(source.pictures, row)) for row in looked.tolist()) / max(1, len(looked))
    large = average * len(every) >= writing.LARGE_SET_BYTES
    shard_bytes = writing.LARGE_SHARD_BYTES if large else writing.SMALL_SHARD_BYTES
    shard_rows = writing.PICTURE_ROWS * max(
        1, int(shard_bytes / max(1.0, average) / writing.PICTURE_ROWS)
    )
    jobs = []
    for split, rows in splits.items():
        shuffled = rows[order.permutation(len(rows), order.key("pack", seed, split))]
        jobs += [
            Job(split, number, shuffled[start : start + shard_rows])
            for number, start in enumerate(range(0, len(rows), shard_rows))
        ]
    return jobs


def _run(
    packing: Packing, jobs: Sequence[Job], runner: Runner, progress: Progress | None
) -> list[Note]:
    """The notes of all jobs, in their order."""
    total, done = sum(len(job.rows) for job in jobs), 0
    notes: dict[int, Note] = {}

    def noted(number: int, note: Note) -> None:
        nonlocal done
        notes[number] = note
        done += len(jobs[number].rows)
        if progress:
            progress(done, total)

    for number, job in enumerate(jobs):
        if note := packing.done(job):
            noted(number, note)
    left = [number for number in range(len(jobs)) if number not in notes]
    # Closed at once when something goes wrong: nobody goes on packing behind the error.
    with closing(runner(packing, [jobs[number] for number in left])) as running:
        for place, note in running:
            noted(left[place], note)
    return [notes[number] for number in range(len(jobs))]


def _manifest(
    packing: Packing,
    jobs: Sequence[Job],
    notes: Sequence[Note],
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
        index = (_write_index(packing, split, own),) if shards else ()
        content = _content(source, own)
        splits[split] = Split(sum(shard.rows for shard in shards), content, shards, index)
        if folds.is_learnt(split):
            sums += np.sum([note["sums"] for note in own], axis=0)
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
            "leaks": _leaks(source, jobs, notes),
            "left_out": [f"{name}: {reason}" for _, name, reason in left_out],
        },
        digest=manifests.digest(source.kind, *stored),
    )


def _shard(tree: dict[str, Any]) -> Shard:
    batches = tuple(RecordBatch(**batch) for batch in tree["batches"])
    return Shard(tree["path"], tree["rows"], tree["bytes"], batches)


def _small_columns(source: Source, notes: Sequence[Note]) -> dict[str, Array]:
    """All columns of a split but pictures, in the order of its rows."""
    rows = np.array([row for note in notes for row in note["rows"]], np.int64)
    sizes = np.array([size for note in notes for size in note["sizes"]], np.int64).reshape(-1, 2)
    columns: dict[str, Array] = {name: values[rows] for name, values in source.columns.items()}
    return columns | {"height": sizes[:, 0], "width": sizes[:, 1]}


def _write_index(packing: Packing, split: str, notes: Sequence[Note]) -> Shard:
    names = {
        name: words for name, words in packing.columns.items() if name not in ("image", "tiles")
    }
    schema = writing.arrow_schema(names, packing.source.shape)
    columns, path = _small_columns(packing.source, notes), f"{split}-index.arrow"
    with store.placing(store.join(packing.url, path)) as local:
        batches = writing.record_batches(columns, schema, INDEX_ROWS)
        return writing.write_shard(local, path, batches, schema)


def _content(source: Source, notes: Sequence[Note]) -> str:
    """A hash of the columns that does not depend on how they are cut into shards."""
    columns = _small_columns(source, notes) | {"image": _hashes(notes)}
    whole = xxhash.xxh3_128()
    for name, values in sorted(columns.items()):
        whole.update(f"{name}:{writing.column_hash([values])};".encode())
    return whole.hexdigest()


def _hashes(notes: Sequence[Note]) -> NDArray[np.uint64]:
    """Those of the pictures as they are stored, (N,)."""
    return np.frombuffer(b"".join(base64.b64decode(note["hashes"]) for note in notes), "<u8")


def _leaks(source: Source, jobs: Sequence[Job], notes: Sequence[Note]) -> Json:
    by_split: dict[str, list[Note]] = {}
    for job, note in zip(jobs, notes, strict=True):
        by_split.setdefault(job.split, []).append(note)
    hashes = {split: _hashes(own) for split, own in by_split.items()}
    rows = {
        split: np.array([row for note in own for row in note["rows"]], np.int64)
        for split, own in by_split.items()
    }
    ids = source.columns["id"]
    return leaks.find(hashes, {split: ids[own] for split, own in rows.items()})


def _moments(sums: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of pixels in [0, 1], from exact sums."""
    mean, std = [], []
    for count, total, squares in zip(*(line.tolist() for line in sums), strict=True):
        mean.append(total / (255 * count) if count else 0.0)
        std.append((count * squares - total * total) ** 0.5 / (255 * count) if count else 1.0)
    return tuple(mean), tuple(std)
