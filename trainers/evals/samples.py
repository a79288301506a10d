"""Generated pictures: a grid of samples, and how far their pixels lie from real ones.

The distance is the sliced Wasserstein distance (arXiv 1710.10196 uses it on patches): the mean over 128 fixed random
directions of the L2 distance between sorted projections of as many real as generated pictures. Small is better; it is
zero for equal sets and says nothing about meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from pydantic import PositiveInt
from torch import Tensor

from datasets.batch import Batch
from trainers import parallel
from trainers.task import Figure, Finding, Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

NEEDS = ("sample", "image")
SCORES = ("sliced_wasserstein",)
_DIRECTIONS = 128


class Samples:
    def __init__(self, mean: list[float], std: list[float], *, num: PositiveInt = 64) -> None:
        self.mean, self.std, self.num = torch.tensor(mean), torch.tensor(std), num
        self.projections: list[Tensor] = []  # (B, 2, directions): real, generated
        self.shown: list[Tensor] = []

    def update(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        fake, real = outputs["sample"].cpu(), batch["image"].float().cpu()
        pixels = real.flatten(1).shape[1]
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(pixels, _DIRECTIONS, generator=generator)
        directions /= directions.norm(dim=0)
        both = torch.stack([real.flatten(1), fake.flatten(1)], dim=1)
        self.projections.append(both @ directions)
        if sum(map(len, self.shown)) < self.num:
            self.shown.append(fake)

    def findings(self) -> Iterator[Finding]:
        empty = torch.zeros(0, 2, _DIRECTIONS)
        real_ND, fake_ND = (
            parallel.gathered_rows(torch.cat([empty, *self.projections])).sort(dim=0)[0].unbind(1)
        )
        distance = (real_ND - fake_ND).square().mean(0).sqrt().mean()
        yield Scalar("sliced_wasserstein", float(distance))
        if self.shown:
            pictures = torch.cat(self.shown)[: self.num]
            pictures = (pictures * self.std.view(1, -1, 1, 1) + self.mean.view(1, -1, 1, 1)).clamp(
                0, 1
            )
            yield Figure("samples", lambda: _draw(pictures), always=True)


def _draw(pictures_BCHW: Tensor) -> Drawing:
    """One image of all of them: an axis for each would take a second to draw, at every evaluation."""
    from matplotlib.figure import Figure as Drawing

    num, channels, height, width = pictures_BCHW.shape
    columns = math.ceil(math.sqrt(num))
    rows = math.ceil(num / columns)
    gap = max(1, width // 16)
    tiles = torch.ones(rows * columns, channels, height + gap, width + gap)
    tiles[:num, :, :height, :width] = pictures_BCHW
    whole = tiles.view(rows, columns, channels, height + gap, width + gap).permute(0, 3, 1, 4, 2)
    whole = whole.reshape(rows * (height + gap), columns * (width + gap), channels)[:-gap, :-gap]
    drawing = Drawing(figsize=(5, 5 * rows / columns), layout="constrained")
    axes = drawing.add_subplot()
    axes.imshow(whole.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.axis("off")
    return drawing


build = Samples
