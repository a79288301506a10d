"""Metric learning by pairs: those of a class are drawn together, others pushed apart up to a margin.

distance of a positive pair beyond `positive_margin`, and what a negative pair lacks to `margin` (Hadsell et al. 2006, without
its squares), each in the mean over the pairs that are not yet as they should be. Batches are P classes x K samples
(`data.order: {pxk: {samples: K}}`), over all workers.
"""

# B rows of the global batch, D features
from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from trainers.metric_learning import (
    Distance,
    MetricLearning,
    apart,
    distances,
    library_distance,
    mean_where,
    partners,
)

NEEDS = ("image", "label")  # columns of the data
PAIRS = "label"
PREDICTS = "embedding"


class Contrastive(MetricLearning):
    def __init__(
        self,
        model: nn.Module,
        *,
        distance: Literal["cosine", "euclidean"] = "euclidean",
        margin: PositiveFloat = 1.0,
        positive_margin: NonNegativeFloat = 0.0,
        normalise: bool = True,
    ) -> None:
        from pytorch_metric_learning import losses

        super().__init__(model, normalise=normalise)
        self.distance: Distance = distance
        self.margin = margin
        # A method, not a module: there is nothing in it to learn, to wrap or to compile.
        self._loss = losses.ContrastiveLoss(
            positive_margin, margin, distance=library_distance(distance)
        ).forward

    def loss(self, embedding_BD: Tensor, label_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss: Tensor = self._loss(embedding_BD, label_B)
        distance_BB = distances(embedding_BD.detach(), self.distance)
        _, negative_BB = partners(label_B)
        return loss, {
            "active_negatives": mean_where((distance_BB < self.margin).float(), negative_BB),
            # What embeddings come to that all lie in one place.
            "chance": loss.new_tensor(self.margin),
            **apart(distance_BB, label_B),
        }


build = Contrastive
