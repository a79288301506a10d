"""Population-based training: who makes way for a copy of whom, what a copy changes, and a whole one on Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from cluster.run import Run
from datasets.refusal import Refusal
from search.tune import samplers
from search.tune.folder import Folder
from search.tune.population import FACTORS, Population, Turns
from search.tune.records import PARENT, Records
from search.tune.storage import Journal
from tests.commands import cli
from trainers.recipe import Recipe
from trainers.searching import Objective
from trainers.space import Space

LR = "phases.0.optim.main.lr"
SPACE = Space.parse(
    {
        "lr": "loguniform(1e-4, 1e-1)",
        "size": "qrandint(8, 64, 8)",
        "rate": "uniform(0, 1)",
        "wide": "choice(1, 2, 3, 4)",
        "noise": "normal(1, 2)",
        "momentum": "uniform(0.5, 0.9) if wide >= 3",
    }
)


@pytest.fixture
def records() -> Records:
    return Records.open(
        "population",
        optuna.storages.InMemoryStorage(),
        [Objective(metric="val/accuracy", mode="max")],
        sampler=lambda begun: samplers.random(seed=begun),
        pruner=Turns(1, 0.25, 0.25),
        space=SPACE,
        tree={},
        owner="here",
    )


def population(records: Records, *, upwards: bool = True, **turns: Any) -> Population:
    settings = Turns(
        turns.get("interval", 1), turns.get("quantile", 0.25), turns.get("resample", 0.25)
    )
    return Population(records, settings, upwards=upwards, seed=3)


def rested(found: Population, scores: list[float], evaluation: int = 1) -> None:
    """As many members as scores, which rest."""
    for score in scores:
        asked = found.records.ask()
        assert asked
        found.records.report(asked.number, evaluation, score)
        found.rest(asked, evaluation)


@pytest.mark.parametrize("upwards", [True, False])
def test_the_worst_make_way_for_copies_of_the_best(records: Records, upwards: bool) -> None:
    scores = [0.1, 0.9, 0.5, 0.6, 0.2, 0.8, 0.4, 0.7]
    found = population(records, upwards=upwards)
    rested(found, scores if upwards else [-score for score in scores])
    records.allow(8)
    gone, parents = [], []
    for _ in scores:
        turn = found.next()
        assert turn
        if turn.instead_of:
            gone.append(turn.instead_of.asked.number)
            parents.append(turn.asked.parent)
            assert turn.asked.number >= len(scores)
            assert records.study.trials[gone[-1]].state.name == "PRUNED"
    assert gone == [0, 4] and {*parents} <= {1, 5}
    assert found.next() is None
    assert records.full(), "copies are beyond the budget, and do not open it again"
    assert records.begun() == 8


def test_who_is_furthest_behind_goes_on_first(records: Records) -> None:
    found = population(records, quantile=0.01)
    rested(found, [0.5, 0.4], evaluation=2)
    rested(found, [0.1, 0.2], evaluation=1)
    turns = [found.next() for _ in range(4)]
    assert [turn and turn.asked.number for turn in turns] == [2, 3, 1, 0]
    assert all(turn and turn.instead_of is None for turn in turns), (
        "one of a hundred is nobody of four"
    )


def test_nobody_is_copied_who_is_at_work(records: Records) -> None:
    found = population(records)
    rested(found, [0.9, 0.5, 0.4, 0.1])
    found.resting = found.resting[3:]  # all but the worst go on elsewhere
    turn = found.next()
    assert turn and turn.instead_of is None and turn.asked.number == 3


@pytest.mark.parametrize("resample", [0.0, 1.0])
def test_a_copy_stays_in_the_space_and_near_its_parent(records: Records, resample: float) -> None:
    found = population(records, resample=resample)
    rested(found, [0.9, 0.1] * 12)
    records.allow(24)
    copies = 0
    while turn := found.next():
        if not turn.instead_of:
            continue
        copies += 1
        assert turn.asked.parent is not None
        parent = json.loads(records.study.trials[turn.asked.parent].user_attrs["changes"])
        for dimension in SPACE.dimensions:
            there = SPACE.applies(dimension, turn.asked.changes.get)
            assert (dimension.path in turn.asked.changes) == there
            if there:
                assert dimension.holds(turn.asked.changes[dimension.path]), dimension.path
        if not resample:
            low, high = 1e-4, 1e-1
            near = [min(max(parent["lr"] * factor, low), high) for factor in FACTORS]
            assert any(turn.asked.changes["lr"] == pytest.approx(each) for each in near)
            assert abs(turn.asked.changes["wide"] - parent["wide"]) <= 1
    assert copies == 6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"search.seeds": 2}, "a member is one run in population-based training"),
        ({"scale.workers": 2}, "members are runs of one worker"),
        (
            {"search.space": {"data.batch": "choice(32, 64)"}},
            "cannot change in the middle of a run",
        ),
        ({"search.space": {"model.name": "choice(small_cnn)"}}, "cannot change in the middle"),
        ({"search.trials": 3}, "0.25 of 3 members is nobody"),
        ({"search.scheduler.quantile": 0.7}, "should be 0.5 or less"),
    ],
)
def test_what_a_population_cannot_is_refused(
    digits: Recipe, change: dict[str, Any], told: str
) -> None:
    search = {"scheduler": {"name": "pbt"}, "space": {LR: "loguniform(1e-3, 1e-1)"}}
    recipe = digits.override({"search": search})
    with pytest.raises(Refusal, match=told):
        recipe.override(change)


@pytest.fixture
def ray_ends() -> Iterator[None]:
    yield
    import ray

    ray.shutdown()


@pytest.mark.timeout(200)
@pytest.mark.usefixtures("ray_ends")
def test_a_population_from_its_recipe_to_its_winner(digits: Recipe, tmp_path: Path) -> None:
    tree = digits.override({"scale.threads": 1, "phases.0.epochs": 4}).plain()
    first = [{LR: rate} for rate in (1e-5, 2e-2, 3e-2, 5e-2)]
    tree["search"] = {
        "trials": 4,
        "retrain": 1,
        "first": first,
        "scheduler": {"name": "pbt", "interval": 2, "resample": 0.0},
        "space": {LR: "loguniform(1e-5, 1e-1)"},
    }
    path = tmp_path / "population.yaml"
    path.write_text(yaml.safe_dump(tree))
    said = cli("search", path, "--out", tmp_path / "runs")
    assert said.code == 0, said.err
    assert "trial 0000 of 5: made way: trial 0004, a copy of 000" in said.err
    (out,) = (tmp_path / "runs").iterdir()
    folder = Folder.open(str(out))
    study = optuna.load_study(study_name=folder.name, storage=Journal(folder.url).storage())
    assert [trial.state.name for trial in study.trials] == ["PRUNED", *["COMPLETE"] * 4]
    parent = int(study.trials[4].user_attrs[PARENT])
    copy, model = Run.open(folder.trial(4)), Run.open(folder.trial(parent))
    assert copy.summary["parent"] == model.url
    begun = [event["step"] for event in copy.summary["events"] if event["event"] == "resumed"]
    assert begun == [2 * 19], "it begins where its parent rested, after two epochs"
    assert steps_until(copy, 38) == steps_until(model, 38)
    rates = copy.recipe.phases[0].optim["main"].lr / model.recipe.phases[0].optim["main"].lr
    assert min(abs(rates - factor) for factor in FACTORS) < 1e-9
    assert copy.finished and copy.summary["steps"] == 4 * 19
    assert sorted(study.trials[4].intermediate_values) == [3, 4]
    assert "changed the winner's settings on its way" in folder.state["notes"][0]


def steps_until(run: Run, last: int) -> list[tuple[int, float]]:
    table = run.metrics()
    rows = table[(table["split"] == "train") & (table["step"] <= last)]
    return [(int(step), float(loss)) for step, loss in zip(rows["step"], rows["loss"], strict=True)]
