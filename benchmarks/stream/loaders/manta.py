"""Ours: packed shards, a stream of batches. Variants: tiled, plain, small, undecoded, resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.stream.measure import Given, main
from benchmarks.stream.pictures import CLASSES, SMALL
from datasets import decoding, order, pack, transforms
from datasets.frames import random_resized_crop
from datasets.pictures.prepare import Options
from datasets.sampling.samplers import Shuffled
from datasets.shards import open_dataset
from datasets.stream import TrainStream, View


def prepare(given: Given) -> None:
    if given.variant == "small":
        arguments = {"num_rows": given.pictures, "num_classes": CLASSES, "size": SMALL}
        pack.pack("synthetic", arguments, given.own, splits={}, seed=given.seed)
        return
    pack.pack(
        "imagefolder",
        {"path": f"{given.folder}/photographs"},
        given.own,
        splits={},
        seed=given.seed,
        options=Options(tile=given.variant != "plain"),
        workers=given.workers,
    )


def batches(given: Given) -> Iterator[Any]:
    if given.variant == "undecoded":
        vars(decoding)["show"] = _nothing
    dataset = open_dataset(given.url or given.own)
    split = dataset.manifest.split("train")
    plan = order.Plan(split.rows, given.batch, lanes=min(given.batch, 64))
    if given.variant == "small":
        view = View(transforms=(transforms.pad_crop(padding=4), transforms.flip()))
    else:
        view = View(frame=random_resized_crop(mirror=0.5), size=given.size, threads=given.workers)
    stream = TrainStream(
        dataset, "train", sampler=Shuffled(split, plan), seed=given.seed, view=view
    )
    if given.variant == "resumed":
        # From the middle of an epoch on, then another, so that there are as many batches as there should be.
        for part in (stream.epoch(0, 0, plan.steps // 2), stream.epoch(0, 1)):
            yield from (batch["image"] for batch in part)
        return
    for epoch in range(given.epochs):
        for batch in stream.epoch(0, epoch):
            yield len(batch) if given.variant == "undecoded" else batch["image"]


def _nothing(*_: object, **__: object) -> None:
    """In place of decoding and resizing: what is left is the loader."""


if __name__ == "__main__":
    main(batches, prepare, packages=("torch", "simplejpeg", "pyarrow"))
