"""Classification by generalised cross entropy (arXiv 1805.07836), which wrong labels mislead less.

(1 - p^q) / q of the true class's share p of the softmax: cross entropy as q goes to 0, 1 - p at q = 1. The paper's
truncated form is not here.
"""

from __future__ import annotations

from torch import Tensor, nn

from datasets.ranges import Power
from trainers.classification import Classification, soft

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"


class GeneralisedCrossEntropy(Classification):
    def __init__(self, model: nn.Module, *, q: Power = 0.7) -> None:
        super().__init__(model)
        self.q = q

    def each(self, logits_BC: Tensor, label: Tensor) -> Tensor:
        log_BC = logits_BC.float().log_softmax(1)
        # expm1: for a small q, 1 - p^q would lose all its digits.
        losses_BC = -(self.q * log_BC).expm1() / self.q
        return (soft(label, logits_BC.shape[1]) * losses_BC).sum(1)


build = GeneralisedCrossEntropy
