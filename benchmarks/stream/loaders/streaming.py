"""MosaicML Streaming: MDS shards, its own shuffle, decoding in DataLoader workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streaming import MDSWriter, StreamingDataset  # type: ignore[import-not-found]
from streaming.base.util import clean_stale_shared_memory  # type: ignore[import-not-found]
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.stream.decoding import cropped
from benchmarks.stream.measure import Given, label, main


def prepare(given: Given) -> None:
    with MDSWriter(out=given.own, columns={"image": "bytes", "label": "int"}) as writer:
        for path in given.photographs:
            writer.write({"image": path.read_bytes(), "label": label(path)})


class Photographs(StreamingDataset):  # type: ignore[misc]
    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.pixels = size

    def __getitem__(self, at: int) -> Tensor:
        return cropped(super().__getitem__(at)["image"], self.pixels)


def batches(given: Given) -> Iterator[Any]:
    clean_stale_shared_memory()
    dataset = Photographs(
        given.size,
        remote=given.url or None,
        local=given.cache if given.url else given.own,
        shuffle=True,
        batch_size=given.batch,
        shuffle_seed=given.seed,
    )
    yield from DataLoader(dataset, given.batch, num_workers=given.workers, drop_last=True)


if __name__ == "__main__":
    main(batches, prepare, packages=("mosaicml-streaming", "torch", "torchvision"))
