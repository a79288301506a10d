"""A linear probe of a CLIP's image tower: the pictures' features stay, a layer above them learns (arXiv 2103.00020)."""

# B batch, C class, D embedding
from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from trainers.language.prompted import Prompted

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"
KEEPS_MODEL = True  # only what the task adds to the model learns


class CLIPLinear(Prompted):
    def __init__(
        self,
        model: nn.Module,
        classes: list[str],
        *,
        begin: Literal["zeros", "texts"] = "zeros",
        templates: list[str] = ["a photo of a {}."],
        names: list[str] = [],
    ) -> None:
        """With `begin: texts` it begins as the zero-shot classifier, of length 1 features times CLIP's own scale."""
        super().__init__(model, classes, names=names, templates=templates)
        self.head = nn.Linear(self._plain[0].embed_dim, len(self.names))
        nn.init.zeros_(self.head.bias)
        nn.init.zeros_(self.head.weight)
        if begin == "texts" and not self.head.weight.is_meta:
            with torch.no_grad():
                self.head.weight.copy_(self.texts())

    def logits(self, image_BD: Tensor) -> Tensor:
        found: Tensor = self.head(self.scale() * image_BD)
        return found


build = CLIPLinear
