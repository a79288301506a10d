"""Mean corruption error, alone and against a reference (arXiv 1903.12261), with intervals over samples.

CE of a corruption: the sum over severities of the model's error, over the reference's sum; mCE is its mean over
corruptions. Relative CE: the same of what each loses against its own error without corruption.
"""

# N sample, C corruption, S severity, R resample

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets import order

Wrong: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
RESAMPLES = 1000


@dataclass(frozen=True)
class Errors:
    """What one model got wrong, sample by sample: without corruption (N,), and under each (N, C, S)."""

    clean: Wrong
    corrupted: Wrong


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval over samples (percentiles of a bootstrap); NaN where it is not defined."""

    value: float
    low: float
    high: float


def mean_error(model: Errors) -> Estimate:
    """The mean over corruptions and severities of the share that is wrong."""
    sums = [model.corrupted.mean((1, 2))[:, None]]
    return _estimated(sums, lambda means: means[0].mean(1))


def difference(model: Errors, reference: Errors) -> Estimate:
    """The model's mean error less the reference's, on the same pictures."""
    gaps = model.corrupted.mean((1, 2)) - reference.corrupted.mean((1, 2))
    return _estimated([gaps[:, None]], lambda means: means[0].mean(1))


def mce(model: Errors, reference: Errors) -> tuple[Estimate, Floats]:
    """mCE, and each corruption's CE (NaN where the reference makes no error: it is left out of the mean)."""
    sums = [each.corrupted.mean(2) for each in (model, reference)]
    return _estimated(sums, lambda means: _mean(_ratio(*means))), _ratio(*_whole(sums))[0]


def relative_mce(model: Errors, reference: Errors) -> tuple[Estimate, Floats]:
    """The mCE of what is lost, and each corruption's; NaN where the reference loses nothing."""
    sums = [each.corrupted.mean(2) - each.clean[:, None] for each in (model, reference)]
    return _estimated(sums, lambda means: _mean(_ratio(*means))), _ratio(*_whole(sums))[0]


def _whole(sums: list[Floats]) -> list[Floats]:
    return [each.mean(0, keepdims=True) for each in sums]


def _ratio(model_RC: Floats, reference_RC: Floats) -> Floats:
    known = reference_RC > 1e-12
    return np.where(known, model_RC / np.where(known, reference_RC, 1.0), np.nan)


def _mean(ratios_RC: Floats) -> Floats:
    known = ~np.isnan(ratios_RC)
    total = np.where(known, ratios_RC, 0.0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)


def _estimated(sums: list[Floats], of: Callable[[list[Floats]], Floats]) -> Estimate:
    """`of` maps means over samples, (R, C) each, to (R,); of all samples, and of samples drawn with repetition."""
    rows = len(sums[0])
    value = float(of(_whole(sums))[0])
    key, drawn = order.key("bootstrap"), []
    for resample in range(RESAMPLES):
        chosen = order.integers(key, np.arange(rows), resample, rows)
        weights = np.bincount(chosen, minlength=rows) / rows
        drawn.append([weights @ each for each in sums])
    found = of([np.stack(each) for each in zip(*drawn, strict=True)])
    if np.isnan(value) or np.isnan(found).all():
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(found, (2.5, 97.5))
    return Estimate(value, float(low), float(high))
