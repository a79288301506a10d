"""Streams of the plain order, and whether two of them gave the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from datasets.order import Plan
from datasets.sampling.samplers import Shuffled
from datasets.shards import Dataset
from datasets.stream import TrainStream


def shuffled(dataset: Dataset, plan: Plan, *, split: str = "train", **options: Any) -> TrainStream:
    """A split in the order `shuffle`."""
    sampler = Shuffled(dataset.manifest.split(split), plan)
    return TrainStream(dataset, split, sampler=sampler, **options)


def same(
    one: Sequence[Mapping[str, torch.Tensor]], two: Sequence[Mapping[str, torch.Tensor]]
) -> bool:
    """Whether all columns of all batches are equal, to the bit."""
    assert len(one) == len(two)
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, two, strict=True) for name in a)
