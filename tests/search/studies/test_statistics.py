"""The statistics of a study against scipy and statsmodels, and their false alarms where there is nothing to find."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from search.studies import statistics


def near(value: object) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def draws(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_means_and_paired_differences_are_scipys(n: int) -> None:
    a, b = draws(n, n) + 0.3, draws(n + 100, n)
    found = statistics.mean([*a])
    assert (found.n, found.mean, found.sd) == (n, near(a.mean()), near(a.std(ddof=1)))
    interval = stats.t.interval(0.95, n - 1, a.mean(), stats.sem(a))
    assert (found.low, found.high) == near(interval)
    gap, told = statistics.paired([*a], [*b]), stats.ttest_rel(a, b)
    assert gap.p == near(told.pvalue) and gap.test == "paired t"
    assert (gap.low, gap.high) == near([*told.confidence_interval(0.95)])


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 7), (20, 5)])
def test_arms_without_common_seeds_are_welchs(n: int, m: int) -> None:
    a, b = 2 * draws(n, n), draws(m, m)
    gap, told = statistics.unpaired([*a], [*b]), stats.ttest_ind(a, b, equal_var=False)
    assert gap.p == near(told.pvalue)
    assert (gap.low, gap.high) == near([*told.confidence_interval(0.95)])


@pytest.mark.parametrize("n", [1, 2, 9])
def test_holm_is_statsmodels(n: int) -> None:
    ps = [*np.random.default_rng(n).uniform(size=n) ** 2]
    assert statistics.holm(ps) == near([*multipletests(ps, method="holm")[1]])
    untested = statistics.holm([math.nan, *ps, math.nan])
    assert untested[1:-1] == near(statistics.holm(ps)) and math.isnan(untested[0])


@pytest.mark.parametrize("apart", [0.0, 0.02, 0.2])
def test_mcnemar_is_statsmodels(apart: float) -> None:
    source = np.random.default_rng(3)
    a = source.uniform(size=400) < 0.9
    b = np.where(source.uniform(size=400) < apart, ~a, a)
    only, other, p = statistics.mcnemar(a, b)
    table = [[(a & b).sum(), (a & ~b).sum()], [(b & ~a).sum(), (~a & ~b).sum()]]
    assert (only, other) == (table[0][1], table[1][0])
    assert p == near(reference_mcnemar(table, exact=True).pvalue if apart else 1.0)


def test_the_binomial_test_is_scipys() -> None:
    for hits in (0, 3, 30, 100):
        told = stats.binomtest(hits, 100, 0.12, alternative="greater").pvalue
        assert statistics.better_than(0.12, hits, 100) == near(told)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_power_is_statsmodels(n: int) -> None:
    for effect in (0.0, 0.5, 2.0):
        told = TTestPower().power(effect, n, 0.05)
        assert statistics.power(effect, n) == near(told)
    smallest = statistics.detectable(0.02, n)
    assert smallest and statistics.power(smallest / 0.02, n) == pytest.approx(0.8, abs=1e-9)
    assert statistics.detectable(0.02, 1) is None and statistics.detectable(0.0, 3) == 0.0


def test_seeds_needed() -> None:
    needed = statistics.seeds_needed(1.0)
    assert needed and statistics.power(1.0, needed) >= 0.8 > statistics.power(1.0, needed - 1)
    assert statistics.seeds_needed(0.001) is None


def test_one_run_has_no_interval_and_no_runs_no_mean() -> None:
    found = statistics.mean([0.5])
    assert (found.sd, found.low, found.high) == (None, None, None)
    assert math.isnan(statistics.paired([0.5], [0.4]).p)
    with pytest.raises(ValueError, match="nothing"):
        statistics.mean([])


def test_equal_runs_are_no_difference_and_equal_gaps_are_one() -> None:
    same = statistics.paired([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert same.mean == 0 and same.p == 1.0
    # Two seeds that agree are no certainty: of two signs half are equal by chance.
    gap = statistics.paired([0.75, 0.5], [0.5, 0.25])
    assert (gap.p, gap.test, gap.low) == (0.5, "signs", None)
    assert statistics.paired([0.75] * 6, [0.5] * 6).p == stats.binomtest(6, 6).pvalue
    assert math.isnan(statistics.unpaired([0.75] * 3, [0.5] * 3).p)
    assert statistics.unpaired([0.5] * 3, [0.5] * 3).p == 1.0


def studied(source: np.random.Generator, seeds: int, gap: float = 0.0) -> tuple[np.ndarray, ...]:
    """Right or wrong, arm x (seed, row): rows differ in difficulty, seeds in luck, arms by `gap`."""
    rows = source.normal(1.5, 1.0, 200)
    hits = []
    for n in range(2):
        ability = source.normal(n * gap, 0.15, (seeds, 1)) + rows
        hits.append(source.uniform(size=(seeds, 200)) < 1 / (1 + np.exp(-ability)))
    return hits[1], hits[0]


@pytest.mark.parametrize("seeds", [3, 5])
def test_false_alarms_are_as_rare_as_they_say(seeds: int) -> None:
    """200 studies of two equal arms: alarms at 5 % lie within their binomial interval."""
    source, alarms, covered = np.random.default_rng(seeds), 0, 0
    for _ in range(200):
        arm, base = studied(source, seeds)
        gap = statistics.paired([*arm.mean(axis=1)], [*base.mean(axis=1)])
        alarms += gap.p <= 0.05
        low, high = statistics.over_rows(arm.astype(float), base.astype(float), draws=400)
        covered += low <= 0 <= high
    least, most = stats.binom.interval(0.99, 200, 0.05)
    assert least <= alarms <= most
    # Of seeds and rows together at least as often as promised: its halves are added.
    assert covered >= stats.binom.ppf(0.005, 200, 0.95)


def test_a_real_difference_is_found() -> None:
    source, found = np.random.default_rng(1), 0
    for _ in range(50):
        arm, base = studied(source, 5, gap=0.8)
        found += statistics.paired([*arm.mean(axis=1)], [*base.mean(axis=1)]).p <= 0.05
    assert found >= 40


def test_the_bootstrap_is_near_the_formula_and_the_same_each_time() -> None:
    """Of one seed it is that of the rows alone: the mean's standard error."""
    source = np.random.default_rng(5)
    arm, base = (source.uniform(size=(1, 2_000)) < share for share in (0.9, 0.8))
    low, high = statistics.over_rows(arm.astype(float), base.astype(float))
    gaps = arm[0].astype(float) - base[0]
    error = gaps.std(ddof=1) / math.sqrt(2_000)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert (low, high) == statistics.over_rows(arm.astype(float), base.astype(float))
