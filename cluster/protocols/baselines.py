"""Simple fits beside a regression: the mean, ridge regression and a spline, learnt from the run's training rows."""

# N rows, C columns of x

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from cluster.protocol import Outcome
from cluster.saved import Saved
from datasets.progress import Shown
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import summary
from trainers.task import Figure, Finding, Scalar, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Numbers = NDArray[np.float64]
NAMES = {
    "model": "the model",
    "spline": "the spline",
    "ridge": "ridge regression",
    "mean": "the mean",
}
_COLOURS = {"model": "#0072b2", "spline": "#d55e00", "ridge": "#009e73", "mean": "#64748b"}
_DRAWN = 2_000


@dataclass(frozen=True)
class Rows:
    """Of a split: x (N, C), y (N,), and where nothing was learnt from (N,)."""

    x: Numbers
    y: Numbers
    beyond: NDArray[np.bool_]


def build(
    saved: Saved,
    split: str,
    shown: Shown,
    *,
    knots: PositiveInt = 12,
    degree: PositiveInt = 3,
    strengths: list[PositiveFloat] = [1e-6, 1e-4, 1e-2, 1.0, 100.0],
) -> Outcome:
    """`strengths` are those of the penalty, of which leave-one-out on the training rows chooses, for ridge and spline.

    The spline has `knots` knots at quantiles of each column of x and goes on straight beyond them.
    """
    if knots < 2:
        raise Refusal("a spline has two knots at least", path="knots", value=knots, remedy="use 12")
    if not strengths:
        raise Refusal("is empty", path="strengths", value="[]", remedy="leave it out")
    dataset = saved.dataset(split)
    learnt, judged = _rows(dataset, "train", saved), _rows(dataset, split, saved)
    if split == "test":
        summary.count_opening(saved.run.url, split)
    with shown(f"baselines of {saved.run.name}", "fits") as progress:
        _, predictions = saved.evaluate(split)
        told = {"model": predictions["prediction"].double().numpy().reshape(len(judged.y))}
        progress(1, len(NAMES))
        told |= fitted(learnt, judged.x, knots=knots, degree=degree, strengths=strengths)
        progress(len(told), len(NAMES))
    inside = {name: _rmse(said, judged, ~judged.beyond) for name, said in told.items()}
    outside = {name: _rmse(said, judged, judged.beyond) for name, said in told.items()}
    findings: list[Finding] = [Scalar(f"{name}_rmse", value) for name, value in inside.items()]
    columns: dict[str, Sequence[Any]] = {"fit": list(told), "rmse": [*inside.values()]}
    if judged.beyond.any():
        findings += [Scalar(f"{name}_rmse_beyond", value) for name, value in outside.items()]
        columns["rmse_beyond"] = [*outside.values()]
    findings.append(Table("baselines", columns))
    if judged.x.shape[1] == 1:
        findings.append(Figure("fits", lambda: _draw(judged, told)))
    return Outcome(findings, [*_sentences(inside, outside, judged, len(learnt.y), split)])


def fitted(
    learnt: Rows, x_NC: Numbers, *, knots: int, degree: int, strengths: Sequence[float]
) -> dict[str, Numbers]:
    """What each baseline says of x, (N,)."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer, StandardScaler

    knots = min(knots, len(np.unique(learnt.x, axis=0)))
    spline = SplineTransformer(knots, degree, knots="quantile", extrapolation="linear")
    pipelines = {
        "spline": make_pipeline(spline, RidgeCV(strengths)),
        "ridge": make_pipeline(StandardScaler(), RidgeCV(strengths)),
    }
    found = {name: one.fit(learnt.x, learnt.y).predict(x_NC) for name, one in pipelines.items()}
    return {**found, "mean": np.full(len(x_NC), learnt.y.mean())}


def _rows(dataset: Dataset, split: str, saved: Saved) -> Rows:
    columns = dataset.columns(split)
    names = [name for name in columns if name == "x" or name.startswith("x_")]
    if not names or "y" not in columns:
        raise Refusal(
            f"'{dataset.manifest.name}' has no x and y to fit: baselines are for tables",
            path=saved.run.url,
            remedy="choose a run of a regression",
        )
    y = np.asarray(columns["y"], np.float64)
    x = [np.asarray(columns[name], np.float64).reshape(len(y), -1) for name in names]
    beyond = np.asarray(columns.get("beyond", np.zeros(len(y)))) > 0
    return Rows(np.concatenate(x, axis=1), y.reshape(len(y)), beyond)


def _rmse(said_N: Numbers, rows: Rows, among: NDArray[np.bool_]) -> float:
    if not among.any():
        return float("nan")
    return float(np.sqrt(np.square(said_N - rows.y)[among].mean()))


def _sentences(
    inside: dict[str, float], outside: dict[str, float], judged: Rows, learnt: int, split: str
) -> list[str]:
    def ranked(scores: dict[str, float]) -> str:
        order = sorted(scores, key=lambda name: (np.isnan(scores[name]), scores[name]))
        return ", ".join(f"{NAMES[name]} {scores[name]:.4g}" for name in order)

    many = f"{len(judged.y):,} rows of the {split} split"
    said = [f"RMSE on {many}, all learnt from the same {learnt:,} rows: {ranked(inside)}."]
    if judged.beyond.any():
        rows = int(judged.beyond.sum())
        said[0] = said[0].replace(many, f"{len(judged.y) - rows:,} rows of the {split} split")
        said.append(f"On {rows:,} rows beyond the range that was learnt from: {ranked(outside)}.")
    return said


def _draw(judged: Rows, told: dict[str, Numbers]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    from trainers.evals.regression import mark_beyond, show_within

    drawing = Drawing(figsize=(7.2, 5.8), layout="constrained")
    fit, rest = drawing.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [5, 2]})
    order = judged.x[:, 0].argsort()[:_DRAWN]
    x, y = judged.x[order, 0], judged.y[order]
    fit.plot(x, y, "o", markersize=3.5, color="#cbd5e1", label="data")
    for name, said in told.items():
        fit.plot(x, said[order], color=_COLOURS[name], linewidth=1.6, label=NAMES[name])
        if name in ("model", "spline"):
            rest.plot(x, said[order] - y, "o", markersize=2.5, color=_COLOURS[name])
    rest.axhline(0, color="#64748b", linewidth=0.8)
    mark_beyond((fit, rest), x, judged.beyond[order])
    every = np.concatenate([told[name][order] - y for name in ("model", "spline")])
    inside = np.tile(~judged.beyond[order], 2)
    show_within(rest, every[inside], np.tile(x, 2), every)
    fit.set(ylabel="y")
    rest.set(xlabel="x", ylabel="fit - y")
    for axes in (fit, rest):
        axes.spines[["top", "right"]].set_visible(False)
    fit.legend(frameon=False)
    return drawing
