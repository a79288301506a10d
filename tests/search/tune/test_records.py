"""Optuna's records of a search: right for every way in which a trial can end, over restarts and between machines."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from datasets.refusal import Refusal
from search.tune import samplers, schedulers, winner
from search.tune.records import Records
from search.tune.storage import Journal, database, url_of
from trainers.recipe import Recipe
from trainers.searching import Objective
from trainers.space import Space

SPACE = Space.parse({"lr": "loguniform(1e-4, 1)", "optim": "choice(sgd, adam)"})


def opened(folder: Path, **options: Any) -> Records:
    chosen = {
        "sampler": samplers.random,
        "pruner": schedulers.none(),
        "space": SPACE,
        "tree": {},
        "owner": "here",
        "storage": Journal(str(folder)).storage(),
        "goals": [Objective(metric="val/accuracy", mode="max")],
        **options,
    }
    return Records.open("search", chosen.pop("storage"), chosen.pop("goals"), **chosen)


def states(records: Records) -> list[TrialState]:
    return [trial.state for trial in records.study.get_trials(deepcopy=False)]


def test_each_end_has_its_state(tmp_path: Path) -> None:
    records = opened(tmp_path)
    numbers = [records.ask().number for _ in range(5)]
    records.report(0, 1, 0.5)
    records.complete(0, [0.75])
    records.report(1, 1, 0.25)
    records.prune(1)
    records.fail(2, "it caught fire")
    records.complete(3, [math.nan])
    again = opened(tmp_path)
    expected = ["COMPLETE", "PRUNED", "FAIL", "FAIL", "RUNNING"]
    assert numbers == [0, 1, 2, 3, 4] and [state.name for state in states(again)] == expected
    trials = again.study.get_trials()
    assert trials[0].value == 0.75 and trials[1].value == 0.25
    assert trials[2].user_attrs["why"] == "it caught fire"
    assert "no number" in trials[3].user_attrs["why"]
    assert again.best() and again.best().number == 0  # type: ignore[union-attr]


def test_what_a_dead_driver_left_is_gone_on_with_under_its_number(tmp_path: Path) -> None:
    dead = opened(tmp_path)
    asked = [dead.ask() for _ in range(3)]
    dead.complete(1, [0.5])
    dead.report(2, 1, 0.25)
    records = opened(tmp_path)
    assert records.unfinished() == [asked[0], asked[2]]
    records.report(2, 1, 0.75)  # done again: the record stays
    records.report(2, 2, 0.75)
    for number in (0, 2):
        records.complete(number, [1.0])
    assert states(records) == [TrialState.COMPLETE] * 3
    assert records.study.trials[2].intermediate_values == {1: 0.25, 2: 0.75}
    assert opened(tmp_path).unfinished() == []


def test_trials_of_another_machine_are_left_alone(tmp_path: Path) -> None:
    opened(tmp_path, owner="there").ask()
    assert opened(tmp_path, owner="here").unfinished() == []


def test_one_that_died_before_it_knew_what_to_do_is_failed(tmp_path: Path) -> None:
    records = opened(tmp_path)
    records.study.ask().set_user_attr("owner", "here")
    again = opened(tmp_path)
    assert again.unfinished() == [] and states(again) == [TrialState.FAIL]


def test_a_journal_that_a_killed_driver_left_locked_is_written_to(tmp_path: Path) -> None:
    Path(tmp_path, "search.journal.lock").symlink_to("where the folder was once")
    assert opened(tmp_path).ask()


def test_one_whose_driver_died_as_it_took_it_is_lost_where_nobody_else_could_have_it(
    tmp_path: Path,
) -> None:
    point = {"lr": 0.1, "optim": "sgd"}
    first = opened(tmp_path, alone=True)
    first.enqueue([point])
    first.study.ask()  # and here it is killed
    shared = opened(tmp_path)
    assert shared.unfinished() == [] and len(shared.others()) == 1, "its driver may live elsewhere"
    again = opened(tmp_path, alone=True)
    assert again.unfinished() == [] and again.others() == [] and again.begun() == 0
    asked = again.ask()
    assert asked and (asked.number, asked.changes) == (1, point), "the point waits once more"


def test_points_are_tried_first_and_once(tmp_path: Path) -> None:
    points = [{"lr": 0.1, "optim": "sgd"}, {"lr": 0.01, "optim": "adam"}]
    records = opened(tmp_path)
    records.enqueue(points)
    assert records.begun() == 0
    assert records.ask().changes == points[0]
    again = opened(tmp_path)
    again.enqueue(points)
    assert again.ask().changes == points[1]
    third = again.ask().changes
    assert third not in points and again.begun() == 3


def test_half_a_line_of_a_killed_writer_is_dropped(tmp_path: Path) -> None:
    opened(tmp_path).ask()
    file = tmp_path / "search.journal"
    file.write_bytes(file.read_bytes() + b'{"op_code": 4, "work')
    records = opened(tmp_path)
    assert len(records.unfinished()) == 1
    records.ask()
    assert len(opened(tmp_path).unfinished()) == 2


def test_a_study_that_seeks_something_else_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(Refusal, match="seeks something else"):
        opened(tmp_path, goals=[Objective(metric="val/loss", mode="min")])


def test_several_goals(tmp_path: Path) -> None:
    goals = [Objective(metric="val/accuracy"), Objective(metric="parameters", mode="min")]
    records = opened(tmp_path, goals=goals)
    for number, values in enumerate([[0.9, 100.0], [0.9, 50.0], [0.8, 10.0], [0.7, 20.0]]):
        records.ask()
        records.complete(number, values)
    best = records.best()
    assert best and best.number == 1, "of those that no other beats, the best by the first"


@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "gp", "cmaes", "nsga2"])
def test_every_sampler_draws(name: str, tmp_path: Path) -> None:
    space = Space.parse(
        {
            "lr": "loguniform(1e-4, 1)",
            "optim": "choice(sgd, adam)",
            "m": "uniform(0, 1) if optim == sgd",
        }
    )
    records = opened(tmp_path, sampler=getattr(samplers, name), space=space)
    points = []
    for number in range(14):
        points.append(records.ask().changes)
        records.complete(number, [float(points[-1]["lr"])])
    assert len({point["lr"] for point in points}) >= 10  # of a Gaussian process the best again


@pytest.mark.parametrize(
    ("pruner", "ends"),
    [
        (schedulers.none(), False),
        (schedulers.asha(grace=1, factor=2), True),
        (schedulers.median(grace=0, startup=2), True),
        (schedulers.hyperband(9, grace=1, factor=2), True),
    ],
)
def test_who_is_behind_is_ended_by_all_but_none(
    pruner: optuna.pruners.BasePruner, ends: bool, tmp_path: Path
) -> None:
    records = opened(tmp_path, pruner=pruner)
    ended = []
    for number in range(8):
        records.ask()
        if any(records.report(number, at, 1 - number / 10) for at in range(1, 9)):
            ended.append(number)
            records.prune(number)
        else:
            records.complete(number, [1 - number / 10])
    assert bool(ended) is ends and 0 not in ended
    # What was decided does not hang on the process that decided it.
    again = opened(tmp_path, pruner=pruner)
    again.ask()
    assert any(again.report(8, at, 0.0) for at in range(1, 9)) is ends


def test_a_database_is_shared_and_its_password_stays_out_of_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    one = opened(tmp_path, storage=database(url), owner="one")
    two = opened(tmp_path, storage=database(url), owner="two")
    assert [one.ask().number, two.ask().number, one.ask().number] == [0, 1, 2]
    assert two.begun() == 3
    with pytest.raises(Refusal, match="password") as caught:
        url_of("postgresql://me:hunter2@db/search")
    assert "hunter2" not in str(caught.value) + str(caught.value.value)
    monkeypatch.setenv("MANTA_STORAGE", "postgresql://me:hunter2@db/search")
    assert url_of(None) == "postgresql://me:hunter2@db/search"
    with pytest.raises(Refusal, match="does not answer") as caught:
        database("nosuch://me:hunter2@db/search")
    assert "hunter2" not in str(caught.value) + str(caught.value.value)


def test_a_point_that_ended_early_ends_so_again(tmp_path: Path) -> None:
    records = opened(tmp_path)
    records.enqueue([{"lr": 0.1, "optim": "sgd"}])
    first = records.ask()
    assert first and records.known(first) is None
    records.report(first.number, 1, 0.25)
    records.report(first.number, 2, 0.5)
    records.prune(first.number)
    records.study.enqueue_trial(records.study.trials[0].params)
    again = records.ask()
    assert again and again.changes == first.changes
    known = records.known(again)
    assert known and known.number == first.number
    records.repeat(again.number, known)
    told = records.study.trials[again.number]
    assert told.state == TrialState.PRUNED and told.value == 0.5
    assert told.intermediate_values == {1: 0.25, 2: 0.5} and told.user_attrs["same_as"] == 0
    failed = records.ask()
    assert failed
    records.fail(failed.number, "its host went away")
    records.study.enqueue_trial(records.study.trials[failed.number].params)
    twice = records.ask()
    assert twice and records.known(twice) is None, "what failed may be tried again"


def test_the_winner_is_trained_with_seeds_that_no_trial_had(digits: Recipe, tmp_path: Path) -> None:
    seeded = Space.parse({"seed": "choice(1, 2, 5)"})
    records = opened(tmp_path, space=seeded)
    for seed in (5, 1):
        records.study.enqueue_trial({"seed": seed})
        assert records.ask()
    search = {"space": {"seed": "choice(1, 2, 5)"}, "seeds": 2, "retrain": 3}
    assert winner._new_seeds(digits.override({"search": search, "seed": 0}), records) == [3, 4, 7]
