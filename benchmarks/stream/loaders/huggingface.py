"""Hugging Face datasets: an Arrow table on disk, mapped, with a transform, in a shuffled DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.stream.decoding import cropped
from benchmarks.stream.measure import Given, label, main

datasets: Any = import_module("datasets")  # theirs: ours of that name is not on this process's path


def prepare(given: Given) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for path in given.photographs:
            yield {"image": path.read_bytes(), "label": label(path)}

    columns = {"image": datasets.Value("binary"), "label": datasets.Value("int64")}
    made = datasets.Dataset.from_generator(
        rows,
        features=datasets.Features(columns),
        cache_dir=f"{given.own}.cache",
    )
    made.save_to_disk(given.own)


def shown(rows: dict[str, list[bytes]], size: int) -> dict[str, list[Tensor]]:
    """A transform sees columns of a batch."""
    return {"image": [cropped(data, size) for data in rows["image"]]}


def batches(given: Given) -> Iterator[Any]:
    dataset = datasets.load_from_disk(given.own).select_columns(["image"])
    dataset.set_transform(partial(shown, size=given.size))
    loader = DataLoader(
        dataset,
        batch_size=given.batch,
        shuffle=True,
        num_workers=given.workers,
        drop_last=True,
    )
    for rows in loader:
        yield rows["image"]


if __name__ == "__main__":
    main(batches, prepare, packages=("datasets", "torch", "torchvision"))
