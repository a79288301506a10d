"""Packs columns into Arrow IPC shards and writes their manifest last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from datasets import order, store
from datasets.packed import folds, leaks
from datasets.packed import manifest as manifests
from datasets.packed.columns import Array, ColumnType, Kind, type_of
from datasets.packed.manifest import Codec, Json, Manifest, RecordBatch, Shard, Split
from datasets.refusal import Refusal
from datasets.source import Columns

BATCH_ROWS = 1024  # raw small images and tables
PICTURE_ROWS = 64  # of a record batch of pictures in files
BATCH_BYTES = 8 * 2**20
SMALL_SHARD_BYTES, LARGE_SHARD_BYTES = 32 * 2**20, 128 * 2**20
LARGE_SET_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Part:
    """Rows of columns in memory or mapped from a file, copied out piece by piece."""

    columns: Columns
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, start: int, stop: int) -> dict[str, Array]:
        return {name: self.column(name, start, stop) for name in sorted(self.columns)}

    def column(self, name: str, start: int, stop: int) -> Array:
        return np.ascontiguousarray(self.columns[name][self.rows[start:stop]])

    def pieces(self, name: str) -> Iterator[Array]:
        """A column, a few MiB at a time."""
        row_bytes = max(1, self.columns[name][:1].nbytes)
        step = max(1, BATCH_BYTES // row_bytes)
        for start in range(0, len(self), step):
            yield self.column(name, start, start + step)


def write(
    url: str,
    splits: Mapping[str, Columns],
    *,
    rows: Mapping[str, NDArray[np.int64]] | None = None,
    name: str,
    kind: Kind,
    shape: tuple[int, ...] = (),
    classes: tuple[str, ...] = (),
    packed: Mapping[str, Json],
    seed: int = 0,
    codec: Codec = "raw",
) -> Manifest:
    """Packs columns in memory or mapped, all rows of each split or those given, shuffled by `seed`; the manifest comes last.

    Raises Refusal where `url` holds a packed data set already, or cannot be written.
    """
    refuse_occupied(url)
    chosen = rows or {split: np.arange(len(columns["id"])) for split, columns in splits.items()}
    parts = {
        split: _shuffled(columns, chosen[split], seed, split) for split, columns in splits.items()
    }
    first = next(iter(parts.values())).columns
    types = {name: str(type_of(name, first[name])) for name in sorted(first)}
    total = sum(_row_bytes(part) * len(part) for part in parts.values())
    shard_bytes = SMALL_SHARD_BYTES if total < LARGE_SET_BYTES else LARGE_SHARD_BYTES
    schema, written = arrow_schema(types, shape), {}
    for split, part in parts.items():
        shards = _write_shards(url, split, part, schema, shard_bytes)
        written[split] = Split(len(part), _content(part), tuple(shards))
    mean, std = _moments(parts, shape) if kind == "image" else ((), ())
    known = {"leaks": _leaks(parts)} if kind == "image" else {}
    manifest = Manifest(
        name=name,
        kind=kind,
        codec=codec,
        shape=shape,
        columns=types,
        classes=classes,
        splits=written,
        mean=mean,
        std=std,
        packed={**packed, **known, "row_order": {"shuffled_by_seed": seed}},
        digest=manifests.digest(kind, codec, shape, types, classes, written, mean, std),
    )
    finish(url, manifest)
    return manifest


def finish(url: str, manifest: Manifest) -> None:
    """The set is there from here on; what killed packers left in its folder goes."""
    store.write_bytes(store.join(url, manifests.NAME), manifest.to_json())
    store.sweep(url, deep=False)


def refuse_occupied(url: str) -> None:
    """Refuse a place that is none, holds a packed set, or holds what no packing left there."""
    if not url.strip() or url.startswith(("http://", "https://")):
        raise Refusal(
            "is no place that can be written to" if url.strip() else "names no place",
            path=url or "URL",
            value=url,
            remedy="name a folder, or s3://bucket/set",
        )
    found = store.names(url)
    if manifests.NAME in found:
        raise Refusal(
            "there is a packed data set here already",
            path=url,
            value=url,
            remedy="choose another folder or remove this one",
        )
    if others := [name for name in found if not name.endswith(".arrow")]:
        raise Refusal(
            f"holds other things, '{others[0]}' among them",
            path=url,
            value=others[0],
            remedy="name an empty or a new folder",
        )


def _write_shards(
    url: str, split: str, rows: Part, schema: pa.Schema, shard_bytes: int
) -> Iterator[Shard]:
    row_bytes = _row_bytes(rows) or 1
    batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // row_bytes))
    # An Arrow message adds under 2 KiB of metadata and padding to its columns.
    shard_rows = batch_rows * max(1, shard_bytes // (batch_rows * row_bytes + 2048))
    for number, start in enumerate(range(0, len(rows), shard_rows)):
        path = f"{split}-{number:05}.arrow"
        part = rows.cut(start, start + shard_rows)
        with store.placing(store.join(url, path)) as local:
            shard = write_shard(local, path, record_batches(part, schema, batch_rows), schema)
        yield shard


def write_shard(
    local: Path, path: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Shard:
    """An Arrow IPC file of these record batches; `path` is what the manifest calls it."""
    ranges = []
    with pa.OSFile(str(local), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            length = pa.ipc.get_record_batch_size(batch)
            ranges.append((sink.tell() - length, length, batch.num_rows))
    with pa.memory_map(str(local)) as file:
        data = file.read_buffer()
        written = tuple(
            RecordBatch(offset, length, rows, xxhash.xxh3_64_hexdigest(data.slice(offset, length)))
            for offset, length, rows in ranges
        )
        return Shard(path, sum(batch.rows for batch in written), len(data), written)


def record_batches(
    columns: Columns, schema: pa.Schema, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Columns in memory, cut into record batches."""
    for start in range(0, len(columns["id"]), batch_rows):
        part = {name: values[start : start + batch_rows] for name, values in columns.items()}
        yield pa.record_batch(
            [arrow(part[n], schema.field(n).type) for n in schema.names], schema=schema
        )


