"""Classification by binary cross entropy, a yes or no for each class (arXiv 2110.00476); labels may be soft.

Scores and probabilities are read from the softmax of its logits, as of every classifier; which class is largest is the same.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.ranges import Share
from trainers.classification import Classification, soft

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"


class BinaryCrossEntropy(Classification):
    def __init__(
        self,
        model: nn.Module,
        *,
        label_smoothing: Share = 0.0,
        over_classes: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__(model)
        self.label_smoothing, self.over_classes = label_smoothing, over_classes

    def each(self, logits_BC: Tensor, label: Tensor) -> Tensor:
        num_classes = logits_BC.shape[1]
        target_BC = soft(label, num_classes)
        target_BC = target_BC * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        losses_BC = F.binary_cross_entropy_with_logits(
            logits_BC.float(), target_BC, reduction="none"
        )
        return losses_BC.sum(1) if self.over_classes == "sum" else losses_BC.mean(1)

    def chance(self, logits_BC: Tensor) -> Tensor:
        # Who knows nothing says 1 / C of every class, not 1 / 2.
        num_classes = logits_BC.shape[1]
        even_1C = logits_BC.new_full((1, num_classes), -math.log(max(1, num_classes - 1)))
        return self.each(even_1C, torch.zeros(1, dtype=torch.long, device=even_1C.device)).mean()

    def steepness(self, batch: int, num_outputs: int) -> float:
        return float(num_outputs) if self.over_classes == "sum" else 1.0


build = BinaryCrossEntropy
