"""Metric learning by NT-Xent, supervised by labels: a positive is to be told from all negatives (arXiv 2002.05709).

For each pair of a class: the cross entropy of its similarity (cosine / temperature) among those of its first member and all
samples of other classes. Batches are P classes x K samples (`data.order: {pxk: {samples: K}}`), over all workers.
"""

# B rows of the global batch, D features
from __future__ import annotations

from collections.abc import Mapping

from pydantic import PositiveFloat
from torch import Tensor, nn

from trainers.contrast import nt_xent
from trainers.metric_learning import MetricLearning, apart, distances, partners

NEEDS = ("image", "label")  # columns of the data
PAIRS = "label"
PREDICTS = "embedding"


class NTXent(MetricLearning):
    def __init__(
        self, model: nn.Module, *, temperature: PositiveFloat = 0.1, normalise: bool = False
    ) -> None:
        super().__init__(model, normalise=normalise)
        self.temperature = temperature

    def loss(self, embedding_BD: Tensor, label_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        distance_BB = distances(embedding_BD, "cosine")
        loss, chance = nt_xent((1 - distance_BB) / self.temperature, *partners(label_B))
        return loss, {"chance": chance, **apart(distance_BB, label_B)}


build = NTXent
