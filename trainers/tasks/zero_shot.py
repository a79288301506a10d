"""CLIP as a classifier by its texts (arXiv 2103.00020): nothing of the network learns, and no rate changes what it predicts.

What may learn is the temperature of its probabilities (`lr: 0.0` leaves it), which makes them honest and never turns a prediction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainers.language.prompted import Prompted

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"
KEEPS_MODEL = True  # only what the task adds to the model learns


class Temperature(nn.Module):
    """One number that logits are divided by."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()))

    def forward(self, logits_BC: Tensor) -> Tensor:
        return logits_BC / self.log.exp()


class ZeroShot(Prompted):
    def __init__(
        self,
        model: nn.Module,
        classes: list[str],
        *,
        templates: list[str] = ["a photo of a {}."],
        names: list[str] = [],
    ) -> None:
        super().__init__(model, classes, names=names, templates=templates)
        self.temperature = Temperature()

    def logits(self, image_BD: Tensor) -> Tensor:
        found: Tensor = self.temperature(super().logits(image_BD))
        return found


build = ZeroShot
