"""A checkpoint and its data, ready to be explained: predictions, heat maps, features and pictures of rows by number."""

# N rows, C classes, S pixels a side, D features, P parts

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cluster.run import Run
from cluster.session import device_here
from datasets.batch import Batch
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.stream import JUDGED, EvalStream, View
from trainers import build, checkpoint, rooms, shown
from trainers.explaining import layers
from trainers.explaining.layers import Layer
from trainers.explaining.maps import Logits, Maps, ready
from trainers.features import features
from trainers.task import Task

AT_ONCE = 32  # pictures; of a map the library keeps all that a layer gives

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predicted:
    """A split's rows in their order: id, label (N,) and the probability of each class (N, C)."""

    ids: Rows
    labels: Rows
    probabilities: Floats

    @cached_property
    def classes(self) -> Rows:
        found: Rows = self.probabilities.argmax(1)
        return found

    @cached_property
    def confidence(self) -> Floats:
        found: Floats = self.probabilities.max(1)
        return found


@dataclass(frozen=True)
class Places:
    """Where things lie in N pictures as the model sees them, in its pixels.

    `boxes` (N, 4) left, top, right, bottom; `parts` (N, P, 3) x, y, visible.
    """

    boxes: Floats
    parts: Floats | None = None
    names: tuple[str, ...] = ()


