"""Poles of functions of x: found where they are, and none where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datasets.formats import expressions, poles
from datasets.refusal import Refusal
from datasets.sources import curve


@pytest.mark.parametrize(
    ("said", "at"),
    [
        ("1/x", 0.0), ("1/(x-0.3333333)", 0.3333333), ("1/(x-0.3333333)**2", 0.3333333),
        ("sin(x)/cos(x)", 1.5707963), ("log(x+1)", -1.0), ("log(abs(x))", 0.0), ("sqrt(x)", -1.0),
        ("1/(2-x)", 2.0), ("abs(x-1.2345)**-0.5", 1.2345), ("exp(exp(x*3))", None), ("x**-2 + x", 0.0),
    ],
)  # fmt: skip
def test_what_has_no_number_is_found(said: str, at: float | None) -> None:
    found = poles.found(expressions.function(said), -1.0, 2.0)
    assert found is not None and (at is None or found == pytest.approx(at, abs=1e-4))
    with pytest.raises(Refusal, match="has no number at x = ") as caught:
        curve.build(function=said, low=-1.0, high=2.0, num_rows=8)
    assert (caught.value.path, caught.value.value) == ("data.source.function", said)


@pytest.mark.parametrize(
    "said",
    ["x", "x**2 + 2*cos(x) + 2/exp(x)", "sin(3000*x)", "exp(20*x)", "1/(x**2 + 0.000001)", "tanh(1e6*x)",
     "abs(x)", "0*x", "1/(x + 1.001)", "1000000*x**7", "sqrt(x + 1)", "1/exp(x**2*100000)"],
)  # fmt: skip
def test_what_has_numbers_everywhere_is_taken(said: str) -> None:
    source = curve.build(function=said, low=-1.0, high=2.0, num_rows=8)
    assert np.isfinite(source.columns["y"]).all()


def test_the_range_that_is_judged_is_looked_at_too() -> None:
    words: dict[str, Any] = {"function": "1/(x-3.1)", "low": -1.0, "high": 2.0, "num_rows": 8}
    assert curve.build(**words)
    with pytest.raises(Refusal, match=r"no number at x = 3\.1"):
        curve.build(**words, test_high=4.0)
