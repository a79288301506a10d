"""The best evaluation, and when to stop waiting for a better one."""

from __future__ import annotations

import math

import pytest

from trainers.choice import Choice, Score
from trainers.recipe import Keep

KEEP = Keep(metric="val/accuracy", mode="max", patience=2)


def test_the_first_of_equals_is_the_best() -> None:
    assert Choice(KEEP).best is None
    assert Choice(KEEP, [(0, 4, 0.3), (0, 6, 0.2), (1, 10, 0.3)]).best == Score(0, 4, 0.3)


def test_less_is_better_where_the_recipe_says_so() -> None:
    choice = Choice(Keep(metric="val/loss", mode="min"), [(0, 4, 0.3), (0, 6, 0.2)])
    assert choice.best == Score(0, 6, 0.2)
    assert choice.of_phase(0) == (-0.3, -0.2)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_what_is_no_number_never_wins(mode: str) -> None:
    keep = Keep.model_validate({"metric": "val/accuracy", "mode": mode})
    choice = Choice(keep, [(0, 4, math.nan), (0, 6, 0.1), (1, 9, math.nan)])
    assert choice.best == Score(0, 6, 0.1)
    assert choice.of_phase(0)[0] == -math.inf, "nor does patience wait for it"


def test_patience_counts_within_a_phase() -> None:
    choice = Choice(KEEP, [(0, 1, 0.5), (0, 2, 0.4)])
    assert not choice.exhausted(0)
    choice.add(1, 3, 0.3)
    assert not choice.exhausted(0)
    assert not choice.exhausted(1)
    choice.add(0, 4, 0.5)
    assert choice.exhausted(0), "an equal score is not a better one"
    assert not Choice(Keep(), [(0, 1, 0.5), (0, 2, 0.4), (0, 3, 0.4)]).exhausted(0)
