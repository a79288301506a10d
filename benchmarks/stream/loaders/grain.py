"""Grain: a random-access source over a mapped Arrow file, shuffled, decoded and batched in its own worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain  # type: ignore[import-not-found]
import numpy as np
import pyarrow as pa

from benchmarks.stream.decoding import cropped
from benchmarks.stream.measure import Given, label, main

SCHEMA = pa.schema([("image", pa.large_binary()), ("label", pa.int64())])


def prepare(given: Given) -> None:
    Path(given.own).mkdir(parents=True)
    files = given.photographs
    with pa.ipc.new_file(f"{given.own}/pictures.arrow", SCHEMA) as writer:
        for start in range(0, len(files), 64):
            part = files[start : start + 64]
            rows = [[path.read_bytes() for path in part], [label(path) for path in part]]
            writer.write_batch(pa.record_batch(rows, schema=SCHEMA))


class Pictures:
    """Opened where it is first read, so that it can be sent to a worker."""

    def __init__(self, path: str, length: int) -> None:
        self.path, self.length = path, length
        self._images: list[Any] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: int) -> memoryview:
        if not self._images:
            file = pa.ipc.open_file(pa.memory_map(self.path))
            self._images = [
                file.get_batch(number).column("image") for number in range(file.num_record_batches)
            ]
        return memoryview(self._images[at // 64][at % 64].as_buffer())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": []}


class Crop(grain.transforms.Map):  # type: ignore[misc]
    def __init__(self, size: int) -> None:
        self.size = size

    def map(self, element: memoryview) -> np.ndarray[Any, Any]:
        pixels: np.ndarray[Any, Any] = cropped(element, self.size).numpy()
        return pixels


def batches(given: Given) -> Iterator[Any]:
    source = Pictures(f"{given.own}/pictures.arrow", given.pictures)
    dataset = (
        grain.MapDataset.source(source)
        .shuffle(seed=given.seed)
        .map(Crop(given.size))
        .batch(given.batch, drop_remainder=True)
        .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
        .mp_prefetch(
            grain.MultiprocessingOptions(num_workers=given.workers, per_worker_buffer_size=2)
        )
    )
    yield from dataset


if __name__ == "__main__":
    main(batches, prepare, packages=("grain", "pyarrow", "torchvision"))
