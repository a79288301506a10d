"""What mattered, in searches where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from search.trials import importance
from tests.search.trials.conftest import Make
from tests.search.trials.searched import BATCH, DROPOUT, LR, MOMENTUM, NAME, Searched

WIDE = {LR: "loguniform(1e-4, 1e-1)", DROPOUT: "uniform(0, 0.5)", BATCH: "choice(32, 64, 128)"}


def filled(search: Searched, trials: int, worth: str = DROPOUT) -> Searched:
    """Trials whose first score hangs on one path alone, the further goals on another."""
    for _ in range(trials):
        asked = search.ask()
        value = asked.changes[worth]
        score = 0.9 - abs(float(np.log10(value)) + 2) / 10 if worth == LR else 0.9 - value
        values = [score, 0.5 + np.log10(asked.changes[LR]) / 100][: len(search.goals)]
        search.records.complete(asked.number, [float(each) for each in values])
    return search


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("worth", [DROPOUT, LR])
def test_what_alone_decides_has_the_largest_share(make: Make, worth: str, mode: str) -> None:
    shares = importance.of(filled(make(space=WIDE, mode=mode), 40, worth).read())
    assert {*shares.index} == {*WIDE}
    assert shares["fANOVA"].idxmax() == shares["PED-ANOVA"].idxmax() == worth == shares.index[0]
    assert shares.at[worth, "fANOVA"] > 0.8 and shares["fANOVA"].sum() <= 1 + 1e-9
    assert shares["PED-ANOVA"].sum() == pytest.approx(1)


def test_of_several_goals_the_first_is_asked(make: Make) -> None:
    """Where more is better, the best tenth is not that of the least."""
    goals = [{"metric": "val/accuracy"}, {"metric": "val/macro_f1"}]
    one = importance.of(filled(make("one", space=WIDE), 40).read())
    two = importance.of(filled(make("two", space=WIDE, objectives=goals), 40).read())
    assert two.index[0] == one.index[0] == DROPOUT
    np.testing.assert_allclose(one.to_numpy(), two.to_numpy())


def test_of_too_few_or_of_equals_nothing_is_said(make: Make) -> None:
    search = filled(make(space=WIDE), 4)
    assert importance.of(search.read()).empty
    again = search.ask()
    search.records.repeat(again.number, search.records.study.trials[0])
    assert importance.of(search.read()).empty, "the same point again is no fifth"
    equal = make("equal", space=WIDE)
    for _ in range(8):
        equal.ended(0.5)
    assert importance.of(equal.read()).empty


def test_five_trials_are_enough(make: Make) -> None:
    shares = importance.of(filled(make(space=WIDE), 5).read())
    assert {*shares.index} == {*WIDE} and shares.notna().all(axis=None)


def test_what_only_some_trials_have_is_left_out_of_one_estimate(make: Make) -> None:
    search = make()
    for _ in range(30):
        asked = search.ask()
        search.records.complete(asked.number, [asked.changes.get(MOMENTUM, 0.5)])
    shares = importance.of(search.read())
    assert np.isnan(shares.at[MOMENTUM, "fANOVA"]) and shares.at[MOMENTUM, "PED-ANOVA"] > 0
    assert shares.at[NAME, "fANOVA"] > 0.2


def test_paths_come_out_as_they_were_said(make: Make) -> None:
    """Normal and weighted ones are drawn by their quantile, under a name of Optuna's own."""
    decay = "phases.0.optim.main.weight_decay"
    space = {decay: "lognormal(-8, 1)", NAME: "weighted(sgd: 3, adamw: 1)"}
    search = make(space=space)
    for _ in range(20):
        asked = search.ask()
        search.records.complete(asked.number, [float(np.log(asked.changes[decay]))])
    shares = importance.of(search.read())
    assert [*shares.index] == [decay, NAME]


def test_settings_that_never_changed_do_not_matter(make: Make) -> None:
    search = make(space={**WIDE, "model.width": "choice(8)"})
    shares = importance.of(filled(search, 10).read())
    assert shares.index[0] == DROPOUT
    assert "model.width" not in shares.index or not shares.loc["model.width"].fillna(0).any()
