"""How far to trust the best: tests by hand, and simulations in which the truth is known."""

from __future__ import annotations

from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from search.trials import doubt, words
from search.trials.doubt import Versus
from tests.search.trials.conftest import Make
from tests.search.trials.searched import row


def by_hand(a: int, b: int) -> float:
    """Twice the smaller tail of a fair coin."""
    n, least = a + b, min(a, b)
    return min(1.0, 2 * sum(comb(n, k) for k in range(least + 1)) / 2**n)


@pytest.mark.parametrize(
    ("a", "b"), [(0, 0), (1, 0), (5, 0), (6, 0), (10, 2), (3, 3), (8, 9), (25, 10), (0, 7)]
)
def test_mcnemar_by_hand(a: int, b: int) -> None:
    assert Versus(0, 1, a, b, 100).p == pytest.approx(by_hand(a, b))


def test_the_pairs_are_counted_over_rows(make: Make) -> None:
    search = make()
    best, other = row(0.9, 100), row(0.9, 100)
    other[:6], other[95:97] = False, True
    search.ended(0.9, hits=best)
    search.ended(0.86, hits=other)
    versus = doubt.of(search.read()).runner_up
    assert versus == Versus(0, 1, 6, 2, 100)
    assert versus.p == pytest.approx(by_hand(6, 2))


def simulated(true: list[float], rows: int, seed: int) -> pd.DataFrame:
    """Hits of trials of known accuracy, the best by its score first."""
    random = np.random.Generator(np.random.PCG64(seed))
    hits = random.random((rows, len(true))) < np.array(true)
    order = np.argsort(-hits.mean(0), kind="stable")
    return pd.DataFrame(hits[:, order])


def test_of_trials_that_are_all_alike_the_luck_is_taken_off() -> None:
    """The best's score is above the truth in nearly every set; the corrected one is off by a tenth of that."""
    sets = [doubt.optimism(simulated([0.85] * 40, 300, seed), draws=200) for seed in range(40)]
    scores = np.array([each.score for each in sets]) - 0.85
    corrected = np.array([each.corrected for each in sets]) - 0.85
    assert scores.mean() > 0.03
    error = corrected.std(ddof=1) / len(sets) ** 0.5
    assert abs(corrected.mean()) < max(3 * error, 0.003), (corrected.mean(), error)
    assert abs(corrected.mean()) < scores.mean() / 5
    covered = np.mean([each.low <= 0.85 <= each.high for each in sets])
    assert covered >= 0.9


def test_of_one_that_is_clearly_better_nothing_is_taken_off() -> None:
    for seed in range(5):
        found = doubt.optimism(simulated([0.95, *[0.7] * 20], 400, seed), draws=200)
        assert abs(found.gain) < 0.004, found


def test_the_same_search_is_weighed_alike_twice() -> None:
    hits = simulated([0.8] * 5, 100, 0)
    assert doubt.optimism(hits) == doubt.optimism(hits)


def test_two_rows_are_enough_for_a_number() -> None:
    found = doubt.optimism(pd.DataFrame({0: [True, True], 1: [True, False]}))
    assert found.corrected == 1.0


def test_only_rows_that_all_have_are_compared(make: Make) -> None:
    search = make()
    search.predict(search.ended(0.9), row(0.9, 100))
    search.predict(search.ended(0.8), row(0.8, 100), first_id=1050)
    hits = doubt.right({n: search.read().run(n) for n in (0, 1)})
    assert hits is not None and [*hits.index] == [*range(1050, 1100)]
    assert hits[0].mean() == 0.8 and hits[1].mean() == 1.0
    assert doubt.of(search.read()).runner_up == Versus(0, 1, 0, 10, 50)
    assert "10 of 50 validation rows fewer" in " ".join(
        words.sentences(search.read(), doubt.of(search.read()))
    )
    search.predict(0, row(0.9, 100), first_id=9000)
    assert doubt.of(search.read()) == doubt.Doubt(None, 0, 0, None)


def test_the_test_split_and_rows_seen_twice_count_for_nothing(make: Make) -> None:
    search = make()
    number = search.ended(0.5)
    split = ["val"] * 4 + ["test"] * 4
    search.predict(number, [True, False] * 4, split=split, id=[1, 2, 3, 3, 5, 6, 7, 8])
    hits = doubt.right({0: search.read().run(0)})
    assert hits is not None and hits[0].to_dict() == {1: True, 2: False, 3: True}


@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "no label", "no split", "no table"])
def test_a_damaged_trial_hides_no_other(make: Make, damage: str) -> None:
    search = make()
    for score in (0.9, 0.85, 0.8):
        search.ended(score, hits=row(score))
    whole = doubt.of(search.read())
    assert whole.compared == 2 and whole.runner_up == Versus(0, 1, 10, 0, 200)
    path = Path(search.folder.trial(1), "predictions.parquet")
    if damage == "gone":
        path.unlink()
    elif damage.startswith("no ") and damage != "no table":
        search.predict(1, row(0.85), **{damage.removeprefix("no "): None})
    else:
        data = path.read_bytes()
        path.write_bytes({"cut": data[:-20], "empty": b"", "no table": b"PAR1"}[damage])
    left = doubt.of(search.read())
    assert left.runner_up is None and left.compared == 1, "the third is not the runner-up"
    assert left.optimism and left.optimism.trials == 2
    Path(search.folder.trial(0), "predictions.parquet").write_bytes(b"")
    assert doubt.of(search.read()) == doubt.Doubt(None, 0, 0, None), "nothing without the best"


@pytest.mark.parametrize(
    "search",
    [
        {"seeds": 2},
        {"metric": "val/loss", "mode": "min"},
        {"objectives": [{"metric": "val/accuracy"}, {"metric": "parameters", "mode": "min"}]},
    ],
)
def test_what_has_no_rows_that_are_right_is_not_weighed(make: Make, search: dict) -> None:
    made = make(**search)
    goals = len(made.goals)
    for score in (0.9, 0.8):
        made.ended(*[score, 100.0][:goals], hits=row(score))
    assert doubt.of(made.read()) == doubt.Doubt(None, 0, 0, None)


def test_the_winners_seeds(make: Make) -> None:
    search = make()
    search.ended(0.9)
    assert doubt.of_seeds(search.read()) is None
    search.folder.amend(scores={"val/accuracy": {"n": 3, "mean": 0.8, "sd": 0.01}})
    assert doubt.of_seeds(search.read()) == (3, 0.8, 0.01)
    search.folder.amend(scores={"val/accuracy": {"n": 1, "mean": 0.8, "sd": None}})
    assert doubt.of_seeds(search.read()) == (1, 0.8, None)
