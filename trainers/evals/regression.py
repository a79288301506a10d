"""Regression of `y` from `x`: root mean squared error, mean absolute error, R^2, and the fit as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datasets.batch import Batch
from trainers import parallel
from trainers.task import Figure, Finding, Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

NEEDS = ("prediction", "x", "y")
SCORES = ("rmse", "mae", "r2")
_DRAWN = 2_000


class Regression:
    def __init__(self) -> None:
        # rows, sum of squared errors, sum of absolute errors, sum of y, sum of y^2
        self.sums = torch.zeros(5, dtype=torch.float64)
        self.points: list[Tensor] = []

    def update(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        prediction = outputs["prediction"].double().flatten().cpu()
        y = batch["y"].double().flatten().cpu()
        error = prediction - y
        ones = torch.ones_like(y)
        columns = [ones, error**2, error.abs(), y, y**2]
        self.sums += torch.stack([column.sum() for column in columns])
        x = batch["x"].double().cpu()
        if x.ndim == 1 or x.shape[1] == 1:
            self.points.append(torch.stack([x.flatten(), y, prediction], dim=1))

    def findings(self) -> Iterator[Finding]:
        rows, squared, absolute, total, square = parallel.summed(self.sums).tolist()
        spread = square - total * total / max(rows, 1)
        yield Scalar("rmse", (squared / max(rows, 1)) ** 0.5)
        yield Scalar("mae", absolute / max(rows, 1))
        yield Scalar("r2", 1 - squared / spread if spread > 0 else 0.0)
        points = parallel.gathered_rows(torch.cat(self.points)) if self.points else None
        if points is not None:
            yield Figure("fit", lambda: _draw(points[:_DRAWN]))


def _draw(points_N3: Tensor) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(6.4, 4), layout="constrained")
    axes = drawing.add_subplot()
    x, y, prediction = points_N3[points_N3[:, 0].argsort()].T.numpy()
    axes.plot(x, y, "o", markersize=3.5, color="#94a3b8", label="data")
    axes.plot(x, prediction, color="#0072b2", linewidth=2, label="model")
    axes.set(xlabel="x", ylabel="y")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return drawing


build = Regression
