"""Orders: which rows fill an epoch's batches. Each is a door that makes a sampler: `pxk(samples=4)`. A new one is a function here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import PositiveInt

from datasets.order import Integers, Plan
from datasets.packed.manifest import Split
from datasets.refusal import Refusal
from datasets.sampling.by_class import Balanced, ClassesBySamples
from datasets.sampling.samplers import Resampled, Sampler, Shuffled


@dataclass(frozen=True)
class Rows:
    """What an order may know: the split, its labels (read when they are asked for), and the recipe's batches."""

    split: Split
    labels: Callable[[], Integers]
    batch: int
    lanes: int
    tail: Literal["drop", "keep"]


def shuffle(rows: Rows) -> Sampler:
    """Every sample once an epoch, in a new order each time."""
    return Shuffled(rows.split, Plan(rows.split.rows, rows.batch, rows.lanes, rows.tail))


def balanced(rows: Rows) -> Sampler:
    """As many samples of each class in every batch, within one; classes take turns."""
    _without_tail(rows, "balanced")
    return Balanced(rows.labels(), batch=rows.batch, lanes=rows.lanes)


def pxk(rows: Rows, *, samples: PositiveInt = 4) -> Sampler:
    """Batches of some classes with `samples` samples each, for losses over pairs; batch / samples classes a batch."""
    _without_tail(rows, "pxk")
    return ClassesBySamples(rows.labels(), samples, batch=rows.batch, lanes=rows.lanes)


def undersample(rows: Rows, *, cap: PositiveInt = 500) -> Sampler:
    """At most `cap` samples of each class an epoch, drawn anew each time."""
    labels = rows.labels()
    counts = np.minimum(np.bincount(labels), cap)
    return Resampled(labels, counts, batch=rows.batch, lanes=rows.lanes, tail=rows.tail)


def oversample(rows: Rows) -> Sampler:
    """As many samples of each class as the largest has: those of smaller classes come more than once an epoch."""
    labels = rows.labels()
    sizes = np.bincount(labels)
    counts = np.where(sizes > 0, sizes.max(), 0)
    return Resampled(labels, counts, batch=rows.batch, lanes=rows.lanes, tail=rows.tail)


def _without_tail(rows: Rows, order: str) -> None:
    if rows.tail == "keep":
        raise Refusal(
            f"order '{order}' has full batches alone, so it has no tail to keep",
            path="data.tail",
            value="keep",
            remedy="use data.tail=drop",
        )
