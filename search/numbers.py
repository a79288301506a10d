"""Numbers as people read them, and how far to trust a proportion."""

from __future__ import annotations

import math
from typing import Any

FRACTIONS = ("accuracy", "top1", "top5", "precision", "recall", "f1", "auc", "auroc", "map", "iou")
LOWER = (
    *("loss", "nll", "perplexity", "error", "rmse", "mse", "mae", "ece"),
    *("distance", "fid", "kid", "wasserstein", "dead"),
)
Z_95 = 1.959963984540054


def wilson(share: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion seen in n trials (Wilson 1927), 95 % by default."""
    if n <= 0:
        return 0.0, 1.0
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _words(metric: str) -> list[str]:
    return metric.lower().rsplit("/", 1)[-1].replace("-", "_").split("_")


def is_fraction(metric: str) -> bool:
    """Whether a metric is a share of 1 that reads better as a percentage."""
    return not lower_is_better(metric) and any(word in FRACTIONS for word in _words(metric))


def is_proportion(metric: str) -> bool:
    """Whether a metric counts hits among rows, so that a binomial interval is due."""
    words = _words(metric)
    return "balanced" not in words and any(w in ("accuracy", "top1", "top5") for w in words)


def lower_is_better(metric: str) -> bool:
    """Whether less of it is better: losses, errors, distances, calibration error."""
    return any(word in LOWER for word in _words(metric))


def count(value: float) -> str:
    """1257 -> '1,257'."""
    return f"{round(value):,}" if math.isfinite(value) else "n/a"


def short(value: float) -> str:
    """11200000 -> '11.2 M'; exact below ten thousand."""
    if not math.isfinite(value):
        return "n/a"
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g} {unit}"
    return count(value)


def percent(value: float, digits: int = 1) -> str:
    """0.9833 -> '98.3 %'."""
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else "n/a"


def seconds(value: float) -> str:
    """12.43 -> '12.4 s'; 192 -> '3 min 12 s'; 7500 -> '2 h 05 min'."""
    if not math.isfinite(value):
        return "n/a"
    if value < 60:
        return f"{value:.3g} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: Any) -> str:
    """Any number: integers with thousands, others to four significant digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "n/a"
    if float(value).is_integer() and abs(value) < 1e15:
        return count(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 0.001:
        text = f"{float(f'{value:.4f}'):.4g}"  # four decimals at most, so that columns agree
        return text if "." in text or "e" in text else f"{value:#.4g}"  # 1.000, for it is not 1
    return f"{value:.3g}"


def score(metric: str, value: Any) -> str:
    """A score as its metric is usually read: shares in percent, all else as a number."""
    if not isinstance(value, (int, float)):
        return "–" if value is None else str(value)
    return percent(value) if is_fraction(metric) and 0 <= value <= 1 else number(value)
