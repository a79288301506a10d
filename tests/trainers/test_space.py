"""The grammar of search spaces: what is written, what it means, and what is refused, with the path of the mistake."""

from __future__ import annotations

from typing import Any

import pytest

from datasets.refusal import Refusal
from trainers.recipe import Recipe
from trainers.space import Space

LR = "phases.0.optim.main.lr"
NAME = "phases.0.optim.main.name"
MOMENTUM = "phases.0.optim.main.momentum"


def only(said: Any, path: str = LR) -> Any:
    (dimension,) = Space.parse({path: said}).dimensions
    return dimension


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ("uniform(0, .5)", (0, 0.5)),
        ("quniform(0, 1, .25)", (0, 1, 0.25)),
        ("loguniform(1e-5, 1e-1)", (1e-5, 0.1)),
        ("qloguniform(1, 1000, 10)", (1, 1000, 10)),
        ("normal(0, 2)", (0, 2)),
        ("qnormal(0, 2, .5)", (0, 2, 0.5)),
        ("lognormal(-7, 1.5)", (-7, 1.5)),
        ("qlognormal(3, 1, 8)", (3, 1, 8)),
        ("randint(1, 8)", (1, 8)),
        ("qrandint(8, 64, 8)", (8, 64, 8)),
        ("lograndint(1, 1024)", (1, 1024)),
        ("  uniform ( 0 , 1 )  ", (0, 1)),
    ],
)
def test_distributions_are_read(said: str, numbers: tuple[float, ...]) -> None:
    dimension = only(said)
    assert dimension.kind == said.split("(")[0].strip() and dimension.numbers == numbers


def test_choices_are_yaml() -> None:
    said = "choice(sgd, 1e-4, 64, null, true, 'a, b', {name: resnet20, width: 8}, [hflip, crop])"
    whole = {"name": "resnet20", "width": 8}
    assert only(said).values == ("sgd", 1e-4, 64, None, True, "a, b", whole, ["hflip", "crop"])
    weighted = only("weighted(sgd: 3, adam: 1)")
    assert weighted.values == ("sgd", "adam") and weighted.weights == (0.75, 0.25)


def test_what_is_no_distribution_is_a_constant() -> None:
    space = Space.parse({"data.batch": 64, "name": "x", "a.b": [1, 2], LR: "uniform(0, 1)"})
    assert dict(space.constants) == {"data.batch": 64, "name": "x", "a.b": [1, 2]}


@pytest.mark.parametrize(
    ("said", "grid"),
    [
        ("choice(a, b)", ("a", "b")),
        ("randint(2, 4)", (2, 3, 4)),
        ("qrandint(8, 32, 8)", (8, 16, 24, 32)),
        ("quniform(0, 1, .5)", (0, 0.5, 1)),
        ("uniform(0, 1)", ()),
        ("loguniform(1, 2)", ()),
        ("lograndint(1, 2)", ()),
    ],
)
def test_what_can_be_counted(said: str, grid: tuple[Any, ...]) -> None:
    dimension = only(said)
    assert dimension.grid == grid and dimension.finite == bool(grid)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (f"{NAME} == sgd", True),
        (f"{NAME} != sgd", False),
        (f"{NAME} in (adam, sgd)", True),
        (f"{NAME} not in (adam, sgd)", False),
        ("data.batch >= 64", True),
        ("data.batch < 64", False),
        (f"data.batch >= 64 and {NAME} == sgd", True),
        (f"data.batch > 64 and {NAME} == sgd", False),
        ("data.batch > many", False),  # no order between them
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    said = {
        MOMENTUM: f"uniform(0, 1) if {condition}",
        NAME: "choice(sgd, adam)",
        "data.batch": "choice(32, 64)",
    }
    space = Space.parse(said)
    assert space.dimensions[-1].path == MOMENTUM, "after those that it asks about"
    chosen = {NAME: "sgd", "data.batch": 64}
    assert space.applies(space.dimensions[-1], chosen.get) is holds


def test_a_condition_may_ask_the_recipe_or_a_constant(digits: Recipe) -> None:
    space = Space.parse(
        {"model.dropout": "uniform(0, .5) if model.name == small_cnn", LR: "uniform(0, 1)"}
    )
    dropout, _ = space.dimensions
    assert space.applies(dropout, {}.get, digits.plain())
    assert not space.applies(dropout, {}.get, {"model": "mynet"})
    said = {"model.name": "mynet", "model.dropout": "uniform(0, 1) if model.name == mynet"}
    fixed = Space.parse(said)
    assert fixed.applies(fixed.dimensions[0], {}.get, digits.plain())


@pytest.mark.parametrize(
    ("space", "why"),
    [
        ({"data.batch": "choice(32, 64) if model.name == mynet"}, "'model.name' is small_cnn"),
        ({LR: f"uniform(0, 1) if {NAME} == lars", NAME: "choice(sgd, adam)"}, "is sgd, adam"),
        ({"phases.0.epochs": "uniform(1, 3)"}, "should be a whole number"),
        ({"scale.workers": "choice(1, 2)"}, "no part of what is learnt"),
        ({"keep.metric": "choice(val/accuracy, val/loss)"}, "no part of what is learnt"),
        ({"name": "choice(a, b)"}, "no part of what is learnt"),
        ({"search.trials": "randint(1, 5)"}, "no part of what is learnt"),
    ],
)
def test_what_no_trial_could_draw_is_refused(
    space: dict[str, str], why: str, digits: Recipe
) -> None:
    with pytest.raises(Refusal, match=why):
        digits.override({"search": {"space": space}})


