"""What tasks over pairs share: features of the global batch, how far they lie apart, and who is whose partner.

A task of this kind is a file in tasks/ that says its loss of all rows; every rank takes the same one (parallel.gather).
"""

# B rows of the global batch, D features
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.batch import Batch
from trainers import anatomy, parallel
from trainers.task import Step, Task

if TYPE_CHECKING:
    from pytorch_metric_learning.distances import BaseDistance

Distance = Literal["cosine", "euclidean"]


class MetricLearning(Task):
    """The network up to its head: features (B, D) in which samples of a class are to lie together."""

    couples_samples = True

    def __init__(self, model: nn.Module, *, normalise: bool) -> None:
        super().__init__()
        # The head is not among its parameters: nothing of such a loss reaches it.
        self.body = anatomy.headless(model)
        self.normalise = normalise

    def loss(self, embedding_BD: Tensor, label_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of the global batch, and what else is written down of it."""
        raise NotImplementedError

    def training_step(self, batch: Batch) -> Iterator[Step]:
        counted = not batch.weightless
        # bf16 has three digits: differences of distances need float32.
        embedding_BD = parallel.gather(self.embedded(batch["image"]), counted=counted)
        label_B = parallel.gather(batch["label"], counted=counted)
        with torch.autocast(embedding_BD.device.type, enabled=False):
            loss, logs = self.loss(embedding_BD, label_B)
        yield Step(loss, logs=logs)

    def embedded(self, image: Tensor) -> Tensor:
        features_BD: Tensor = self.body(image).float()
        return F.normalize(features_BD, dim=1) if self.normalise else features_BD

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        return {"embedding": self.embedded(batch["image"])}


def distances(embedding_BD: Tensor, kind: Distance) -> Tensor:
    """(B, B): the Euclidean distance, or 1 - the cosine of the angle."""
    if kind == "cosine":
        unit_BD = F.normalize(embedding_BD, dim=1)
        return 1 - unit_BD @ unit_BD.T
    # Not by products, which is torch's default for more than 25 rows: rows that lie close would lose all their digits.
    return torch.cdist(embedding_BD, embedding_BD, compute_mode="donot_use_mm_for_euclid_dist")


def library_distance(kind: Distance) -> BaseDistance:
    """`distances` as pytorch-metric-learning's miners and losses take it: always the larger, the farther."""
    from pytorch_metric_learning.distances import BaseDistance

    class Ours(BaseDistance):  # type: ignore[misc]
        def compute_mat(self, query: Tensor, _: Any) -> Tensor:
            return distances(query, kind)

    return Ours(normalize_embeddings=False)


def partners(label_B: Tensor) -> tuple[Tensor, Tensor]:
    """(positive, negative), both (B, B) bool: pairs of one class without a row and itself, pairs of two classes."""
    same_BB = label_B[:, None] == label_B[None]
    positive_BB = same_BB & ~torch.eye(len(label_B), dtype=torch.bool, device=label_B.device)
    return positive_BB, ~same_BB


def mean_where(values_BB: Tensor, chosen_BB: Tensor) -> Tensor:
    """The mean of the chosen ones, 0 where there are none."""
    return (values_BB * chosen_BB).sum() / chosen_BB.sum().clamp(min=1)


def apart(distance_BB: Tensor, label_B: Tensor) -> dict[str, Tensor]:
    """How far pairs lie from each other in the mean, for the log: of one class, and of two."""
    positive_BB, negative_BB = partners(label_B)
    held_BB = distance_BB.detach()
    return {
        "positive_distance": mean_where(held_BB, positive_BB),
        "negative_distance": mean_where(held_BB, negative_BB),
    }
