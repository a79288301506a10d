"""Classification by the focal loss (arXiv 1708.02002): samples that are told well already count less.

-(1 - p)^gamma log p of the true class's share p of the softmax. With gamma 0 it is cross entropy. The paper's alpha is
`data.class_weights`.
"""

from __future__ import annotations

from pydantic import NonNegativeFloat
from torch import Tensor, nn

from trainers.classification import Classification, soft

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"


class Focal(Classification):
    def __init__(self, model: nn.Module, *, gamma: NonNegativeFloat = 2.0) -> None:
        super().__init__(model)
        self.gamma = gamma

    def each(self, logits_BC: Tensor, label: Tensor) -> Tensor:
        log_BC = logits_BC.float().log_softmax(1)
        # Not 1 - p: where p is 1 to rounding, a power below 1 of it has no finite slope.
        rest_BC = (-log_BC.expm1()).clamp(min=1e-12)
        return -(soft(label, logits_BC.shape[1]) * rest_BC**self.gamma * log_BC).sum(1)


build = Focal
