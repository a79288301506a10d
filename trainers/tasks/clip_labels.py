"""CLIP's pretraining on pictures with labels: their captions are templates, drawn for each picture and step, with the class's name.

Pairs of one class are positives of one another (arXiv 2204.03610). Judged as a zero-shot classifier by all its `prompts`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from datasets import order
from datasets.batch import Batch
from trainers.language import contrastive, texts
from trainers.language.prompted import Prompted
from trainers.task import Step

NEEDS = ("image", "label")  # columns of the data
PAIRS = "text"  # a picture is told from the others of its batch
PREDICTS = "classes"


class CLIPLabels(Prompted):
    couples_samples = True

    def __init__(
        self,
        model: nn.Module,
        classes: list[str],
        *,
        templates: list[str] = ["a photo of a {}."],
        names: list[str] = [],
        prompts: list[str] = [],
    ) -> None:
        """`names` are what the classes are called in texts; `prompts` are the templates it is judged by, default the same."""
        super().__init__(model, classes, names=names, templates=prompts or templates)
        said = texts.filled(texts.templates(templates), self.names)
        self.register_buffer("captions", self.tokens(said), persistent=False)

    def training_step(self, batch: Batch) -> Iterator[Step]:
        tokens_BL = self.caption(batch)
        yield from contrastive.losses(self.model, batch, tokens_BL, batch["label"], self._plain[0])

    def caption(self, batch: Batch) -> Tensor:
        """(B, L) tokens, of templates that are a function of (seed, step, sample id)."""
        captions: Tensor = self.get_buffer("captions")
        templates = len(captions) // len(self.names)
        drawn = order.integers(batch.key, batch["id"].cpu().numpy(), 0, templates)
        chosen = torch.from_numpy(drawn).to(captions.device) * len(self.names)
        return captions[chosen + batch["label"]]


build = CLIPLabels