class Subject:
    """A run's checkpoint (best or last), put to work on rows of its data. Raises Refusal where the run does not classify."""

    def __init__(self, run: Run, which: str = "best") -> None:
        self.run, self.saved = run, run.best if which == "best" else run.last
        self.recipe, self.shape = run.recipe, self.saved.shape
        task = self.recipe.phases[-1].task.name
        if len(self.shape.classes) < 2 or not self.shape.size or "label" not in build.needs(task):
            raise Refusal(
                f"task '{task}' does not tell classes of pictures apart: there is nothing to explain",
                path=run.url,
                value=task,
                remedy="explain a run that classifies",
            )
        self.device = device_here(self.recipe.scale)
        self.view: View = shown.view(self.recipe, self.shape, self.device)

    @cached_property
    def dataset(self) -> Dataset:
        return self.saved.data()

    @cached_property
    def network(self) -> nn.Module:
        return self.saved.model().to(self.device)

    @cached_property
    def task(self) -> Task:
        """The last phase's task around the network, with the checkpoint's weights, in eval mode."""
        index = len(self.recipe.phases) - 1
        task = build.task(self.recipe, index, self.network, classes=self.shape.classes)
        checkpoint.load_task(self.saved.url, task, self.network)
        ready(task.to(self.device))
        return task

    @cached_property
    def layers(self) -> list[Layer]:
        """Those of the network with a map, in the order in which they are run."""
        size = (2, self.shape.channels, self.shape.size, self.shape.size)
        example = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(self.device)
        return layers.mapped(self.network, example, Logits(self.task))

    def layer(self, name: str | None) -> Layer:
        """By its name, or the customary one. Raises Refusal for one that has no map."""
        return layers.chosen(self.layers, self.network, name)

    def predicted(self, split: str) -> Predicted:
        """What the checkpoint says of every row of a split."""
        _, found = self.saved.evaluate(split)
        if "logits" not in found or "label" not in found:
            raise Refusal(
                f"'{split}' has no labels, or the task gives no logits of classes",
                path=self.run.url,
                remedy="explain a run that classifies",
            )
        if not found["logits"].isfinite().all():
            raise Refusal(
                "what the model says is no number: it has diverged",
                path=self.saved.url,
                remedy="explain another checkpoint or run",
            )
        probabilities = found["logits"].double().softmax(1).numpy()
        return Predicted(found["id"].numpy(), found["label"].numpy(), probabilities)

    def batches(self, split: str, rows: Rows) -> Iterator[Batch]:
        """The rows in this order, as they are stored or their frame shows them: pixels, uint8."""
        yield from EvalStream(
            self.dataset, split, batch=AT_ONCE, view=self.view, rows=np.asarray(rows, np.int64)
        )

    def pictures(self, split: str, rows: Rows) -> list[NDArray[np.uint8]]:
        """(H, W, C) uint8 each: what the model is shown, before it is made floats."""
        return pixels(self.batches(split, rows))

    def maps(
        self, batches: Sequence[Batch], classes: Sequence[int], *, layer: Layer, method: str
    ) -> NDArray[np.float32]:
        """(N, S, S) from 0 to 1: how much each place of a row's picture speaks for the class beside it."""
        if not batches:
            return np.zeros((0, self.shape.size, self.shape.size), np.float32)
        logits = Logits(self.task)
        readied = build.readying(self.shape, self.device)
        found, start = [], 0
        maps = Maps(logits, self.network.get_submodule(layer.name), layer, method)
        try:
            for batch in batches:
                own = classes[start : start + len(batch)]
                found.append(maps(readied(batch)["image"], own))
                start += len(batch)
        finally:
            maps.close()
        return np.concatenate(found)

    def features(self, split: str, rows: Rows) -> NDArray[np.float32]:
        """(N, D): what the network's head is given."""
        assert self.task is not None  # whose weights are loaded with it
        ready = build.readying(self.shape, self.device)
        chosen = np.asarray(rows, np.int64)
        _, found = features(
            self.network, self.dataset, split, view=self.view, ready=ready, rows=chosen
        )
        return found

    def places(self, split: str, rows: Rows) -> Places | None:
        """Boxes and parts of the rows, moved as the frame moves the pictures; None where the data have no boxes for them."""
        manifest, columns = self.dataset.manifest, self.dataset.columns(split)
        made = manifest.packed.get("pictures")
        cut = isinstance(made, dict) and str(made.get("made")).startswith("central")
        # Of what was cut to a square before it was packed, and of altered copies, nobody knows where the box went.
        copies = "origin" in columns and bool((columns["origin"] != columns["id"])[rows].any())
        if "box" not in columns or columns["box"].shape[1:] != (4,) or cut or copies:
            return None
        corners = columns["box"][rows].astype(np.float64).reshape(-1, 2, 2)
        corners[:, 1] += corners[:, 0]  # left, top, width, height
        moved = self._moved(split, rows, corners)
        boxes = np.concatenate([moved.min(1), moved.max(1)], 1)
        if "parts" not in columns or columns["parts"].shape[2:] != (3,):
            return Places(boxes)
        parts = columns["parts"][rows].astype(np.float64)
        parts[..., :2] = self._moved(split, rows, parts[..., :2])
        inside = ((parts[..., :2] >= 0) & (parts[..., :2] < self.shape.size)).all(2)
        parts[..., 2] *= inside
        return Places(boxes, parts, self._part_names(parts.shape[1]))

    def _moved(self, split: str, rows: Rows, points: Floats) -> Floats:
        """Points (N, ..., 2) x, y of the original pictures in the pixels of the model's input."""
        columns, side = self.dataset.columns(split), self.shape.size
        if self.dataset.manifest.codec == "raw":
            height, width, _ = self.dataset.manifest.shape
            found: Floats = points * np.array([side / width, side / height])
            return found
        assert self.view.frame is not None
        sizes = (columns["height"][rows], columns["width"][rows])
        drawn = self.view.frame(*sizes, columns["id"][rows], JUDGED)
        top, left, tall, wide, mirrored = (column[:, None] for column in drawn.T)
        x = (points[..., 0] - left) / wide * side
        y = (points[..., 1] - top) / tall * side
        return np.stack([np.where(mirrored == 1, side - x, x), y], -1)

    def _part_names(self, count: int) -> tuple[str, ...]:
        source = str(self.dataset.manifest.packed.get("source"))
        door = rooms.doors("sources").get(source)
        names = tuple(door.constants.get("PART_NAMES", ())) if door else ()
        return names if len(names) == count else tuple(f"part {n + 1}" for n in range(count))


def pixels(batches: Iterable[Batch]) -> list[NDArray[np.uint8]]:
    """The pictures of batches that are not made floats yet, (H, W, C) uint8 each."""
    return [own for batch in batches for own in batch["image"].cpu().numpy()]
