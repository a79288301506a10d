"""What the desk hands out and puts on record, whoever runs the trials."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.tune import samplers, schedulers
from search.tune.folder import Folder
from search.tune.records import Records
from search.tune.storage import Journal
from search.tune.telling import Teller
from search.tune.tuner import PAY_SECONDS, Desk, Ended, Later
from trainers.recipe import Recipe
from trainers.space import Space

LR = "phases.0.optim.main.lr"


class Office:
    """A desk, its records and what it says, over a journal that outlives it."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        assert recipe.search
        self.recipe = recipe
        space = Space.parse(recipe.search.space)
        self.records = Records.open(
            "search",
            Journal(str(folder)).storage(),
            recipe.search.goals(recipe),
            sampler=samplers.random,
            pruner=schedulers.none(),
            space=space,
            tree=recipe.plain(),
            owner="here",
        )
        self.records.allow(recipe.search.budget)
        self.records.enqueue(recipe.search.first)
        self.said: list[Ended] = []
        self.desk = Desk(
            Folder(str(folder)),
            recipe,
            self.records,
            enough=self.records.full,
            say=self.said.append,
        )

    def runs(self, id: str) -> int:
        """The number of the trial that is handed out."""
        found = self.desk.next(id)
        assert isinstance(found, dict), found
        return int(json.loads(found["trial"])["runs"][0]["folder"][-4:])

    def finish(self, id: str, *values: float) -> None:
        self.desk.over(id, {"ended": "finished", "values": values, "seconds": 1.0}, died=False)

    @property
    def states(self) -> list[str]:
        return [trial.state.name for trial in self.records.study.trials]


@pytest.fixture
def office(digits: Recipe, tmp_path: Path) -> Callable[..., Office]:
    def make(**search: Any) -> Office:
        tree = {"space": {LR: "choice(0.1, 0.2)"}, "trials": 3, **search}
        return Office(digits.override({"search": tree}), tmp_path)

    return make


def test_a_point_that_runs_is_not_run_beside_itself(office: Callable[..., Office]) -> None:
    here = office(space={LR: "choice(0.1)", "model.dropout": "choice(0.0)"})
    assert here.runs("a") == 0
    assert isinstance(here.desk.next("b"), Later), "two more of the same point wait"
    assert here.states == ["RUNNING"] * 3
    here.finish("a", 0.5)
    assert here.desk.next("b") is None
    assert here.states == ["COMPLETE"] * 3
    assert [trial.value for trial in here.records.study.trials] == [0.5] * 3
    assert [each.how for each in here.said] == ["finished", "known", "known"]


def test_a_point_whose_first_trial_failed_is_tried_again(office: Callable[..., Office]) -> None:
    here = office(space={LR: "choice(0.1)"}, trials=2)
    here.runs("a")
    assert isinstance(here.desk.next("b"), Later)
    here.desk.over("a", {"ended": "failed", "why": "it caught fire", "seconds": 1.0}, died=False)
    assert here.runs("b") == 1
    here.finish("b", 0.5)
    assert here.states == ["FAIL", "COMPLETE"] and here.desk.next("c") is None


@pytest.mark.parametrize("wish", ["stop", "cancel", "pause"])
def test_what_becomes_of_what_a_dead_driver_left(office: Callable[..., Office], wish: str) -> None:
    before = office(trials=4, first=[{LR: 0.1}, {LR: 0.2}])
    before.runs("a"), before.runs("b")
    here = office(trials=4)
    here.desk.wish = wish
    if wish == "stop":  # what was begun goes to its end
        assert [here.runs("a"), here.runs("b")] == [0, 1]
        here.finish("a", 0.5), here.finish("b", 0.6)
    assert here.desk.next("c") is None
    here.desk.close()
    expected = {"stop": "COMPLETE", "cancel": "FAIL", "pause": "RUNNING"}
    assert here.states == [expected[wish]] * 2


def test_a_kill_forgets_seconds_of_a_trial_and_not_all(office: Callable[..., Office]) -> None:
    here = office()

    def judged(desk: Desk, evaluation: int, seconds: float) -> None:
        result = {"judged": evaluation, "value": 0.5, "last": False, "seconds": seconds}
        assert desk.judge("a", result) is False

    here.runs("a")
    judged(here.desk, 1, 0.5 * PAY_SECONDS)
    judged(here.desk, 2, 1.5 * PAY_SECONDS)
    judged(here.desk, 3, 3.5 * PAY_SECONDS)
    # Its process dies and is started again; then the driver is killed.
    judged(here.desk, 4, 1.0)
    judged(here.desk, 5, 2 * PAY_SECONDS)
    again = office()
    again.runs("a")
    judged(again.desk, 6, 2 * PAY_SECONDS)
    again.desk.over("a", {"ended": "finished", "values": [0.5], "seconds": 30.0}, died=False)
    assert again.records.study.trials[0].user_attrs["seconds"] == 3.5 * PAY_SECONDS + 20.0 + 30.0


def test_evaluations_are_counted_with_several_goals_too(office: Callable[..., Office]) -> None:
    goals = [{"metric": "val/accuracy"}, {"metric": "parameters", "mode": "min"}]
    here = office(objectives=goals)
    here.runs("a")
    for evaluation in (1, 2):
        result = {"judged": evaluation, "value": 0.5, "last": False, "seconds": 1.0}
        assert here.desk.judge("a", result) is False
    here.finish("a", 0.5, 1000.0)
    assert here.records.study.trials[0].user_attrs["evaluations"] == 2


def test_the_best_of_an_earlier_start_is_still_the_best(
    office: Callable[..., Office], capsys: pytest.CaptureFixture[str]
) -> None:
    before = office(first=[{LR: 0.1}, {LR: 0.2}])
    before.runs("a")
    before.finish("a", 0.9)
    here = office(first=[{LR: 0.1}, {LR: 0.2}])
    teller = Teller(here.recipe, here.records, quiet=False)
    here.desk.say = teller
    here.runs("b")
    here.finish("b", 0.8)
    assert "accuracy 0.8, 1 s (best 0.9, trial 0000)" in capsys.readouterr().err
