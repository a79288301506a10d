"""What classifiers share: a task of one loss is a file in tasks/ that says the loss of each sample."""

# B batch, C class
from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.batch import Batch
from trainers.task import Step, Task


class Classification(Task):
    """A network of logits (B, C). Labels are classes (B,) or soft (B, C); samples may have a `weight` (B,)."""

    summed = False  # the sum over the global batch is spent in place of the mean

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._chance: Tensor | None = None

    def each(self, logits_BC: Tensor, label: Tensor) -> Tensor:
        """The loss of each sample (B,), before weights."""
        raise NotImplementedError

    def mean(self, logits_BC: Tensor, label: Tensor, weight_B: Tensor | None) -> Tensor:
        """The mean over the samples, by their weights where they have any."""
        each_B = self.each(logits_BC, label)
        if weight_B is None:
            return each_B.mean()
        if self.summed:  # a sum has no denominator: a sample of weight 2 is two samples
            return (each_B * weight_B).mean()
        return (each_B * weight_B).sum() / weight_B.sum()

    def chance(self, logits_BC: Tensor) -> Tensor:
        """The loss of a network that says the same of every class, over classes that are all as frequent."""
        num_classes = logits_BC.shape[1]
        even_CC = logits_BC.new_zeros(num_classes, num_classes, dtype=torch.float32)
        return self.each(even_CC, torch.arange(num_classes, device=logits_BC.device)).mean()

    def training_step(self, batch: Batch) -> Iterator[Step]:
        logits_BC, label = self.model(batch["image"]), batch["label"]
        weight_B = batch.get("weight")
        hard_B = label if label.ndim == 1 else label.argmax(1)
        correct_B = logits_BC.detach().argmax(1) == hard_B
        if self._chance is None:
            self._chance = self.chance(logits_BC.detach())

        def samples() -> dict[str, Tensor]:
            return {"loss": self.each(logits_BC.detach(), label), "correct": correct_B}

        yield Step(
            self.mean(logits_BC, label, weight_B),
            weight=None if weight_B is None or self.summed else weight_B.sum(),
            logs={"accuracy": correct_B.float().mean(), "chance": self._chance},
            samples=samples,
            summed=self.summed,
        )

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        logits_BC = self.model(batch["image"]).float()
        return {"logits": logits_BC, "prediction": logits_BC.argmax(1)}


def soft(label: Tensor, num_classes: int) -> Tensor:
    """Labels as shares of classes (B, C), float32."""
    return (F.one_hot(label, num_classes) if label.ndim == 1 else label).float()
