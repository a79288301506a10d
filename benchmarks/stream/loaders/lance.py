"""Lance. Variants: lancedb (its StreamingDataset, two transforms at a time), pylance (SafeLanceDataset, two workers)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import lance  # type: ignore[import-not-found]
import lancedb  # type: ignore[import-not-found]
import pyarrow as pa
import torch
from lance.torch.data import (  # type: ignore[import-not-found]
    SafeLanceDataset,
    get_safe_loader,
)
from lancedb.streaming import StreamingDataset  # type: ignore[import-not-found]
from torch import Tensor

from benchmarks.stream.decoding import cropped
from benchmarks.stream.measure import Given, label, main

TABLE = "pictures"
SCHEMA = pa.schema([("image", pa.large_binary()), ("label", pa.int64())])


def prepare(given: Given) -> None:
    Path(given.own).mkdir(parents=True)

    def rows() -> Iterator[pa.RecordBatch]:
        for part in _cut(given.photographs, 64):
            columns = [[path.read_bytes() for path in part], [label(path) for path in part]]
            yield pa.record_batch(columns, schema=SCHEMA)

    reader = pa.RecordBatchReader.from_batches(SCHEMA, rows())
    lance.write_dataset(reader, f"{given.own}/{TABLE}.lance")


def batches(given: Given) -> Iterator[Any]:
    sides: dict[str, Callable[[Given], Iterator[Any]]] = {"lancedb": _lancedb, "pylance": _pylance}
    yield from sides[given.variant](given)


def _lancedb(given: Given) -> Iterator[Tensor]:
    dataset = StreamingDataset(
        lancedb.connect(given.own).open_table(TABLE),
        num_splits=given.workers,
        shuffle_seed=given.seed,
        columns=["image"],
        transform=partial(_shown, size=given.size),
        transform_parallelism=given.workers,
        transform_queue_depth=2,
    )
    pictures = iter(dataset)
    while len(part := list(islice(pictures, given.batch))) == given.batch:
        yield torch.stack(part)


def _shown(rows: pa.RecordBatch, size: int) -> list[Tensor]:
    return [cropped(memoryview(image.as_buffer()), size) for image in rows.column("image")]


def _pylance(given: Given) -> Iterator[Tensor]:
    yield from get_safe_loader(
        SafeLanceDataset(f"{given.own}/{TABLE}.lance"),
        batch_size=given.batch,
        num_workers=given.workers,
        shuffle=True,
        drop_last=True,
        collate_fn=partial(_collated, size=given.size),
    )


def _collated(rows: list[dict[str, Any]], size: int) -> Tensor:
    return torch.stack([cropped(row["image"], size) for row in rows])


def _cut(files: list[Path], length: int) -> Iterator[list[Path]]:
    for start in range(0, len(files), length):
        yield files[start : start + length]


if __name__ == "__main__":
    main(batches, prepare, packages=("lancedb", "pylance", "torchvision"))