def test_a_grid_leaves_out_what_does_not_apply() -> None:
    said = {NAME: "choice(sgd, adam)", MOMENTUM: f"choice(0.0, 0.9) if {NAME} == sgd"}
    points = [*Space.parse(said).combinations()]
    assert points == [{NAME: "sgd", MOMENTUM: 0.0}, {NAME: "sgd", MOMENTUM: 0.9}, {NAME: "adam"}]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("logunifrom(1e-5, 1)", "no distribution"),
        ("uniform(0)", "takes numbers"),
        ("uniform(0, much)", "takes numbers"),
        ("uniform(0, .inf)", "takes numbers"),
        ("uniform(1, 0)", "below the second"),
        ("loguniform(0, 1)", "above 0"),
        ("normal(0, 0)", "standard deviation"),
        ("quniform(0, 1, 0)", "quantum"),
        ("quniform(0, 0.1, 0.3)", "larger than the range"),
        ("randint(0.5, 3)", "whole numbers"),
        ("choice()", "nothing to choose"),
        ("choice(a, b, a)", "there twice"),
        ("choice(1, true)", "there twice"),
        ("weighted(sgd, adam)", "a weight above 0"),
        ("weighted(sgd: -1, adam: 2)", "a weight above 0"),
        ("uniform(0, 1", "not closed"),
        ("uniform(0, 1) unless x == 1", "not understood"),
        ("uniform(0, 1) if x", "not understood"),
        (f"uniform(0, 1) if {LR} == 1", "in a circle"),
    ],
)
def test_mistakes_name_their_path(said: str, why: str) -> None:
    with pytest.raises(Refusal, match=why) as caught:
        Space.parse({LR: said})
    assert caught.value.path == f"search.space.{LR}" and "\n" not in str(caught.value)


# --- in a recipe


def searching(digits: Recipe, space: dict[str, Any], **more: Any) -> Recipe:
    return Recipe.check({**digits.plain(), "search": {"space": space, **more}})


@pytest.mark.parametrize(
    ("space", "path", "why"),
    [
        ({"phases.0.optim.man.lr": "uniform(0, 1)"}, "phases.0.optim.man.lr", "no 'man'"),
        ({"model.widht": "choice(8, 16)"}, "model.widht", "unknown key"),
        ({"model.width": "choice(8, sixteen)"}, "model.width", "should be a whole number"),
        ({NAME: "choice(sgd, adma)"}, NAME, "adma"),
        ({"data.batch": "randint(0, 64)"}, "data.batch", "should be above 0"),
        ({LR: "uniform(0, 1) if modle.name == x"}, LR, "neither in the space nor in the recipe"),
        ({MOMENTUM: "uniform(0, 1)"}, MOMENTUM, "should be below 1"),
        ({MOMENTUM: "uniform(0, .9)", NAME: "choice(sgd, adam)"}, MOMENTUM, "adam"),
        ({"data.batch": 64}, "", "nothing to search"),
        ({"model.widht": 3, LR: "uniform(0, 1)"}, "model.widht", "unknown key"),
    ],
)
def test_a_space_that_the_recipe_does_not_take_fails_at_load(
    digits: Recipe, space: dict[str, Any], path: str, why: str
) -> None:
    with pytest.raises(Refusal, match=why) as caught:
        searching(digits, space)
    assert caught.value.path == "search.space" + (f".{path}" if path else "")


def test_each_choice_is_tried_beneath_its_condition(digits: Recipe) -> None:
    space = {
        NAME: "choice(adamw, sgd)",
        MOMENTUM: f"uniform(0.5, 0.99) if {NAME} == sgd",
        "phases.0.optim.main.beta2": f"choice(0.9, 0.999) if {NAME} == adamw",
    }
    assert searching(digits, space).search
    space["phases.0.optim.main.beta2"] = "choice(0.9, 0.999)"  # sgd has none
    with pytest.raises(Refusal, match="beta2") as caught:
        searching(digits, space)
    assert f"if {NAME} ==" in caught.value.remedy


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"metric": "test/accuracy"}, "search.metric"),
        ({"metric": "val/acuracy"}, "search.metric"),
        ({"sampler": "tpee"}, "search.sampler"),
        ({"sampler": {"name": "tpe", "startups": 3}}, "search.sampler.startups"),
        ({"scheduler": "ahsa"}, "search.scheduler"),
        ({"trials": 0}, "search.trials"),
        ({"first": [{"model.width": 8}]}, "search.first.0.model.width"),
        ({"first": [{LR: 7.0}]}, f"search.first.0.{LR}"),
        ({"first": [{}]}, "search.first.0"),
        ({"first": [{LR: 0.1}, {LR: 0.1}]}, "search.first.1"),
        ({"objectives": [{"metric": "test/accuracy"}]}, "search.objectives.0.metric"),
        ({"objectives": [{"metric": "parameters", "mode": "min"}]}, "search.objectives"),
        ({"metric": "val/loss", "objectives": [{"metric": "val/loss"}]}, "search.objectives"),
    ],
)
def test_mistakes_in_the_block(digits: Recipe, more: dict[str, Any], path: str) -> None:
    with pytest.raises(Refusal) as caught:
        searching(digits, {LR: "loguniform(1e-4, 1)"}, **more)
    assert caught.value.path == path and "\n" not in str(caught.value)


def test_a_run_does_not_look_at_its_search(digits: Recipe) -> None:
    assert searching(digits, {LR: "uniform(0, 1)"}).identity("digest") == digits.override(
        "search=null"
    ).identity("digest")


def test_several_goals_have_nobody_who_ends_trials_early(digits: Recipe) -> None:
    goals = [{"metric": "val/accuracy"}, {"metric": "parameters", "mode": "min"}]
    tree = {"space": {LR: "loguniform(1e-3, 1)"}, "objectives": goals, "scheduler": "asha"}
    with pytest.raises(Refusal, match="several objectives"):
        digits.override({"search": tree})
