"""A checkpoint of a run, put back to work: its network, its transform, its predictions, its scores on a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cluster.run import Run
from cluster.session import device_here
from datasets import store
from datasets.batch import Batch
from datasets.frames import Frame
from datasets.order import Plan
from datasets.pictures import decode
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import build, checkpoint, evaluation, feed, remembered, rooms, shown
from trainers.build import Shape
from trainers.describe import without_weights
from trainers.devices import uses_bf16
from trainers.evaluation import Evaluation
from trainers.stage import Stage
from trainers.task import Finding, Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Saved:
    """One checkpoint folder of a run."""

    run: Run
    url: str

    @classmethod
    def best(cls, run: Run) -> Saved:
        return cls._at(run, checkpoint.best(run.url))

    @classmethod
    def last(cls, run: Run) -> Saved:
        return cls._at(run, checkpoint.latest(run.url))

    @classmethod
    def named(cls, reference: str) -> Saved:
        """The best checkpoint of a run that a protocol's `reference` names; a `Refusal` on it where there is none."""
        try:
            return cls.best(Run.open(reference))
        except Refusal as refusal:
            raise Refusal(
                f"{refusal.error} ({refusal.path})",
                path="reference",
                value=reference,
                remedy=refusal.remedy,
            ) from None

    @classmethod
    def _at(cls, run: Run, url: str | None) -> Saved:
        if url is None:
            raise Refusal(
                "this run has no checkpoint yet", path=run.url, remedy="train it for some steps"
            )
        return cls(run, url)

    @cached_property
    def shape(self) -> Shape:
        """What the model was built for, from the run folder alone: the data need not be at hand."""
        return remembered.shape(self.run.url)

    def model(self) -> nn.Module:
        """The network with these weights, in eval mode on the CPU."""
        network = build.model(without_weights(self.run.recipe), self.shape)
        checkpoint.load_model(self.url, network)
        return network.eval()

    @property
    def transform(self) -> Callable[[Any], Tensor]:
        """A picture (PIL, (H, W) or (H, W, C) uint8 array, or path) -> the model's input (C, S, S)."""
        shape = self.shape
        if not shape.size:
            raise Refusal("this run was trained on a table, not on pictures", path=self.run.url)
        # Pictures may come in any size here, so the size is always given.
        inputs = build.inputs(replace(shape, stored=(0, 0, shape.stored[2])))
        if shape.stored[0]:
            return lambda picture: inputs(_pixels(picture, shape)[None])[0]
        frame = shown.view(self.run.recipe, shape, torch.device("cpu")).frame
        assert frame is not None
        return lambda picture: inputs(_framed(_pixels(picture, shape), frame, shape)[None])[0]

    def predict(self, images: Sequence[Any]) -> pd.DataFrame:
        """A row for each picture: prediction, its probability, and every class's."""
        import pandas as pd

        task = self.run.recipe.phases[-1].task.name
        predicts = rooms.door("tasks", task).constants.get("PREDICTS")
        if not self.shape.classes or predicts != "classes":
            raise Refusal(
                f"task '{task}' names no classes to predict",
                path=self.run.url,
                remedy="predict with a run that classifies",
            )
        judge, transform = self.stage(torch.device("cpu")).task.eval(), self.transform
        with torch.no_grad():
            pictures = [transform(image) for image in images]
            rows = [_logits(judge, picture).softmax(0) for picture in pictures]
        classes = self.shape.classes
        return pd.DataFrame(
            {
                "image": str(image) if isinstance(image, str | Path) else number,
                "prediction": classes[int(row.argmax())],
                "probability": float(row.max()),
                **{f"p({name})": float(p) for name, p in zip(classes, row, strict=True)},
            }
            for number, (image, row) in enumerate(zip(images, rows, strict=True))
        )

    def data(self) -> Dataset:
        """The data set of the run, opened. Raises Refusal where it is another one now."""
        dataset = feed.dataset(self.run.recipe.data)
        known = self.run.json("data.json").get("digest")
        if known and known != dataset.manifest.digest:
            raise Refusal(
                "the data set is not the one that the run was trained on",
                path="data",
                value=dataset.manifest.digest[:12],
                remedy=f"restore the one with digest {known[:12]}",
            )
        return dataset

    def evaluate(self, split: str) -> tuple[dict[str, list[Finding]], evaluation.Predictions]:
        """Findings of the recipe's evaluators on a split, and its predictions."""
        recipe, dataset = self.run.recipe, self.dataset(split)
        stage = self.stage()
        ready = build.readying(self.shape, stage.device)
        runner = Evaluation(recipe, self.shape, dataset, ready, stage.device)
        return runner.run(stage, split, list(recipe.evals), predictions=True)

    def dataset(self, split: str) -> Dataset:
        """The data of the run; a `Refusal` where they changed, or have no such split."""
        dataset = self.data()
        dataset.manifest.split(split)
        return dataset

    def stage(self, device: torch.device | None = None) -> Stage:
        """The last phase with these weights, on the recipe's device or another."""
        recipe = self.run.recipe
        device = device or device_here(recipe.scale)
        network = self.model().to(device)
        index = len(recipe.phases) - 1
        # It takes no step here, so a batch of one row is plan enough, and the data need not be at hand.
        plan = Plan(rows=1, batch=1, lanes=1)
        bf16 = uses_bf16(recipe, device)
        classes = self.shape.classes
        stage = Stage(recipe, index, network, plan=plan, device=device, bf16=bf16, classes=classes)
        checkpoint.load_task(self.url, stage.task, network)
        return stage


