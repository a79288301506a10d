"""The linear probe is scikit-learn's logistic regression, and its regularisation is chosen by other pictures than are judged."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from statsmodels.stats.proportion import proportion_confint

from trainers.probing import few, linear
from trainers.probing.known import Known, difference, share


def known(rows: int, *, seed: int = 0, apart: float = 1.0, classes: int = 3) -> Known:
    """Gaussian clouds around the corners of a simplex, far from the origin and of no unit scale."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    clouds = generator.normal(size=(rows, 5)) + 3 * apart * np.eye(5)[labels]
    return Known(np.arange(rows) + 100 * seed, labels, (7 + 4 * clouds).astype(np.float32))


def test_it_is_logistic_regression_of_scaled_features() -> None:
    learn, judge = known(90), known(60, seed=1)
    probe = linear.fit(learn, 1e-3)
    centred = learn.features - learn.features.mean(0)
    scale = np.sqrt(np.square(centred).mean())
    reference = LogisticRegression(C=1 / (1e-3 * 90), max_iter=5000, tol=1e-8)
    reference.fit(centred / scale, learn.labels)
    told = reference.predict((judge.features - learn.features.mean(0)) / scale)
    assert probe.told(judge).tolist() == told.tolist() and probe.converged
    # At the minimum the loss's slope is that of the penalty: checked by the mean residual of each feature.
    scaled = centred / scale
    residual = probe.model.predict_proba(scaled) - np.eye(3)[learn.labels]
    np.testing.assert_allclose(residual.T @ scaled / 90, -1e-3 * probe.model.coef_, atol=2e-4)


@pytest.mark.parametrize("factor", [0.01, 30.0])
def test_units_of_the_features_do_not_matter(factor: float) -> None:
    learn, judge = known(60), known(60, seed=1)
    grown = [Known(k.ids, k.labels, k.features * np.float32(factor)) for k in (learn, judge)]
    one, other = linear.fit(learn, 1e-2), linear.fit(grown[0], 1e-2)
    assert (one.told(judge) == other.told(grown[1])).mean() > 0.98


def test_constant_features_are_no_division_by_zero() -> None:
    flat = Known(np.arange(6), np.arange(6) % 2, np.ones((6, 4), np.float32))
    assert linear.fit(flat, 1.0).right(flat).mean() == 0.5


def test_of_equal_strengths_the_strongest() -> None:
    assert linear.best([(1e-4, 0.9), (1e-2, 0.9), (1.0, 0.8)]) == 1e-2


@pytest.mark.parametrize("hits", [0, 1, 37, 99, 100])
def test_the_interval_is_wilsons(hits: int) -> None:
    found = share(np.arange(100) < hits)
    assert (found.low, found.high) == pytest.approx(
        proportion_confint(hits, 100, method="wilson"), abs=1e-9
    )
    assert found.value == hits / 100


def test_a_difference_is_of_the_same_rows() -> None:
    one, other = np.arange(100) < 80, np.arange(100) < 60
    found = difference(one, other)
    assert found.value == pytest.approx(0.2) and found.low > 0.1 and found.high < 0.3
    assert difference(one, one).low == difference(one, one).high == 0


def test_shots_are_nested_and_of_every_class() -> None:
    pool = known(120)
    for seed in range(3):
        rows = [pool.shots(count, seed) for count in (1, 4, 16)]
        assert [len(each) for each in rows] == [3, 12, 48]
        assert {*rows[0]} <= {*rows[1]} <= {*rows[2]}
    assert {*pool.shots(4, 0)} != {*pool.shots(4, 1)}


def test_a_fifth_is_left_out_in_proportion() -> None:
    pool = known(150)
    learn, by = pool.fifth()
    assert not {*learn.ids} & {*by.ids} and len(learn) + len(by) == 150
    assert np.bincount(by.labels).tolist() == [10, 10, 10]


def test_more_labels_are_better_and_the_judged_chooses_nothing() -> None:
    """Judged labels that are turned round change what is found, and not what is chosen."""
    pool, judged, by = (
        known(300, apart=0.4),
        known(200, seed=1, apart=0.4),
        known(200, seed=2, apart=0.4),
    )
    found = few.curve(pool, judged, (1, 16), range(4), by=by, strengths=(1e-4, 1e-1))
    assert found.accuracy.shape == (2, 4) and found.means[1] > found.means[0] + 0.05
    turned = Known(judged.ids, (judged.labels + 1) % 3, judged.features)
    again = few.curve(pool, turned, (1, 16), range(4), by=by, strengths=(1e-4, 1e-1))
    assert again.strengths == found.strengths and (again.means < found.means).all()
    assert [gain.value for gain in few.gains(found, found)] == [0, 0]


def test_one_draw_has_no_spread() -> None:
    pool = known(60)
    found = few.curve(pool, pool, (2,), [0], by=None, strengths=(1e-2,))
    assert np.isnan(found.sds).all()
    assert (found.interval(0).low, found.interval(0).high) == (0, 1)
