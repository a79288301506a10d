"""CoCoOp (arXiv 2203.05557): CoOp whose context is moved by each picture, so that it serves classes that it has not seen."""

# B batch, C class, D embedding, M context, W width of the text tower
from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from trainers.language import towers
from trainers.tasks.coop import CoOp

NEEDS = ("image", "label")  # columns of the data
PREDICTS = "classes"
KEEPS_MODEL = True  # only what the task adds to the model learns
NARROWER = 16  # the middle of the network between pictures and context, as in the paper


class CoCoOp(CoOp):
    """A prompt for each picture and class: a step costs as many texts, so batches are small (1 in the paper)."""

    def __init__(
        self,
        model: nn.Module,
        classes: list[str],
        *,
        context: PositiveInt | None = None,
        position: Literal["end", "middle", "front"] = "end",
        words: str = "",
        names: list[str] = [],
    ) -> None:
        """As CoOp's; the paper has 4 vectors that begin as "a photo of a"."""
        super().__init__(
            model, classes, context=context, position=position, words=words, names=names
        )
        wide, width = self._plain[0].embed_dim, self.context.vectors.shape[-1]
        inner = max(1, wide // NARROWER)
        self.shift = nn.Sequential(
            nn.Linear(wide, inner), nn.ReLU(inplace=True), nn.Linear(inner, width)
        )

    def logits(self, image_BD: Tensor) -> Tensor:
        """(B, C): each picture by the prompts that it has made itself."""
        # Judged in parts that fit; a training step is cut by scale.micro_batch.
        most = len(image_BD) if self.training else max(1, towers.ROWS // len(self.names))
        parts = [self._conditional(part_BD) for part_BD in torch.split(image_BD, most)]
        return torch.cat(parts)

    def _conditional(self, image_BD: Tensor) -> Tensor:
        (model,) = self._plain
        context_BMW = self.context() + self.shift(image_BD)[:, None]
        prompts_BCLW = self.layout.of_each(model, context_BMW)
        ends = self.layout.ends.repeat(len(image_BD))
        text_ND = towers.encode(model, prompts_BCLW.flatten(0, 1), ends).float()
        text_BCD = text_ND.view(*prompts_BCLW.shape[:2], -1)
        found: Tensor = self.scale() * torch.einsum("bd,bcd->bc", image_BD, text_BCD)
        return found


build = CoCoOp
