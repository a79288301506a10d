"""Classification by cross entropy, with label smoothing; labels are classes (B,) or soft (B, C), samples may have weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.ranges import Share
from trainers.task import Step, Task

NEEDS = ("image", "label")  # columns of the data


class Classify(Task):
    def __init__(self, model: nn.Module, *, label_smoothing: Share = 0.0) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing

    def training_step(self, batch: Batch) -> Iterator[Step]:
        logits_BC, label = self.model(batch["image"]), batch["label"]
        weight_B = batch.get("weight")
        loss = self._loss(logits_BC, label, weight_B)
        hard = label if label.ndim == 1 else label.argmax(1)
        correct_B = logits_BC.detach().argmax(1) == hard

        def samples() -> dict[str, Tensor]:
            each_B = F.cross_entropy(
                logits_BC.detach(), label, label_smoothing=self.label_smoothing, reduction="none"
            )
            return {"loss": each_B, "correct": correct_B}

        yield Step(
            loss,
            weight=None if weight_B is None else weight_B.sum(),
            logs={"accuracy": correct_B.float().mean()},
            samples=samples,
        )

    def _loss(self, logits_BC: Tensor, label: Tensor, weight_B: Tensor | None) -> Tensor:
        if weight_B is None:
            return F.cross_entropy(logits_BC, label, label_smoothing=self.label_smoothing)
        each_B = F.cross_entropy(
            logits_BC, label, label_smoothing=self.label_smoothing, reduction="none"
        )
        return (each_B * weight_B).sum() / weight_B.sum()

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        logits_BC = self.model(batch["image"]).float()
        return {"logits": logits_BC, "prediction": logits_BC.argmax(1)}


build = Classify
