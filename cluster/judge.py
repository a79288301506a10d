"""A checkpoint that classifies pictures, ready to judge any pictures: those of a split, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from cluster.saved import Saved
from datasets.batch import Batch
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.stream import EvalStream
from trainers import build, evaluation, shown, summary
from trainers.build import Shape
from trainers.inputs import Inputs
from trainers.stage import Stage


@dataclass(frozen=True)
class Judge:
    """One checkpoint over one data set, which may be another run's; a `Refusal` where it names no classes of pictures."""

    saved: Saved
    data: Dataset
    split: str
    device: torch.device | None = None  # None: the recipe's

    @classmethod
    def of(cls, saved: Saved, split: str) -> Judge:
        """Over the split that the run knows."""
        check(saved)
        return cls(saved, saved.dataset(split), split)

    @property
    def shape(self) -> Shape:
        return self.saved.shape

    @property
    def rows(self) -> int:
        return self.data.manifest.split(self.split).rows

    @cached_property
    def stage(self) -> Stage:
        stage = self.saved.stage(self.device)
        stage.task.eval().requires_grad_(False)
        return stage

    def batches(self) -> Iterator[Batch]:
        """Every row once, in the split's order, as stored or framed: uint8, on the device. Opening the test is counted."""
        if self.split == "test":
            summary.count_opening(self.saved.run.url, self.split)
        recipe, device = self.saved.run.recipe, self.stage.device
        ready = build.readying(self.shape, device)
        runner = evaluation.Evaluation(recipe, self.shape, self.data, ready, device)
        view = shown.view(recipe, self.shape, device)
        for batch in EvalStream(self.data, self.split, batch=runner.batch, view=view):
            yield batch.to(device)

    def logits(self, images: Tensor) -> Tensor:
        """(B, H, W, C) uint8 on the device -> (B, classes), in the run's precision."""
        with torch.no_grad(), self.stage.autocast():
            return self._logits(images)

    def slopes(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) float32 in [0, 1] -> (B, classes) in float32, to be differentiated."""
        return self._logits((pixels * 255).permute(0, 2, 3, 1))

    def _logits(self, images: Tensor) -> Tensor:
        ids = torch.arange(len(images), device=images.device)
        columns = {"image": self._inputs(images), "id": ids, "label": torch.zeros_like(ids)}
        outputs = evaluation.outputs_of(self.stage.task.predict, Batch(columns, key=0))
        if "logits" not in outputs:
            raise _no_classes(self.saved)
        return outputs["logits"]

    @cached_property
    def _inputs(self) -> Inputs:
        return build.inputs(self.shape, self.stage.device)

    def beside(self, saved: Saved) -> Judge:
        """Another run's checkpoint on the same pictures; a `Refusal` where it takes others."""
        check(saved)
        for what, ours, theirs in (
            ("classes", self.shape.classes, saved.shape.classes),
            ("pictures", self.shape.stored, saved.shape.stored),
        ):
            if ours != theirs:
                raise Refusal(
                    f"its {what} are not those of {self.saved.run.name}",
                    path="reference",
                    value=saved.run.url,
                    remedy="name a run on the same data, shown at the same size",
                )
        return replace(self, saved=saved, device=self.stage.device)


def check(saved: Saved) -> None:
    """Refuse what names no classes of pictures, before anything is opened."""
    if not saved.shape.size or len(saved.shape.classes) < 2:
        raise _no_classes(saved)


def _no_classes(saved: Saved) -> Refusal:
    return Refusal(
        f"task '{saved.run.recipe.phases[-1].task.name}' names no classes of pictures",
        path=saved.run.url,
        remedy="choose a run that classifies pictures",
    )
