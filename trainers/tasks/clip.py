"""CLIP's pretraining on pictures with captions (arXiv 2103.00020): each picture finds its caption in the batch, and the reverse.

Captions are read as the column `tokens`, which the source `captions` makes with `tokens: 77` (the model's context length).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from datasets.batch import Batch
from trainers.language import contrastive, towers
from trainers.task import Step, Task

NEEDS = ("image", "tokens")  # columns of the data
PAIRS = "text"  # a picture is told from the others of its batch


class CLIP(Task):
    couples_samples = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        towers.check(model)
        self.model = model
        self._plain: tuple[Any] = (model,)

    def training_step(self, batch: Batch) -> Iterator[Step]:
        tokens_BL = batch["tokens"]
        (plain,) = self._plain
        short_BL = towers.trimmed(plain, tokens_BL)
        yield from contrastive.losses(self.model, batch, short_BL, tokens_BL, plain)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        image_BD, text_BD, _ = self.model(batch["image"], batch["tokens"])
        return {"embedding": image_BD.float(), "text": text_BD.float()}


build = CLIP
