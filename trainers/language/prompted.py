"""What tasks share that tell classes by texts: the features of the classes' prompts, logits by their products with pictures'."""

# B batch, C class, D embedding, L tokens, T templates
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.batch import Batch
from trainers.language import texts, towers
from trainers.task import Step, Task


class Prompted(Task):
    """A CLIP, and the prompts of the classes: `templates` with each class's name, or its other name in `names`.

    Raises Refusal for a model without a text tower, and for a prompt that it cannot read.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str],
        *,
        names: Sequence[str],
        templates: Sequence[str],
    ) -> None:
        super().__init__()
        towers.check(model)
        self.model = model
        # As it is, whatever is wrapped around it for a step: texts are encoded beside the gradient's way.
        self._plain: tuple[Any] = (model,)
        self.names = texts.words(classes, names)
        prompts = texts.filled(texts.templates(templates), self.names)
        self.register_buffer("prompts", self.tokens(prompts), persistent=False)
        self._known: Tensor | None = None

    def tokens(self, said: list[str]) -> Tensor:
        """(N, L), no longer than the longest."""
        (model,) = self._plain
        return towers.trimmed(model, model.tokens(said))

    def train(self, mode: bool = True) -> Prompted:
        """What is known of the classes is of the weights as they were."""
        self._known = None
        super().train(mode)
        return self

    def texts(self) -> Tensor:
        """(C, D) features of the classes, of length 1; found once while the weights rest."""
        (model,) = self._plain
        rests = not self.training or not any(p.requires_grad for p in model.parameters())
        if self._known is None or not rests:
            with torch.no_grad():
                prompts: Any = self.prompts
                self._known = towers.class_features(model, prompts, len(self.names))
        return self._known

    def pictures(self, image: Tensor) -> Tensor:
        """(B, D), of length 1."""
        found: Tensor = self._plain[0](image)
        return found.float()

    def scale(self) -> Tensor:
        """What products are multiplied by before the softmax."""
        found: Tensor = self._plain[0].logit_scale.exp()
        return found

    def logits(self, image_BD: Tensor) -> Tensor:
        """(B, C) of pictures' features."""
        return self.scale() * image_BD @ self.texts().T

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        image_BD = self.pictures(batch["image"])
        logits_BC = self.logits(image_BD).float()
        return {"logits": logits_BC, "prediction": logits_BC.argmax(1), "embedding": image_BD}

    def learnt(self, logits_BC: Tensor, label: Tensor) -> Step:
        """Cross entropy, with what is written down of it; labels are classes (B,) or soft (B, C)."""
        hard_B = label if label.ndim == 1 else label.argmax(1)
        correct_B = logits_BC.detach().argmax(1) == hard_B
        chance = logits_BC.new_tensor(float(logits_BC.shape[1])).log()

        def samples() -> dict[str, Tensor]:
            each_B = F.cross_entropy(logits_BC.detach(), label, reduction="none")
            return {"loss": each_B, "correct": correct_B}

        logs = {"accuracy": correct_B.float().mean(), "chance": chance}
        return Step(F.cross_entropy(logits_BC, label), logs=logs, samples=samples)

    def training_step(self, batch: Batch) -> Iterator[Step]:
        yield self.learnt(self.logits(self.pictures(batch["image"])), batch["label"])
