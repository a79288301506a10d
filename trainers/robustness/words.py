"""What was found about a classifier's robustness, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainers.robustness.checks import verdict
from trainers.robustness.errors import Estimate, Floats
from trainers.robustness.results import Results

FEW = 20  # pictures that the reference errs on


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
        f"{_percent(1 - estimate.low)}) under {_many(len(means), 'corruption', 'corruptions')} at "
        f"{_many(len(shift.severities), 'severity', 'severities')}; least under {named}."
    )


def _against(found: Results) -> Iterator[str]:
    gap, estimate, ratios = found.difference, found.mce[0], found.mce[1]
    spread = f"95 % interval {100 * gap.low:+.1f} to {100 * gap.high:+.1f} points"
    if gap.low <= 0 <= gap.high:
        yield f"Its errors under corruption cannot be told from the reference's ({spread})."
    else:
        many = "fewer" if gap.value < 0 else "more"
        yield (
            f"Under corruption it errs {abs(100 * gap.value):.1f} points {many} than the reference "
            f"({_percent(found.mean_error['run'].value)} against "
            f"{_percent(found.mean_error['reference'].value)}; {spread})."
        )
    if np.isnan(estimate.value):
        yield "The reference makes no error under any corruption, so mCE is not defined."
        return
    said = f"mCE is {_ratio(estimate)}"
    if not np.isnan(found.relative_mce[0].value):
        said += f", relative mCE {_ratio(found.relative_mce[0])}"
    yield f"{said}.{_left_out(ratios)}{_loose(found)}"


def _left_out(ratios: Floats) -> str:
    none = int(np.isnan(ratios).sum())
    return f" Left out: {none} under which the reference makes no error." if none else ""


def _loose(found: Results) -> str:
    """Ratios to errors on a handful of pictures say little, and weigh as much as the others."""
    # Severities of one picture fall together, so pictures are counted.
    counts = found.shift.errors("reference").corrupted.any(2).sum(0)
    few = int(((counts > 0) & (counts < FEW)).sum())
    if not few:
        return ""
    under = f"{few} corruption{'s' if few > 1 else ''}"
    return f" Under {under} the reference errs on fewer than {FEW} pictures, and ratios to so few are loose."


def _ratio(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _calibration(found: Results) -> str:
    worst = max(found.shift.severities)
    most = found.shift.of_severity("run", worst)
    before, after = (found.shift.calibration_error("run", each) for each in (0, worst))
    gap = most.mean_confidence - most.accuracy
    told = "exceeds" if gap > 0 else "falls short of"
    return (
        f"At severity {worst} confidence {told} accuracy by {abs(100 * gap):.1f} points "
        f"({_percent(most.mean_confidence)}, {_percent(most.accuracy)}); the calibration error grows "
        f"from {before:.3f} to {after:.3f}."
        if after > before
        else f"The calibration error does not grow under corruption: {before:.3f} without, "
        f"{after:.3f} at severity {worst}."
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


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
