"""Points of a space as Optuna draws them, and back: what a trial changes in the recipe."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from trainers.space import WHOLE, Dimension, Space

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Changes = dict[str, Any]
QUANTILE = " (quantile)"  # Optuna has no normal distribution and no weights: it draws where in the distribution


def draw(trial: BaseTrial, space: Space, tree: Any) -> Changes:
    """`{dotted.path: value}` of a trial, drawn one after the other: a condition sees what was drawn before it.

    `tree` is the recipe's plain tree.
    """
    chosen: Changes = {}
    for dimension in space.dimensions:
        if space.applies(dimension, chosen.get, tree):
            chosen[dimension.path] = _drawn(trial, dimension)
    return {**space.constants, **chosen}


def encoded(space: Space, point: Mapping[str, Any]) -> Changes:
    """The parameters under which Optuna would know a point."""
    known = {dimension.path: dimension for dimension in space.dimensions}
    return {name(known[path]): _code(known[path], value) for path, value in point.items()}


def name(dimension: Dimension) -> str:
    """Of Optuna's parameter."""
    return dimension.path + (QUANTILE if _by_quantile(dimension) else "")


def _by_quantile(dimension: Dimension) -> bool:
    return dimension.kind == "weighted" or "normal" in dimension.kind


def _drawn(trial: BaseTrial, dimension: Dimension) -> Any:
    key, kind, numbers = name(dimension), dimension.kind, dimension.numbers
    if kind == "choice":
        label = trial.suggest_categorical(key, [_label(value) for value in dimension.values])
        return next(value for value in dimension.values if _label(value) == label)
    if _by_quantile(dimension):
        # Not the very ends, where a normal distribution is infinite.
        return _at_quantile(dimension, trial.suggest_float(key, 1e-6, 1 - 1e-6))
    if kind in WHOLE:
        least, most = int(numbers[0]), int(numbers[1])
        step = int(numbers[2]) if kind == "qrandint" else 1
        return trial.suggest_int(key, least, most, step=step, log=kind == "lograndint")
    if kind == "quniform":
        return trial.suggest_float(key, numbers[0], numbers[1], step=numbers[2])
    value = trial.suggest_float(key, numbers[0], numbers[1], log="log" in kind)
    return dimension.quantised(value)


def _at_quantile(dimension: Dimension, quantile: float) -> Any:
    if dimension.kind == "weighted":
        place = bisect_right([*accumulate(dimension.weights)], quantile)
        return dimension.values[min(place, len(dimension.values) - 1)]
    value = NormalDist(*dimension.numbers[:2]).inv_cdf(quantile)
    return dimension.quantised(math.exp(value) if "log" in dimension.kind else value)


def _code(dimension: Dimension, value: Any) -> Any:
    if dimension.kind == "choice":
        return _label(value)
    if dimension.kind == "weighted":
        place = dimension.values.index(value)
        return sum(dimension.weights[:place]) + dimension.weights[place] / 2
    if "normal" in dimension.kind:
        found = math.log(value) if "log" in dimension.kind else value
        quantile = NormalDist(*dimension.numbers[:2]).cdf(found)
        return min(max(quantile, 1e-6), 1 - 1e-6)
    return value


def _label(value: Any) -> Any:
    """What Optuna can keep as a category: a scalar as it is, all else as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, sort_keys=True)
