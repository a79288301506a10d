"""What several seeds and several test items say of a mean and of a difference; nothing here knows of runs or files.

R runs (seeds), N items (rows of a split). Runs of two arms are paired by seed, items by id.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets import order
from search import numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95
ALPHA = 0.05  # of a whole table, after Holm
POWER = 0.8
DRAWS = 2_000  # of the bootstrap
_CHUNK = 100
ROUNDING = 1e-12
_BOOTSTRAP = order.key("study bootstrap")


@dataclass(frozen=True)
class Mean:
    """The mean of R scores; `sd` and the interval are None for one run."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """Arm minus baseline. `p` is two-sided; `test` names what gave it, "" where nothing could be tested.

    `low` and `high` are the 95 % interval over seeds (of the rows as they are); `rows_low` and `rows_high` that over
    seeds and rows, where the rows are known.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p: float
    test: str
    rows_low: float | None = None
    rows_high: float | None = None


def mean(values: Sequence[float]) -> Mean:
    """Student's interval of the mean, 95 %. Raises ValueError without values."""
    if not values:
        raise ValueError("the mean of nothing")
    n, middle = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Mean(1, middle, None, None, None)
    sd = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (n - 1))
    half = _t(n - 1) * sd / math.sqrt(n)
    return Mean(n, middle, sd, middle - half, middle + half)


def paired(arm: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Differences on the same seeds: Student's interval and paired t-test; of one seed nothing can be tested."""
    gaps = [one - other for one, other in zip(arm, baseline, strict=True)]
    found = mean(gaps)
    if found.sd is None:
        return Difference(1, found.mean, None, None, None, math.nan, "")
    if found.sd <= ROUNDING * abs(found.mean):
        # Scores that count few rows may well agree by chance: all that is known is that the signs do.
        return Difference(found.n, found.mean, 0.0, None, None, _signs(found), "signs")
    p = _two_sided(found.mean / (found.sd / math.sqrt(found.n)), found.n - 1)
    return Difference(found.n, found.mean, found.sd, found.low, found.high, p, "paired t")


def unpaired(arm: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Welch's interval and test (1947), for arms that share no seeds."""
    one, other = mean(arm), mean(baseline)
    gap = one.mean - other.mean
    if one.sd is None or other.sd is None:
        return Difference(min(one.n, other.n), gap, None, None, None, math.nan, "")
    parts = (one.sd**2 / one.n, other.sd**2 / other.n)
    error = math.sqrt(sum(parts))
    if not error:  # neither arm varies: nothing is known of how sure the gap is
        return Difference(min(one.n, other.n), gap, 0.0, None, None, math.nan if gap else 1.0, "")
    freedom = sum(parts) ** 2 / sum(
        part**2 / (n - 1) for part, n in zip(parts, (one.n, other.n), strict=True)
    )
    half = _t(freedom) * error
    p = _two_sided(gap / error, freedom)
    n = min(one.n, other.n)
    return Difference(n, gap, error * math.sqrt(n), gap - half, gap + half, p, "Welch")


def mcnemar(arm: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> tuple[int, int, float]:
    """(items only the arm gets right, only the baseline, p) of one run each: the exact test (McNemar 1947), (N,)."""
    from scipy.special import bdtr

    only, other = int((arm & ~baseline).sum()), int((baseline & ~arm).sum())
    return only, other, min(1.0, 2 * float(bdtr(min(only, other), only + other, 0.5)))


def better_than(share: float, hits: int, rows: int) -> float:
    """p of at least so many hits where each row is one with probability `share`: the exact binomial test, one-sided."""
    from scipy.special import bdtrc

    return float(bdtrc(hits - 1, rows, share)) if hits > 0 else 1.0


def over_rows(
    arm: NDArray[np.float64], baseline: NDArray[np.float64], *, draws: int = DRAWS
) -> tuple[float, float]:
    """The 95 % interval of a difference of means over seeds and rows, both (R, N), the same in both arms.

    Seeds and rows are drawn with replacement, each by itself (Owen 2007, "The pigeonhole bootstrap"). A bootstrap of few
    seeds is too narrow; so the seeds' part is widened as Student's interval is: by t over z and by R / (R - 1).
    """
    import numpy as np

    gaps = np.asarray(arm, float) - np.asarray(baseline, float)
    runs = len(gaps)
    middle = gaps.mean()
    per_seed, per_row = gaps.mean(axis=1), gaps.mean(axis=0)

    def drawn(values: NDArray[np.float64], first: int) -> NDArray[np.float64]:
        """By how much the means of as many, drawn with replacement, differ from the mean: one a draw."""
        source = np.random.Generator(np.random.PCG64([_BOOTSTRAP, first]))
        means: list[NDArray[np.float64]] = []
        for start in range(0, draws, _CHUNK):
            many = min(_CHUNK, draws - start)
            means.append(values[source.integers(0, len(values), (many, len(values)))].mean(axis=1))
        return np.concatenate(means) - middle

    spread = drawn(per_row, 0)
    if runs > 1:
        wide = _t(runs - 1) / numbers.Z_95 * math.sqrt(runs / (runs - 1))
        spread = spread + wide * drawn(per_seed, 1)
    low, high = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(middle + low), float(middle + high)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in their own order; what could not be tested stays nan."""
    places = sorted((p, place) for place, p in enumerate(ps) if p == p)
    adjusted, most = list(ps), 0.0
    for rank, (p, place) in enumerate(places):
        most = max(most, min(1.0, (len(places) - rank) * p))
        adjusted[place] = most
    return adjusted


def power(effect: float, n: int, alpha: float = ALPHA) -> float:
    """The chance that a paired t-test over n seeds finds a mean difference of `effect` standard deviations."""
    from scipy.special import nctdtr, stdtrit

    if n < 2:
        return 0.0
    shift, edge = effect * math.sqrt(n), -stdtrit(n - 1, alpha / 2)
    other = float(
        nctdtr(n - 1, shift, -edge)
    )  # scipy has no number for it where it is next to nothing
    return float(1 - nctdtr(n - 1, shift, edge)) + (0.0 if math.isnan(other) else other)


def detectable(sd: float, n: int, alpha: float = ALPHA) -> float | None:
    """The difference that n seeds find four times in five, where differences have this sd; None for one seed."""
    if n < 2:
        return None
    if not sd:
        return 0.0
    most = 1.0
    while power(most, n, alpha) < POWER:
        most *= 2
    least = 0.0
    while most - least > ROUNDING * most:  # power grows with the effect
        middle = (least + most) / 2
        least, most = (least, middle) if power(middle, n, alpha) >= POWER else (middle, most)
    return sd * most


def seeds_needed(effect: float, most: int = 1_000) -> int | None:
    """The fewest seeds that find a difference of `effect` standard deviations four times in five; None beyond `most`."""
    return next((n for n in range(2, most + 1) if power(abs(effect), n) >= POWER), None)


def _signs(gaps: Mean) -> float:
    """The exact sign test where all gaps are the same; 1 where there are none."""
    return 0.5 ** (gaps.n - 1) if gaps.mean else 1.0


# Of scipy's, the special functions alone: `scipy.stats` takes half a second to import.
def _two_sided(t: float, freedom: float) -> float:
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(t)))


def _t(freedom: float) -> float:
    """The quantile of Student's t that the interval reaches to."""
    from scipy.special import stdtrit

    return float(-stdtrit(freedom, (1 - LEVEL) / 2))