def _logits(task: Task, picture: Tensor) -> Tensor:
    """(C,), as the task makes them of the network's output for a picture (C, S, S)."""
    nothing = torch.zeros(1, dtype=torch.int64)
    batch = Batch({"image": picture[None], "id": nothing, "label": nothing}, key=0)
    return task.predict(batch)["logits"][0]


def _framed(pixels: Tensor, frame: Frame, shape: Shape) -> Tensor:
    """What the model was judged on: the part that the recipe's frame shows, (S, S, C)."""
    size = np.array([pixels.shape[0]]), np.array([pixels.shape[1]])
    top, left, tall, wide, mirror = frame(*size, np.zeros(1, np.int64), 0)[0].tolist()
    out = torch.empty(shape.size, shape.size, pixels.shape[2], dtype=torch.uint8)
    part = pixels.numpy()[top : top + tall, left : left + wide]
    decode.resized(part, out, mirror=bool(mirror))
    return out


def opened(path: str | Path) -> Any:
    """A file's picture by PIL. Raises Refusal where it is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(store.path_of(str(path)))
        picture.load()
    except FileNotFoundError:
        raise Refusal(
            "there is no such picture", path=str(path), remedy="name a PNG or JPEG file"
        ) from None
    except (UnidentifiedImageError, OSError) as error:
        raise Refusal(
            f"not readable as a picture: {error}", path=str(path), remedy="use PNG or JPEG"
        ) from None
    return picture


def _pixels(picture: Any, shape: Shape) -> Tensor:
    """(H, W, C) uint8 with the channels of the stored pictures."""
    from PIL import Image

    if isinstance(picture, str | Path):
        picture = opened(picture)
    if isinstance(picture, Image.Image):
        picture = np.asarray(picture.convert("L" if shape.stored[2] == 1 else "RGB"))
    pixels = np.asarray(picture)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or pixels.shape[2] != shape.stored[2]:
        raise Refusal(
            f"a picture is (height, width, {shape.stored[2]}) of uint8, not {pixels.shape} of {pixels.dtype}",
            path="images",
            remedy="convert it, or pass a PIL image",
        )
    return torch.from_numpy(np.array(pixels))  # a copy: PIL's memory is read-only
