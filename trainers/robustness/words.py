"""What was found about a classifier's robustness, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainers.robustness.checks import verdict
from trainers.robustness.errors import Estimate
from trainers.robustness.results import Results


def sentences(found: Results) -> Iterator[str]:
    """The most important first."""
    if found.shift.corruptions:
        yield _corrupted(found)
        if found.compared:
            yield from _against(found)
        else:
            yield (
                "Without a reference there is no mCE, whose errors are relative to another model's: "
                "reference=RUN names one."
            )
        yield _calibration(found)
    if found.siege.methods:
        yield _attacked(found)
        if said := verdict(found.checks):
            yield said
    if found.occlusion.shares:
        yield _hidden(found)


def _corrupted(found: Results) -> str:
    shift = found.shift
    clean, estimate = shift.clean["run"], found.mean_error["run"]
    means = {each: shift.of_corruption("run", each) for each in shift.corruptions}
    worst = sorted(means, key=lambda each: means[each])[:3]
    named = ", ".join(f"{each.replace('_', ' ')} ({_percent(means[each])})" for each in worst)
    return (
        f"Of {clean.rows:,} pictures {_percent(clean.accuracy)} are right as they are, and "
        f"{_percent(1 - estimate.value)} (95 % interval {_percent(1 - estimate.high)} to "
        f"{_percent(1 - estimate.low)}) under {len(means)} corruptions at {len(shift.severities)} "
        f"severities; least under {named}."
    )


def _against(found: Results) -> Iterator[str]:
    estimate, ratios = found.mce
    left_out = int(np.isnan(ratios).sum())
    if np.isnan(estimate.value):
        yield "The reference makes no error under any corruption, so mCE is not defined."
        return
    much = "its errors cannot be told from the reference's, as the interval holds 100 %"
    if estimate.high < 1:
        much = "fewer errors than the reference"
    if estimate.low > 1:
        much = "more errors than the reference"
    without = f" {left_out} corruptions under which the reference makes none are left out." * (
        left_out > 0
    )
    yield f"mCE is {_ratio(estimate)}: {much}.{without}"
    relative = found.relative_mce[0]
    if not np.isnan(relative.value):
        yield f"Relative mCE, of what corruption takes from each, is {_ratio(relative)}."


def _ratio(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _calibration(found: Results) -> str:
    most = found.shift.of_severity("run", max(found.shift.severities))
    clean = found.shift.clean["run"]
    gap = most.mean_confidence - most.accuracy
    told = "exceeds" if gap > 0 else "falls short of"
    return (
        f"At severity {max(found.shift.severities)} confidence {told} accuracy by {abs(100 * gap):.1f} points "
        f"({_percent(most.mean_confidence)}, {_percent(most.accuracy)}); the calibration error grows "
        f"from {clean.calibration_error:.3f} to {most.calibration_error:.3f}."
        if most.calibration_error > clean.calibration_error
        else f"The calibration error does not grow under corruption: {clean.calibration_error:.3f} without, "
        f"{most.calibration_error:.3f} at severity {max(found.shift.severities)}."
    )


def _attacked(found: Results) -> str:
    siege = found.siege
    method = "pgd" if "pgd" in siege.methods else siege.methods[0]
    told = ", ".join(
        f"{_percent(siege.accuracy(method, each))} at {each:g}/255"
        for each in sorted(siege.epsilons)
    )
    steps = f" of {siege.steps} steps" if method == "pgd" else ""
    return (
        f"Of {siege.rows:,} attacked pictures {_percent(siege.accuracy('none', 0.0))} are right untouched; "
        f"after {method.upper()}{steps} {told}."
    )


def _hidden(found: Results) -> str:
    shares = sorted(found.occlusion.shares)
    middle = min(shares, key=lambda share: abs(share - 0.5))
    accuracy = found.occlusion.tallies["run"][middle].accuracy
    return (
        f"With {_percent(found.occlusion.hidden[middle])} of the picture hidden by a gray patch, "
        f"{_percent(accuracy)} are right."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
