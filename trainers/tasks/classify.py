"""Classification by cross entropy, with label smoothing; labels are classes (B,) or soft (B, C)."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from datasets.ranges import Share
from datasets.stream import Batch
from trainers.task import Step, Task

NEEDS = ("image", "label")  # columns of the data


class Classify(Task):
    def __init__(self, model: nn.Module, *, label_smoothing: Share = 0.0) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing

    def training_step(self, batch: Batch) -> Iterator[Step]:
        logits_BC, label = self.model(batch["image"]), batch["label"]
        loss = F.cross_entropy(logits_BC, label, label_smoothing=self.label_smoothing)
        hard = label if label.ndim == 1 else label.argmax(1)
        accuracy = (logits_BC.detach().argmax(1) == hard).float().mean()
        yield Step(loss, logs={"accuracy": accuracy})

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        logits_BC = self.model(batch["image"]).float()
        return {"logits": logits_BC, "prediction": logits_BC.argmax(1)}


build = Classify
