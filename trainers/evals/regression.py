"""Regression of `y` from `x`: root mean squared error, mean absolute error, R^2, and the fit with its residuals as a picture.

Where the data have a column `beyond`, rows outside the range that is learnt from are scored apart, as `rmse_beyond`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datasets.batch import Batch
from trainers import parallel
from trainers.task import Figure, Finding, Scalar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

NEEDS = ("prediction", "x", "y")
SCORES = ("rmse", "mae", "r2")
_DRAWN = 2_000


class Regression:
    def __init__(self) -> None:
        # rows, sum of squared errors, sum of absolute errors, sum of y, sum of y^2; within, and beyond
        self.sums = torch.zeros(2, 5, dtype=torch.float64)
        self.points: list[Tensor] = []  # x, y, prediction, beyond

    def update(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        prediction = outputs["prediction"].double().flatten().cpu()
        y = batch["y"].double().flatten().cpu()
        given = batch.get("beyond")
        beyond = torch.zeros_like(y) if given is None else given.double().flatten().cpu()
        error = prediction - y
        columns = [torch.ones_like(y), error**2, error.abs(), y, y**2]
        for place, weight in enumerate((1 - beyond, beyond)):
            # A prediction that is no number beyond the range must not spoil the sums within it.
            kept = weight > 0
            self.sums[place] += torch.stack([column[kept].sum() for column in columns])
        x = batch["x"].double().cpu()
        if x.ndim == 1 or x.shape[1] == 1:
            self.points.append(torch.stack([x.flatten(), y, prediction, beyond], dim=1))

    def findings(self) -> Iterator[Finding]:
        within, beyond = parallel.summed(self.sums).tolist()
        rows, squared, absolute, total, square = within
        spread = square - total * total / max(rows, 1)
        yield Scalar("rmse", (squared / max(rows, 1)) ** 0.5)
        yield Scalar("mae", absolute / max(rows, 1))
        yield Scalar("r2", 1 - squared / spread if spread > 0 else 0.0)
        if beyond[0]:
            yield Scalar("rmse_beyond", (beyond[1] / beyond[0]) ** 0.5)
        points = parallel.gathered_rows(torch.cat(self.points)) if self.points else None
        if points is not None:
            yield Figure("fit", lambda: _draw(points[:_DRAWN]))


def _draw(points_N4: Tensor) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(6.4, 5.4), layout="constrained")
    fit, rest = drawing.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [5, 2]})
    x, y, prediction, beyond = points_N4[points_N4[:, 0].argsort()].T.numpy()
    fit.plot(x, y, "o", markersize=3.5, color="#94a3b8", label="data")
    fit.plot(x, prediction, color="#0072b2", linewidth=2, label="model")
    rest.plot(x, prediction - y, "o", markersize=2.5, color="#0072b2")
    rest.axhline(0, color="#64748b", linewidth=0.8)
    mark_beyond((fit, rest), x, beyond)
    show_within(rest, (prediction - y)[beyond == 0], x, prediction - y)
    fit.set(ylabel="y")
    rest.set(xlabel="x", ylabel="model - y")
    for axes in (fit, rest):
        axes.spines[["top", "right"]].set_visible(False)
    fit.legend(frameon=False)
    return drawing


def mark_beyond(panels: tuple[Axes, ...], x_N: object, beyond_N: object) -> None:
    """Shade where nothing was learnt from: left and right of all rows that lie within.

    What is known are rows, not the range itself: its ends lie between two rows, and are drawn half way.
    """
    import numpy as np

    x, outside = np.asarray(x_N, float), np.asarray(beyond_N) > 0
    if not outside.any() or outside.all():
        return
    low, high = x[~outside].min(), x[~outside].max()
    left, right = x[outside & (x < low)], x[outside & (x > high)]
    for panel, axes in enumerate(panels):
        label = None if panel else "beyond what is learnt from"
        ends = [(left.min(), (left.max() + low) / 2)] if len(left) else []
        ends += [((high + right.min()) / 2, right.max())] if len(right) else []
        for start, end in ends:
            axes.axvspan(start, end, color="#f59e0b", alpha=0.15, linewidth=0, label=label)
            label = None


def show_within(axes: Axes, within_N: object, x_N: object, residuals_N: object) -> None:
    """Residuals beyond are so large that those within could not be seen: the axis is for these, and the others are marked
    at its edges.
    """
    import numpy as np

    largest = np.abs(np.asarray(within_N, float)).max(initial=0.0)
    if not (np.isfinite(largest) and largest > 0):
        return
    edge = 1.3 * largest
    axes.set_ylim(-edge, edge)
    x, residuals = np.asarray(x_N, float), np.asarray(residuals_N, float)
    for cut, place, marker in ((residuals > edge, edge, "^"), (residuals < -edge, -edge, "v")):
        if cut.any():
            level = np.full(cut.sum(), 0.94 * place)
            axes.plot(x[cut], level, marker, markersize=4, color="#d55e00", clip_on=False)
            axes.annotate(
                f"{cut.sum():,} beyond the axis, to {residuals[cut][np.abs(residuals[cut]).argmax()]:.3g}",
                xy=(0.5, 0.84 if place > 0 else 0.1),
                xycoords="axes fraction",
                ha="center",
                color="#d55e00",
                fontsize=8,
            )


build = Regression
