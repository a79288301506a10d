"""Packs columns into Arrow IPC shards and writes their manifest last."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from datasets import order, store
from datasets.packed import manifest as manifests
from datasets.packed.columns import Array, ColumnType, Kind, type_of
from datasets.packed.manifest import Codec, Json, Manifest, RecordBatch, Shard, Split
from datasets.refusal import Refusal
from datasets.source import Columns

BATCH_ROWS = 1024  # raw small images and tables
BATCH_BYTES = 8 * 2**20
SMALL_SHARD_BYTES, LARGE_SHARD_BYTES = 32 * 2**20, 128 * 2**20
LARGE_SET_BYTES = 4 * 2**30


def write(
    url: str,
    splits: Mapping[str, Columns],
    *,
    name: str,
    kind: Kind,
    shape: tuple[int, ...] = (),
    classes: tuple[str, ...] = (),
    packed: Mapping[str, Json],
    seed: int = 0,
    codec: Codec = "raw",
) -> Manifest:
    """Packs columns in memory, the rows of each split shuffled by `seed`; the manifest comes last.

    Raises Refusal where `url` holds a packed data set already, or cannot be written.
    """
    refuse_occupied(url)
    shuffled = {split: _shuffled(columns, seed, split) for split, columns in splits.items()}
    types = {
        name: str(type_of(name, values)) for name, values in next(iter(shuffled.values())).items()
    }
    total = sum(values.nbytes for columns in shuffled.values() for values in columns.values())
    shard_bytes = SMALL_SHARD_BYTES if total < LARGE_SET_BYTES else LARGE_SHARD_BYTES
    schema, written = arrow_schema(types, shape), {}
    for split, columns in shuffled.items():
        shards = _write_shards(url, split, columns, schema, shard_bytes)
        written[split] = Split(len(columns["id"]), _content(columns), tuple(shards))
    mean, std = _moments(shuffled.get("train", next(iter(shuffled.values()))), kind)
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
        packed={**packed, "row_order": {"shuffled_by_seed": seed}},
        digest=manifests.digest(kind, codec, shape, types, classes, written, mean, std),
    )
    store.write_bytes(store.join(url, manifests.NAME), manifest.to_json())
    return manifest


def refuse_occupied(url: str) -> None:
    if store.exists(store.join(url, manifests.NAME)):
        raise Refusal(
            "there is a packed data set here already",
            path=url,
            value=url,
            remedy="choose another folder or remove this one",
        )


def _write_shards(
    url: str, split: str, columns: Columns, schema: pa.Schema, shard_bytes: int
) -> Iterator[Shard]:
    num_rows = len(columns["id"])
    row_bytes = sum(values[:1].nbytes for values in columns.values()) or 1
    batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // row_bytes))
    # An Arrow message adds under 2 KiB of metadata and padding to its columns.
    shard_rows = batch_rows * max(1, shard_bytes // (batch_rows * row_bytes + 2048))
    with tempfile.TemporaryDirectory(prefix="manta-pack-") as folder:
        for number, start in enumerate(range(0, num_rows, shard_rows)):
            path = f"{split}-{number:05}.arrow"
            local = Path(folder, path)
            part = {name: values[start : start + shard_rows] for name, values in columns.items()}
            shard = write_shard(local, path, record_batches(part, schema, batch_rows), schema)
            store.upload(local, store.join(url, path))
            local.unlink()
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


def _shuffled(columns: Columns, seed: int, split: str) -> dict[str, Array]:
    rows = order.permutation(len(columns["id"]), order.key("pack", seed, split))
    return {name: np.ascontiguousarray(columns[name][rows]) for name in sorted(columns)}


def _content(columns: Columns) -> str:
    """A hash of the columns that does not depend on how they are cut into shards."""
    whole = xxhash.xxh3_128()
    for name, values in sorted(columns.items()):
        whole.update(f"{name}:{column_hash(values)};".encode())
    return whole.hexdigest()


def column_hash(values: Array) -> str:
    """Of numbers the hash of their bytes, of text that of its words, each with its length."""
    if values.dtype.kind in "UO":
        words = [str(value).encode() for value in values]
        return xxhash.xxh3_128_hexdigest(b"".join(b"%d:%b" % (len(word), word) for word in words))
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(values).data)


def _moments(columns: Columns, kind: Kind) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, from exact counts: equal on every machine."""
    if kind != "image":
        return (), ()
    mean, std = [], []
    for channel in np.moveaxis(columns["image"], -1, 0):
        counts = [int(count) for count in np.bincount(channel.reshape(-1), minlength=256)]
        num, total = sum(counts), sum(v * n for v, n in enumerate(counts))
        squares = sum(v * v * n for v, n in enumerate(counts))
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
