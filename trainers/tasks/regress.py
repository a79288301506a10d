"""Regression: the model maps column `x` to column `y`, by mean squared (or absolute) error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from datasets.batch import Batch
from trainers.task import Step, Task

NEEDS = ("x", "y")  # columns of the data


class Regress(Task):
    def __init__(
        self, model: nn.Module, *, loss: Literal["squared", "absolute"] = "squared"
    ) -> None:
        super().__init__()
        self.model = model
        self.error = {"squared": F.mse_loss, "absolute": F.l1_loss}[loss]

    def training_step(self, batch: Batch) -> Iterator[Step]:
        yield Step(self.error(self.model(_rows(batch["x"])), _rows(batch["y"])))

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        return {"prediction": self.model(_rows(batch["x"])).float()}


def _rows(column: Tensor) -> Tensor:
    return column.reshape(len(column), -1)


build = Regress
