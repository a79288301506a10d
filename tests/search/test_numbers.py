"""Formats and intervals against values worked out elsewhere."""

import pytest

from search import numbers


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_agrees_with_newcombe(hits: int, n: int, low: float, high: float) -> None:
    assert numbers.wilson(hits / n, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_nothing_says_nothing() -> None:
    assert numbers.wilson(0.0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (numbers.count(1257), "1,257"),
        (numbers.percent(0.98333), "98.3 %"),
        (numbers.percent(float("nan")), "n/a"),
        (numbers.seconds(12.43), "12.4 s"),
        (numbers.seconds(59.97), "60.0 s"),
        (numbers.seconds(192), "3 min 12 s"),
        (numbers.seconds(7500), "2 h 05 min"),
        (numbers.short(11_234_567), "11.2 M"),
        (numbers.short(999), "999"),
        (numbers.number(0.123456), "0.1235"),
        (numbers.number(3.0), "3"),
        (numbers.number(0.067551), "0.0676"),
        (numbers.number(3e-4), "0.0003"),
        (numbers.number(12.3456), "12.35"),
        (numbers.number(0.99996), "1.000"),
        (numbers.score("test/accuracy", 1.0), "100.0 %"),
        (numbers.score("test/rmse", 0.0512), "0.0512"),
        (numbers.score("val/calibration_error", 0.02), "0.02"),
        (numbers.score("val/macro_f1", 0.5), "50.0 %"),
        (numbers.score("val/accuracy", None), "–"),
    ],
)
def test_numbers_as_people_read_them(said: str, wanted: str) -> None:
    assert said == wanted


def test_which_way_is_better() -> None:
    lower = ("val/loss", "test/rmse", "mae", "calibration_error", "val/sliced_wasserstein")
    assert all(numbers.lower_is_better(metric) for metric in lower)
    assert not any(numbers.lower_is_better(m) for m in ("val/accuracy", "r2", "images_per_second"))


def test_only_shares_of_rows_have_a_binomial_interval() -> None:
    assert numbers.is_proportion("test/accuracy")
    assert numbers.is_proportion("test/top5")
    assert not numbers.is_proportion("test/balanced_accuracy")
    assert not numbers.is_proportion("test/macro_f1")
