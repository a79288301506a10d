"""Label noise, each kind a factory: `symmetric(rate=0.2)`. Whether and how a label is changed is a function of (seed, id).

A noise maps labels (N,) int64, ids (N,) int64 and the number of classes to labels. A new one is a new public function here.
"""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeInt

from datasets import order
from datasets.order import Integers
from datasets.ranges import Probability
from datasets.subsets import Noise


def symmetric(*, rate: Probability = 0.2, seed: NonNegativeInt = 0) -> Noise:
    """With probability `rate` another label, each equally likely, never the true one."""

    def noise(labels: Integers, ids: Integers, num_classes: int) -> Integers:
        if num_classes < 2:
            return labels
        key = order.key("symmetric noise", seed)
        others = 1 + order.integers(key, ids, 1, num_classes - 1)
        return np.where(_hit(key, ids, rate), (labels + others) % num_classes, labels)

    return noise


def pairwise(*, rate: Probability = 0.2, seed: NonNegativeInt = 0) -> Noise:
    """With probability `rate` the next class's label, the last class's being the first."""

    def noise(labels: Integers, ids: Integers, num_classes: int) -> Integers:
        key = order.key("pairwise noise", seed)
        return np.where(_hit(key, ids, rate), (labels + 1) % num_classes, labels)

    return noise


def _hit(key: int, ids: Integers, rate: float) -> np.ndarray:
    # Draws are nested: what a lower rate changes a higher one changes too.
    return order.uniform(key, ids, 0) < rate
