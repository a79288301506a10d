"""Packed data sets: Arrow IPC shards beside a manifest that is written last."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets import store
from datasets.fetching.ranges import Stats
from datasets.packed import folds, reading, records
from datasets.packed.columns import Array, ColumnType
from datasets.packed.manifest import Manifest, RecordBatch, Shard, Split
from datasets.packed.records import Ragged
from datasets.packed.shelf import Books, Shelf
from datasets.packing.writing import write
from datasets.pictures.decode import Channels, Undecodable, decode
from datasets.refusal import Refusal

logger = logging.getLogger(__name__)

__all__ = [
    "Dataset",
    "Manifest",
    "RecordBatch",
    "Shard",
    "Split",
    "open_dataset",
    "open_fold",
    "write",
]


class Dataset:
    """A packed data set, opened: its manifest, and rows that are read when first asked for.

    `stats` counts what was fetched for it, over all splits; None for a local one.
    """

    def __init__(self, url: str, manifest: Manifest) -> None:
        self.url, self.manifest = url, manifest
        self.stats = Stats() if store.is_remote(url) else None
        self._loaded: dict[str, dict[str, Array]] = {}
        self._shelves: dict[str, Shelf] = {}
        self._decoded: dict[str, dict[int, Array] | None] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """As it was when it was opened, whatever has been read since."""
        return type(self), (self.url, self.manifest)

    def shelf(self, split: str) -> Books:
        """Rows of a split by their number. Raises Refusal for an unknown split."""
        if split not in self._shelves:
            shards = self.manifest.split(split).shards
            self._shelves[split] = Shelf(self.url, self.manifest, shards, stats=self.stats)
        return self._shelves[split]

    def columns(self, split: str) -> dict[str, Array]:
        """Whole columns of a split, read-only: image (N, H, W, C) uint8, label and id (N,) int64; no encoded pictures.

        Raises Refusal for an unknown split and for a shard that is missing, cut or altered.
        """
        if split not in self._loaded:
            shelf: Books = self._index(split) or self.shelf(split)
            shelf.prefetch(range(len(shelf)))
            parts = [shelf.open(number) for number in range(len(shelf))]
            shelf.close()
            self._loaded[split] = {
                name: records.joined([part[name] for part in parts], kind.kind, inner)  # type: ignore[misc]
                for name, kind, inner in self._types()
                if kind.kind not in ("encoded", "tiles")
            }
        return dict(self._loaded[split])

    def _index(self, split: str) -> Shelf | None:
        index = self.manifest.split(split).index
        if not index:
            return None
        columns = indexed(self.manifest.columns)
        return Shelf(self.url, self.manifest, index, columns, stats=self.stats)

    def decoded(self, split: str, budget: int) -> dict[int, Array] | None:
        """Where a split's pictures stay decoded, by row; None where `budget` bytes do not hold them all, with a warning."""
        if not budget:
            return None
        if split not in self._decoded:
            columns = self.columns(split)
            needed = int((columns["height"] * columns["width"]).sum()) * self.manifest.shape[2]
            self._decoded[split] = {} if needed <= budget else None
            if needed > budget:
                logger.warning(
                    "decoded, the pictures of split '%s' have %d bytes, more than "
                    "scale.decoded_bytes=%d: none are kept",
                    split,
                    needed,
                    budget,
                )
        return self._decoded[split]

    def picture(self, split: str, row: int) -> Array:
        """One picture as it is stored, (H, W, C) uint8. Raises Refusal where it does not decode."""
        if self.manifest.codec == "raw":
            whole: Array = self.columns(split)["image"][row]
            return whole
        shelf = self.shelf(split)
        numbers, places = shelf.locate(np.array([row]))
        columns = shelf.open(int(numbers[0]))
        pictures = columns["image"]
        assert isinstance(pictures, Ragged)
        channels: Channels = 1 if self.manifest.shape[2] == 1 else 3
        place = int(places[0])
        try:
            return decode(pictures[place].tobytes(), channels)
        except Undecodable as error:
            raise Refusal(
                f"the picture with id {int(columns['id'][place])} {error}",
                path=self.url,
                remedy="pack the data set again, leaving out what does not decode",
            ) from error

    def _types(self) -> list[tuple[str, ColumnType, tuple[int, ...]]]:
        types = []
        for name, words in self.manifest.columns.items():
            kind = ColumnType.parse(words)
            assert kind is not None, "the manifest was checked"
            types.append((name, kind, self.manifest.shape if name == "image" else kind.inner))
        return types


def indexed(columns: Mapping[str, str]) -> dict[str, str]:
    """The columns of an index: all but pictures and what belongs to their bytes."""
    return {name: words for name, words in columns.items() if name not in ("image", "tiles")}


def open_dataset(url: str) -> Dataset:
    """Reads the manifest alone. Raises Refusal where there is none, or it is not true."""
    return Dataset(url, reading.read(url))


def open_fold(url: str, fold: int | None) -> Dataset:
    """As `open_dataset`, with `fold` as val and the others as train where the set is packed in folds.

    Raises Refusal where it has no such fold, or has folds and none is named.
    """
    return Dataset(url, folds.view(reading.read(url), fold))
