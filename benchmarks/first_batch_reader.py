"""What a process of `first_batch` does: the batch of a step, a whole epoch, or the set's bytes by obstore alone."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import obstore
import simplejpeg  # noqa: F401 - imports are not timed
import torch
import xxhash

from datasets import order
from datasets.batch import Batch
from datasets.fetching.clients import s3_store
from datasets.frames import random_resized_crop
from datasets.packed.shelf import FETCHERS
from datasets.sampling.samplers import Shuffled
from datasets.shards import Dataset, open_dataset
from datasets.stream import TrainStream, View

BATCH = 64


def main(what: str, url: str, step: str = "0") -> dict[str, Any]:
    if what == "bandwidth":
        return {"bandwidth": _bandwidth(url)}
    torch.set_num_threads(1)
    start = time.perf_counter()
    dataset = open_dataset(url)
    batches = _batches(dataset, int(step))
    if what == "epoch":
        hashes = [_hash(batch) for batch in batches]
        return {"hashes": hashes, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}
    batch = next(batches)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "hash": _hash(batch), "bytes": _bytes(dataset, batch)}


def _batches(dataset: Dataset, step: int) -> Iterator[Batch]:
    split = dataset.manifest.split("train")
    plan = order.Plan(split.rows, BATCH, lanes=BATCH)
    view = View(frame=random_resized_crop(mirror=0.5), size=224, threads=2)
    sampler = Shuffled(split, plan)
    return TrainStream(dataset, "train", sampler=sampler, seed=0, view=view).epoch(0, 0, step)


def _hash(batch: Batch) -> str:
    whole = xxhash.xxh3_128()
    for name, values in sorted(batch.columns.items()):
        whole.update(name.encode() + values.numpy().tobytes())
    return whole.hexdigest()


def _bytes(dataset: Dataset, batch: Batch) -> int:
    """Of the record batches that a batch's pictures lie in."""
    rows = {int(n): row for row, n in enumerate(dataset.columns("train")["id"])}
    wanted = np.array([rows[n] for n in batch["id"].tolist()])
    numbers, _ = dataset.shelf("train").locate(wanted)
    every = [part for shard in dataset.manifest.split("train").shards for part in shard.batches]
    return sum(every[number].length for number in set(numbers.tolist()))


def _bandwidth(url: str) -> float:
    """Bytes a second of all record batches, by as many threads as a stream has."""
    dataset, client = open_dataset(url), s3_store(url, 10.0)
    folder = url.partition("://")[2].partition("/")[2]
    shards = dataset.manifest.split("train").shards
    parts = [(f"{folder}/{s.path}", batch) for s in shards for batch in s.batches]
    start = time.perf_counter()
    with ThreadPoolExecutor(FETCHERS) as pool:
        sizes = pool.map(
            lambda part: len(
                obstore.get_range(client, part[0], start=part[1].offset, length=part[1].length)
            ),
            parts,
        )
        return sum(sizes) / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
