"""WebDataset: tar shards, a shuffle buffer of 1,000, decoding in DataLoader workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import webdataset as wds  # type: ignore[import-not-found]

from benchmarks.stream.decoding import cropped
from benchmarks.stream.measure import Given, label, main

SHARDS = 4  # at least one a worker


def prepare(given: Given) -> None:
    Path(given.own).mkdir(parents=True)
    files = given.photographs
    most = -(-len(files) // SHARDS)
    with wds.ShardWriter(f"{given.own}/%05d.tar", maxcount=most, verbose=0) as writer:
        for path in files:
            writer.write({"__key__": path.stem, "jpg": path.read_bytes(), "cls": label(path)})


def batches(given: Given) -> Iterator[Any]:
    shards = sorted(map(str, Path(given.own).glob("*.tar")))
    dataset = (
        wds.WebDataset(shards, shardshuffle=len(shards))
        .shuffle(1000)
        .to_tuple("jpg", "cls")
        .map_tuple(lambda data: cropped(data, given.size), int)
        .batched(given.batch, partial=False, collation_fn=_stacked)
    )
    yield from wds.WebLoader(dataset, batch_size=None, num_workers=given.workers)


def _stacked(samples: list[tuple[torch.Tensor, int]]) -> torch.Tensor:
    return torch.stack([pixels for pixels, _ in samples])


if __name__ == "__main__":
    main(batches, prepare, packages=("webdataset", "torch", "torchvision"))