def _shuffled(columns: Columns, rows: NDArray[np.int64], seed: int, split: str) -> Part:
    return Part(columns, rows[order.permutation(len(rows), order.key("pack", seed, split))])


def _row_bytes(part: Part) -> int:
    return sum(values[:1].nbytes for values in part.columns.values()) if len(part) else 0


def _content(part: Part) -> str:
    """A hash of the columns that does not depend on how they are cut into shards."""
    whole = xxhash.xxh3_128()
    for name in sorted(part.columns):
        whole.update(f"{name}:{column_hash(part.pieces(name))};".encode())
    return whole.hexdigest()


def _leaks(parts: Mapping[str, Part]) -> Json:
    hashes = {
        split: np.array(
            [xxhash.xxh3_64_intdigest(row) for rows in part.pieces("image") for row in rows],
            np.uint64,
        )
        for split, part in parts.items()
    }
    return leaks.find(
        hashes, {split: part.columns["id"][part.rows] for split, part in parts.items()}
    )


def column_hash(pieces: Iterable[Array]) -> str:
    """Of numbers the hash of their bytes, of text that of its words, each with its length."""
    found = xxhash.xxh3_128()
    for values in pieces:
        if values.dtype.kind in "UO":
            words = [str(value).encode() for value in values]
            found.update(b"".join(b"%d:%b" % (len(word), word) for word in words))
        else:
            found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()


def _moments(
    parts: Mapping[str, Part], shape: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of what is learnt from, by exact counts: equal on every machine."""
    learnt = [part for split, part in parts.items() if folds.is_learnt(split)]
    counts = np.zeros((shape[2], 256), np.int64)
    for part in learnt or [next(iter(parts.values()))]:
        for pixels in part.pieces("image"):
            for channel, counted in zip(np.moveaxis(pixels, -1, 0), counts, strict=True):
                counted += np.bincount(channel.reshape(-1), minlength=256)
    mean, std = [], []
    for by_value in counts.tolist():  # as Python's integers, which know no overflow
        num, total = sum(by_value), sum(v * n for v, n in enumerate(by_value))
        squares = sum(v * v * n for v, n in enumerate(by_value))
        mean.append(total / (255 * num))
        std.append((num * squares - total * total) ** 0.5 / (255 * num))
    return tuple(mean), tuple(std)


def arrow_schema(columns: Mapping[str, str], shape: tuple[int, ...]) -> pa.Schema:
    """How the columns lie in a shard."""
    fields = []
    for name, words in columns.items():
        kind = ColumnType.parse(words)
        assert kind is not None, f"'{words}' is no type of a column"
        fields.append(pa.field(name, kind.arrow(name, shape), nullable=False))
    return pa.schema(fields)


def arrow(values: Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_large_string(kind):
        return pa.array([str(value) for value in values], kind)
    values = np.ascontiguousarray(values)
    if pa.types.is_fixed_size_list(kind):
        flat = pa.Array.from_buffers(kind.value_type, values.size, [None, pa.py_buffer(values)])
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
