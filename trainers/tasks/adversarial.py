"""Adversarial training (arXiv 1706.06083): of each picture the one within epsilon is learnt that the model errs most on.

Pixels are what epsilon is counted in, so the model is to be given them as they are, from 0 to 1: data.mean=[0.0], data.std=[1.0].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic import PositiveInt
from torch import nn

from datasets.batch import Batch
from datasets.corrupting.draws import Draws
from datasets.ranges import Levels, Share
from trainers import attacks
from trainers.task import Step
from trainers.tasks.classify import Classify

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"
PIXELS = True  # the model's input is pixels of 0 to 1


class Adversarial(Classify):
    def __init__(
        self,
        model: nn.Module,
        *,
        epsilon: Levels = 8.0,
        steps: PositiveInt = 5,
        label_smoothing: Share = 0.0,
    ) -> None:
        """`epsilon` is in 1/255 of the pixels' range; each of `steps` costs a forward and a backward pass."""
        super().__init__(model, label_smoothing=label_smoothing)
        self.epsilon, self.steps = epsilon, steps
        # The network as it is, whatever is wrapped around it for the step: gradients of pixels are this rank's own.
        self._plain = (model,)

    def training_step(self, batch: Batch) -> Iterator[Step]:
        label = batch["label"]
        hard = label if label.ndim == 1 else label.argmax(1)
        (network,) = self._plain
        modes = {module: module.training for module in network.modules()}
        network.eval()  # batch norm learns nothing of the way there
        found = attacks.pgd(
            network,
            batch["image"].contiguous(),
            hard,
            self.epsilon / 255,
            steps=self.steps,
            draws=Draws(batch.key, batch["id"]),
        )
        for module, training in modes.items():
            module.training = training
        yield from super().training_step(
            replace(batch, columns={**batch.columns, "image": found.pixels})
        )


build = Adversarial
