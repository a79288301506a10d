"""Classification by the squared error between softmax and one-hot labels, as a sum or as a mean.

The two are one objective at two scales: with the rate of the mean multiplied by batch x classes, they are the same run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from datasets.batch import Batch
from trainers.task import Step, Task

NEEDS = ("image", "label")  # columns of the data


class SquaredError(Task):
    def __init__(self, model: nn.Module, *, reduction: Literal["sum", "mean"] = "sum") -> None:
        """`sum` adds over samples and classes, `mean` divides by both."""
        super().__init__()
        self.model = model
        self.reduction = reduction

    def training_step(self, batch: Batch) -> Iterator[Step]:
        logits_BC, label = self.model(batch["image"]), batch["label"]
        target_BC = F.one_hot(label, logits_BC.shape[1]) if label.ndim == 1 else label
        squares_BC = (logits_BC.float().softmax(1) - target_BC.float()).square()
        each_B = squares_BC.sum(1) if self.reduction == "sum" else squares_BC.mean(1)
        correct_B = logits_BC.detach().argmax(1) == target_BC.argmax(1)

        def samples() -> dict[str, Tensor]:
            return {"loss": each_B.detach(), "correct": correct_B}

        yield Step(
            each_B.mean(),
            logs={"accuracy": correct_B.float().mean()},
            samples=samples,
            summed=self.reduction == "sum",
        )

    def steepness(self, batch: int, num_outputs: int) -> float:
        return float(batch * num_outputs) if self.reduction == "sum" else 1.0

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        logits_BC = self.model(batch["image"]).float()
        return {"logits": logits_BC, "prediction": logits_BC.argmax(1)}


build = SquaredError
