"""One record batch of a shard: the unit of fetch and of checksum, from checked bytes to columns without a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from datasets.packed.columns import Array, ColumnType
from datasets.packed.manifest import Manifest, Shard
from datasets.packing.writing import arrow_schema
from datasets.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths, end to end: row i is `values[offsets[i]:offsets[i + 1]]`, a view."""

    offsets: NDArray[np.int64]
    values: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Array:
        return self.values[self.offsets[row] : self.offsets[row + 1]]


Column: TypeAlias = Array | Ragged


def read(
    message: pa.Buffer,
    shard: Shard,
    number: int,
    manifest: Manifest,
    where: str,
    names: Mapping[str, str] | None = None,
) -> dict[str, Column]:
    """The columns of record batch `number` of a shard: arrays (rows, ...), text as objects, encoded pictures and tiles as `Ragged`.

    `names` are the columns of the shard where it has not all of the manifest's. Raises Refusal, naming `where`, for bytes whose checksum, schema, rows or values are not what the manifest promises.
    """
    batch = shard.batches[number]
    actual = xxhash.xxh3_64_hexdigest(message)
    if actual != batch.checksum:
        raise Refusal(
            f"record batch {number} has checksum {actual}, expected {batch.checksum}",
            path=where,
            value=actual,
            remedy="the shard is damaged: copy or pack it again",
        )
    try:
        schema = arrow_schema(names or manifest.columns, manifest.shape)
        table = pa.ipc.read_record_batch(message, schema)
        table.validate()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unfit(where, error) from error
    if table.num_rows != batch.rows:
        raise lying(
            where,
            f"{table.num_rows} rows in record batch {number}",
            f"{batch.rows}",
        )
    columns = {
        name: _column(table.column(name), name, manifest, where) for name in table.schema.names
    }
    labels = columns.get("label")
    if isinstance(labels, np.ndarray) and not _within(labels, len(manifest.classes)):
        raise lying(
            where, f"labels {labels.min()} .. {labels.max()}", f"{len(manifest.classes)} classes"
        )
    return columns


def joined(parts: list[Array], kind: str, inner: tuple[int, ...]) -> Array:
    """One read-only array; a single part stays the mapped file itself."""
    dtype = np.dtype(object) if kind == "string" else np.dtype(kind)
    whole = parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, *inner), dtype), *parts])
    whole.flags.writeable = False
    return whole


def unfit(where: str, error: Exception) -> Refusal:
    return Refusal(
        f"is not an Arrow file that fits the manifest: {error}",
        path=where,
        remedy="pack the data set again",
    )


def lying(where: str, found: str, promised: str) -> Refusal:
    return Refusal(
        f"holds {found}, the manifest promises {promised}",
        path=where,
        value=found,
        remedy="pack the data set again",
    )


def _column(column: pa.Array, name: str, manifest: Manifest, where: str) -> Column:
    if column.null_count:
        raise lying(where, f"{column.null_count} empty values in '{name}'", "none")
    kind = ColumnType.parse(manifest.columns[name])
    assert kind is not None, "the manifest was checked"
    if kind.kind == "string":
        return np.array(
            column.to_pylist(), object
        )  # to_numpy would import pandas: a third of a second
    if kind.kind in ("encoded", "tiles"):
        return _ragged(column, kind.kind, where)
    inner = manifest.shape if name == "image" else kind.inner
    width = int(np.prod(inner, dtype=np.int64))
    # The values' buffer comes last, whether the rows are numbers, lists of them or fixed-size bytes.
    data = column.buffers()[-1]
    array = np.frombuffer(data, kind.kind) if data else np.empty(0, kind.kind)
    needed = len(column) * width
    # Arrow pads a buffer to 64 bytes; more than that, and the schema is another.
    if not needed <= len(array) < needed + 64:
        raise lying(where, f"{len(array)} values in '{name}'", f"{needed}")
    return array[:needed].reshape(len(column), *inner)


def _ragged(column: pa.Array, kind: str, where: str) -> Ragged:
    buffers = column.buffers()
    offsets = np.frombuffer(buffers[1] or b"", np.int64, count=len(column) + 1)
    values = np.frombuffer(buffers[-1] or b"", np.uint8 if kind == "encoded" else np.uint32)
    # A checksum shows that the bytes are those that were packed, not that whoever packed them meant well.
    if offsets[0] < 0 or offsets[-1] > len(values) or (np.diff(offsets) < 0).any():
        raise lying(where, "offsets beyond its bytes", "rows within them")
    return Ragged(offsets, values)


def _within(labels: Array, num_classes: int) -> bool:
    return not len(labels) or bool(labels.min() >= 0 and labels.max() < num_classes)
