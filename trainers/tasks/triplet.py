"""Metric learning by triplets (arXiv 1503.03832, 1703.07737): a sample lies nearer to its class than to any other.

The loss of a triplet is max(0, margin + distance to the positive - distance to the negative), of a soft margin its
softplus without margin. `batch_hard` takes each sample's farthest positive and nearest negative; `semi_hard` all negatives
that lie farther than the positive by less than the margin; `all` every triplet. Batches are P classes x K samples
(`data.order: {pxk: {samples: K}}`), mined over all workers.
"""

# B rows of the global batch, D features, T triplets
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import PositiveFloat
from torch import Tensor, nn

from datasets.refusal import Refusal
from trainers.metric_learning import Distance, MetricLearning, apart, distances, library_distance

NEEDS = ("image", "label")  # columns of the data
PAIRS = "label"
PREDICTS = "embedding"


class Triplet(MetricLearning):
    def __init__(
        self,
        model: nn.Module,
        *,
        distance: Literal["cosine", "euclidean"] = "cosine",
        mining: Literal["batch_hard", "semi_hard", "all"] = "batch_hard",
        margin: PositiveFloat | None = 0.25,
        normalise: bool = False,
    ) -> None:
        """Raises Refusal for semi-hard mining without a margin."""
        from pytorch_metric_learning import losses, miners, reducers

        super().__init__(model, normalise=normalise)
        if mining == "semi_hard" and margin is None:
            raise Refusal(
                "semi-hard negatives lie within the margin, and a soft margin has no width",
                value=mining,
                remedy="give a margin, or use mining=batch_hard",
            )
        self.distance: Distance = distance
        self.soft, self.margin = margin is None, margin or 0.0
        measure = library_distance(distance)
        # Of the triplets that are not chosen for being hard, most are no longer active: they do not dilute the mean.
        reducer = reducers.MeanReducer() if mining == "batch_hard" else reducers.AvgNonZeroReducer()
        miner = {
            "batch_hard": miners.BatchHardMiner(distance=measure),
            "semi_hard": miners.TripletMarginMiner(self.margin, "semihard", distance=measure),
            "all": None,
        }[mining]
        loss = losses.TripletMarginLoss(
            self.margin, smooth_loss=self.soft, distance=measure, reducer=reducer
        )
        # Methods, not modules: there is nothing in them to learn, to wrap or to compile.
        self._mine = miner.forward if miner else None
        self._loss = loss.forward

    def mined(self, embedding_BD: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of anchors, positives and negatives, (T,) each."""
        from pytorch_metric_learning.utils.loss_and_miner_utils import get_all_triplets_indices

        if self._mine is None:
            found = get_all_triplets_indices(label_B)
        else:
            found = self._mine(embedding_BD, label_B)
        anchor_T, positive_T, negative_T = found
        return anchor_T, positive_T, negative_T

    def loss(self, embedding_BD: Tensor, label_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        triplets = self.mined(embedding_BD, label_B)
        loss: Tensor = self._loss(embedding_BD, label_B, triplets)
        distance_BB = distances(embedding_BD.detach(), self.distance)
        anchor_T, positive_T, negative_T = triplets
        gap_T = distance_BB[anchor_T, negative_T] - distance_BB[anchor_T, positive_T]
        active = (gap_T < self.margin).float().sum() / max(1, len(gap_T))
        return loss, {
            "active_triplets": active,
            # What embeddings come to that all lie in one place.
            "chance": loss.new_tensor(math.log(2) if self.soft else self.margin),
            **apart(distance_BB, label_B),
        }


build = Triplet
