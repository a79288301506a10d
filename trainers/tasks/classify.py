"""Classification by cross entropy, with label smoothing; labels are classes (B,) or soft (B, C), samples may have weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from datasets.ranges import Share
from trainers.classification import Classification

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"


class Classify(Classification):
    def __init__(self, model: nn.Module, *, label_smoothing: Share = 0.0) -> None:
        super().__init__(model)
        self.label_smoothing = label_smoothing

    def each(self, logits_BC: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(
            logits_BC, label, label_smoothing=self.label_smoothing, reduction="none"
        )

    def mean(self, logits_BC: Tensor, label: Tensor, weight_B: Tensor | None) -> Tensor:
        if weight_B is None:  # one kernel, not two
            return F.cross_entropy(logits_BC, label, label_smoothing=self.label_smoothing)
        return super().mean(logits_BC, label, weight_B)


build = Classify
