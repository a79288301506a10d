"""Classification by symmetric cross entropy (arXiv 1908.06112), which wrong labels mislead less.

alpha x cross entropy + beta x reverse cross entropy: -sum p log q of the softmax p and the label q, whose log is no
smaller than `floor`, the paper's A for log 0.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import NegativeFloat, NonNegativeFloat
from torch import Tensor, nn

from trainers.classification import Classification, soft

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"


class SymmetricCrossEntropy(Classification):
    def __init__(
        self,
        model: nn.Module,
        *,
        alpha: NonNegativeFloat = 0.1,
        beta: NonNegativeFloat = 1.0,
        floor: NegativeFloat = -4.0,
    ) -> None:
        super().__init__(model)
        self.alpha, self.beta, self.floor = alpha, beta, floor

    def each(self, logits_BC: Tensor, label: Tensor) -> Tensor:
        logits_BC = logits_BC.float()
        log_label_BC = soft(label, logits_BC.shape[1]).log().clamp(min=self.floor)
        reverse_B = -(logits_BC.softmax(1) * log_label_BC).sum(1)
        return self.alpha * F.cross_entropy(logits_BC, label, reduction="none") + (
            self.beta * reverse_B
        )


build = SymmetricCrossEntropy
