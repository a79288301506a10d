"""Classification by the squared error between softmax and one-hot labels, as a sum or as a mean.

The two are one objective at two scales: with the rate of the mean multiplied by batch x classes, they are the same run.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from trainers.classification import Classification, soft

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"


class SquaredError(Classification):
    def __init__(self, model: nn.Module, *, reduction: Literal["sum", "mean"] = "sum") -> None:
        """`sum` adds over samples and classes, `mean` divides by both."""
        super().__init__(model)
        self.summed = reduction == "sum"

    def each(self, logits_BC: Tensor, label: Tensor) -> Tensor:
        squares_BC = (logits_BC.float().softmax(1) - soft(label, logits_BC.shape[1])).square()
        return squares_BC.sum(1) if self.summed else squares_BC.mean(1)

    def steepness(self, batch: int, num_outputs: int) -> float:
        return float(batch * num_outputs) if self.summed else 1.0


build = SquaredError
