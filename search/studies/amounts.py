"""Differences and intervals of scores in words: points of a share, plain numbers of anything else."""

from __future__ import annotations

from search import numbers
from search.studies.statistics import Mean


def spread(metric: str, value: float) -> str:
    """A size of differences."""
    if not numbers.is_fraction(metric):
        return f"{value:.3g}"
    size = f"{100 * value:.3g}"
    return f"{size} point" if size == "1" else f"{size} points"


def span(metric: str, low: float, high: float, unit: str = " points") -> str:
    """An interval of differences as its metric is read."""
    if numbers.is_fraction(metric):
        low, high = max(-1.0, low), min(1.0, high)  # further than that no difference can be
        return f"{100 * low:.1f} to {100 * high:.1f}{unit}".replace("-", "−")
    return f"{numbers.number(low)} to {numbers.number(high)}".replace("-", "−")


def range_of(metric: str, found: Mean) -> str:
    """The interval of a mean; of a share no further than a share can be."""
    if found.low is None or found.high is None:
        return "–"
    if numbers.is_fraction(metric):
        return span(metric, max(0.0, found.low), min(1.0, found.high), " %")
    return span(metric, found.low, found.high)


def points(metric: str, value: float) -> str:
    """A difference of scores, with its sign."""
    if value != value:
        return "–"
    if numbers.is_fraction(metric):
        return f"{100 * value:+.1f} points".replace("-", "−")
    return f"{'−' if value < 0 else '+'}{numbers.number(abs(value))}"
