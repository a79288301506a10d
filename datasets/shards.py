"""Packed data sets: Arrow IPC shards beside a manifest that is written last.

Record batches are read by their byte range and checked against their checksum, so that a shard is
never believed either. Column `image` is FixedSizeBinary of H*W*C raw uint8.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from datasets import manifest as manifests
from datasets import store
from datasets.manifest import Manifest, RecordBatch, Shard, Split
from datasets.refusal import Refusal
from datasets.remote import explained
from datasets.source import Array
from datasets.writing import arrow_schema, write

__all__ = ["Dataset", "Manifest", "RecordBatch", "Shard", "Split", "open_dataset", "write"]

logger = logging.getLogger(__name__)


class Dataset:
    """A packed data set, opened: its manifest, and columns that are loaded when first asked for."""

    def __init__(self, url: str, manifest: Manifest) -> None:
        self.url, self.manifest = url, manifest
        self._loaded: dict[str, dict[str, Array]] = {}

    def columns(self, split: str) -> dict[str, Array]:
        """Whole columns of a split, read-only: image (N, H, W, C) uint8, label and id (N,) int64.

        Raises Refusal for an unknown split and for a shard that is missing, cut or altered.
        """
        if split not in self._loaded:
            shards = self.manifest.split(split).shards
            parts = [part for shard in shards for part in self._read(shard)]
            self._loaded[split] = {
                name: _joined([part[name] for part in parts], np.dtype(kind), self._inner(name))
                for name, kind in self.manifest.columns.items()
            }
        return dict(self._loaded[split])

    def _inner(self, column: str) -> tuple[int, ...]:
        return self.manifest.shape if column == "image" else ()

    def _read(self, shard: Shard) -> list[dict[str, Array]]:
        url = store.join(self.url, shard.path)
        if not store.is_remote(url):
            return self._decode(shard, _mapped(store.path_of(url), shard, url), url)
        cached = store.cache_folder() / "shards" / self.manifest.digest / shard.path
        if cached.exists():
            try:
                return self._decode(shard, _mapped(cached, shard, str(cached)), str(cached))
            except Refusal as refusal:
                logger.warning("cached shard is damaged, downloading it again: %s", refusal)
        if not store.exists(url):
            raise _missing(shard, url)
        store.download(url, cached)
        return self._decode(shard, _mapped(cached, shard, url), url)

    def _decode(self, shard: Shard, data: pa.Buffer, where: str) -> list[dict[str, Array]]:
        """One dict of zero-copy arrays per record batch, each checked first."""
        schema, parts = arrow_schema(self.manifest.columns, self.manifest.shape), []
        try:
            file = pa.ipc.open_file(data)
            if not file.schema.equals(schema):
                raise _lying(where, f"columns {_spelt(file.schema)}", _spelt(schema))
            held = file.num_record_batches
            if held != len(shard.batches):
                raise _lying(where, f"{held} record batches", f"{len(shard.batches)}")
            for number, batch in enumerate(shard.batches):
                message = data.slice(batch.offset, batch.length)
                actual = xxhash.xxh3_64_hexdigest(message)
                if actual != batch.checksum:
                    raise Refusal(
                        f"record batch {number} has checksum {actual}, expected {batch.checksum}",
                        path=where,
                        value=actual,
                        remedy="the shard is damaged: copy or pack it again",
                    )
                table = pa.ipc.read_record_batch(message, schema)
                table.validate()
                if table.num_rows != batch.rows:
                    raise _lying(
                        where, f"{table.num_rows} rows in record batch {number}", f"{batch.rows}"
                    )
                parts.append({name: self._array(table, name, where) for name in table.schema.names})
        except Refusal:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Refusal(
                f"is not an Arrow file that fits the manifest: {error}",
                path=where,
                remedy="pack the data set again",
            ) from error
        return parts

    def _array(self, table: pa.RecordBatch, name: str, where: str) -> Array:
        column = table.column(name)
        if column.null_count:
            raise _lying(where, f"{column.null_count} empty values in '{name}'", "none")
        kind, inner = np.dtype(self.manifest.columns[name]), self._inner(name)
        width = int(np.prod(inner, dtype=np.int64))
        data = column.buffers()[1] or b""
        array = np.frombuffer(data, kind, count=table.num_rows * width, offset=0)
        if name == "label" and not _within(array, len(self.manifest.classes)):
            raise _lying(
                where,
                f"labels {array.min()} .. {array.max()}",
                f"{len(self.manifest.classes)} classes",
            )
        return array.reshape(table.num_rows, *inner)


def open_dataset(url: str) -> Dataset:
    """Reads the manifest alone. Raises Refusal where there is none, or it is not true."""
    return Dataset(url, manifests.read(url))


def _mapped(path: Path, shard: Shard, where: str) -> pa.Buffer:
    """The shard's bytes, mapped from disk; Refusal where they are absent or not as many as said."""
    with explained("read", where):
        if not path.exists():
            raise _missing(shard, where)
        actual = path.stat().st_size
        if actual != shard.bytes:
            raise Refusal(
                f"shard has {actual} bytes, the manifest promises {shard.bytes}",
                path=where,
                value=actual,
                remedy="copy or pack the data set again",
            )
        return pa.memory_map(str(path)).read_buffer()


def _missing(shard: Shard, where: str) -> Refusal:
    return Refusal(
        f"shard is missing, the manifest promises {shard.bytes} bytes",
        path=where,
        remedy="copy or pack the data set again",
    )


def _spelt(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _joined(parts: list[Array], kind: np.dtype[np.generic], inner: tuple[int, ...]) -> Array:
    """One array; a single part stays the mapped file itself."""
    whole = parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, *inner), kind), *parts])
    whole.flags.writeable = False
    return whole


def _within(labels: Array, num_classes: int) -> bool:
    return not len(labels) or bool(labels.min() >= 0 and labels.max() < num_classes)


def _lying(where: str, found: str, promised: str) -> Refusal:
    return Refusal(
        f"holds {found}, the manifest promises {promised}",
        path=where,
        value=found,
        remedy="pack the data set again",
    )
