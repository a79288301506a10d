"""A W&B sweep as our `search:`: it loads, draws what W&B draws, says what is not the same, and refuses the rest in a line."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import optuna
import pytest
import yaml

from datasets.refusal import Refusal
from search.tune.distributions import distribution
from search.tune.draws import draw
from search.tune.sweeps import Translated, translate
from tests.commands import cli
from trainers.grammar import read_yaml
from trainers.recipe import Recipe
from trainers.space import Space

optuna.logging.set_verbosity(optuna.logging.ERROR)
ROOT = Path(__file__).resolve().parent.parent.parent.parent
RECIPE = ROOT / "recipes" / "digits_search.yaml"
GAN = ROOT / "recipes" / "dcgan_digits.yaml"
MAIN = "phases.0.optim.main"
# As in the reports of courses.
REPORT = """
program: train.py
project: inaturalist
entity: students
method: bayes
metric: {name: val_acc, goal: maximize}
parameters:
  optimizer: {values: [adam, sgd]}
  learning_rate: {distribution: log_uniform_values, min: 1e-5, max: 1e-1}
  weight_decay: {values: [0, 0.0005, 0.05]}
  batch_size: {distribution: q_log_uniform_values, q: 8, min: 32, max: 256}
  dropout: {values: [0.3, 0.4, 0.5]}
  epochs: {value: 50}
early_terminate: {type: hyperband, min_iter: 3, eta: 3}
run_cap: 40
"""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.load(str(RECIPE)).override({"search": None})


def swept(recipe: Recipe, *names: str, **keys: Any) -> Translated:
    """Of a random sweep of the learning rate, with other keys."""
    sweep = {
        "method": "random",
        "metric": {"name": "val_acc", "goal": "maximize"},
        "parameters": {"lr": {"min": 0.01, "max": 0.1}},
        "run_cap": 4,
        **keys,
    }
    return translate({key: each for key, each in sweep.items() if each is not None}, recipe, names)


def space_of(recipe: Recipe, *names: str, **parameters: Any) -> dict[str, Any]:
    return swept(recipe, *names, parameters=parameters).block["space"]


def text_of(parameter: dict[str, Any]) -> Any:
    return distribution(parameter, "parameters.x", grid=False, note=lambda _: None)


def drawn(said: Any, trials: int) -> list[Any]:
    space = Space.parse({"x": said})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [draw(study.ask(), space, {})["x"] for _ in range(trials)]


def rounded(number: float, q: float) -> float:
    return round(number / q) * q


# What W&B draws at a quantile u: docs.wandb.ai, sweep configuration options, "distribution".
Q = {"distribution": "q_log_uniform_values", "min": 32, "max": 256, "q": 8}
DRAWS: dict[str, tuple[dict[str, Any], Callable[[float], float]]] = {
    "int_uniform": ({"min": 1, "max": 8}, lambda u: 1 + math.floor(8 * u)),
    "uniform": ({"min": -1.0, "max": 3.0}, lambda u: -1 + 4 * u),
    "one whole end": ({"min": 0, "max": 0.5}, lambda u: 0.5 * u),
    "uniform of whole numbers": (
        {"distribution": "uniform", "min": 0, "max": 4},
        lambda u: 4 * u,
    ),
    "q_uniform": (
        {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.05},
        lambda u: rounded(u, 0.05),
    ),
    "q_uniform of whole numbers": (
        {"distribution": "q_uniform", "min": 10, "max": 500},
        lambda u: rounded(10 + 490 * u, 1),
    ),
    "log_uniform": (
        {"distribution": "log_uniform", "min": -9.21034, "max": -2.302585},
        lambda u: math.exp(-9.21034 + u * (9.21034 - 2.302585)),
    ),
    "log_uniform_values": (
        {"distribution": "log_uniform_values", "min": 1e-4, "max": 0.1},
        lambda u: 1e-4 * 1_000**u,
    ),
    "inv_log_uniform": (
        {"distribution": "inv_log_uniform", "min": 2.302585, "max": 9.21034},
        lambda u: math.exp(-2.302585 - (1 - u) * (9.21034 - 2.302585)),
    ),
    "inv_log_uniform_values": (
        {"distribution": "inv_log_uniform_values", "min": 1e-4, "max": 0.1},
        lambda u: 1e-4 * 1_000**u,
    ),
    "q_log_uniform": (
        {"distribution": "q_log_uniform", "min": 3.465736, "max": 5.545177, "q": 8},
        lambda u: rounded(32 * 8**u, 8),
    ),
    "q_log_uniform_values": (Q, lambda u: rounded(32 * 8**u, 8)),
    "normal": ({"distribution": "normal", "mu": 2, "sigma": 0.5}, NormalDist(2, 0.5).inv_cdf),
    "normal by default": ({"distribution": "normal"}, NormalDist().inv_cdf),
    "log_normal": (
        {"distribution": "log_normal", "mu": -3},
        lambda u: math.exp(NormalDist(-3, 1).inv_cdf(u)),
    ),
    "q_normal": (
        {"distribution": "q_normal", "mu": 10, "sigma": 4},
        lambda u: rounded(NormalDist(10, 4).inv_cdf(u), 1),
    ),
    "q_log_normal": (
        {"distribution": "q_log_normal", "mu": 4, "sigma": 0.5, "q": 8},
        lambda u: rounded(math.exp(NormalDist(4, 0.5).inv_cdf(u)), 8),
    ),
    "beta that is even": ({"distribution": "beta"}, lambda u: u),
    "q_beta that is even": ({"distribution": "q_beta", "q": 0.05}, lambda u: rounded(u, 0.05)),
}


@pytest.mark.parametrize("kind", DRAWS)
def test_what_is_drawn_is_what_wandb_draws(kind: str) -> None:
    parameter, quantile = DRAWS[kind]
    text = text_of(parameter)
    ours = sorted(drawn(text, 800))
    theirs = sorted(quantile((index + 0.5) / 4_000) for index in range(4_000))
    slack = 1e-5 * max(abs(theirs[0]), abs(theirs[-1]))
    if "normal" not in kind:
        assert theirs[0] - slack <= ours[0] and ours[-1] <= theirs[-1] + slack
    apart = max(
        abs(bisect_right(ours, x + slack) / 800 - bisect_right(theirs, x + slack) / 4_000)
        for x in theirs[::40]
    )
    assert apart < 0.06, f"{text}: {apart}"
    q = parameter.get("q", 1)
    if parameter.get("distribution", "").startswith("q_"):
        assert all(math.isclose(rounded(x, q), x, abs_tol=1e-9) for x in ours)
    if "min" in parameter and all(
        type(parameter.get(end, 1)) is int for end in ("min", "max", "q")
    ):
        assert kind == "uniform of whole numbers" or all(type(x) is int for x in ours)


def test_the_values_of_a_list_come_back_with_their_odds() -> None:
    values = ["sgd", "a b", "1e-3", "on", "it's, 2", 0.5, None, True, {"name": "mynet"}, [1, 2]]
    (dimension,) = Space.parse({"x": text_of({"values": values})}).dimensions
    assert list(dimension.values) == values and not dimension.weights
    odds = {"values": ["sgd", "on", 0.5, 7], "probabilities": [0.6, 0.0, 0.1, 0.3]}
    (dimension,) = Space.parse({"x": text_of(odds)}).dimensions
    assert dimension.values == ("sgd", 0.5, 7)
    assert dimension.weights == pytest.approx((0.6, 0.1, 0.3))
    assert text_of({"values": [7]}) == text_of({"value": 7}) == 7


def test_a_report_of_students_is_a_recipe_of_ours(tmp_path: Path, recipe: Recipe) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(REPORT)
    said = cli("search", "--from-wandb", sweep, RECIPE)
    assert said.code == 0, said.err
    block = read_yaml(said.out, "stdout")["search"]
    assert block == {
        "metric": "val/accuracy",
        "mode": "max",
        "trials": 40,
        "sampler": "gp",
        "scheduler": {"name": "asha", "grace": 3, "factor": 3},
        "space": {
            f"{MAIN}.name": "choice(adam, sgd)",
            f"{MAIN}.lr": "loguniform(1e-05, 0.1)",
            f"{MAIN}.weight_decay": "choice(0, 0.0005, 0.05)",
            "data.batch": "qloguniform(32, 256, 8)",
            "model.dropout": "choice(0.3, 0.4, 0.5)",
            "phases.0.epochs": 50,
        },
    }
    pasted = RECIPE.read_text().partition("search:")[0] + said.out
    (tmp_path / "pasted.yaml").write_text(pasted)
    searched = Recipe.load(str(tmp_path / "pasted.yaml")).search
    assert searched and searched.space == block["space"] and searched.budget == 40
    space = Space.parse(searched.space)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        changes = draw(study.ask(), space, recipe.plain())
        trial = recipe.override(changes)
        assert trial.phases[0].epochs == 50 and trial.data.batch % 8 == 0
    assert "learning_rate -> phases.0.optim.main.lr" in said.err
    assert "left out, as they mean nothing here: program, project, entity" in said.err
    assert "iterations are evaluations" in said.err


def test_an_argument_that_only_some_optimizers_have_is_there_for_them(recipe: Recipe) -> None:
    both = {"optimizer": {"values": ["Adam", "torch.optim.SGD"]}}
    space = space_of(recipe, **both, momentum={"min": 0.5, "max": 0.99}, beta1={"value": 0.8})
    assert space[f"{MAIN}.name"] == "choice(adam, sgd)"
    assert space[f"{MAIN}.momentum"] == f"uniform(0.5, 0.99) if {MAIN}.name == sgd"
    assert space[f"{MAIN}.beta1"] == f"choice(0.8) if {MAIN}.name == adam"
    three = {"optimizer": {"values": ["adam", "sgd", "rmsprop"]}}
    space = space_of(recipe, **three, momentum={"values": [0.0, 0.9]})
    assert space[f"{MAIN}.momentum"] == f"choice(0.0, 0.9) if {MAIN}.name in (sgd, rmsprop)"
    one = space_of(recipe, optimizer={"value": "adam"}, beta1={"values": [0.8, 0.9]})
    assert one == {f"{MAIN}.name": "adam", f"{MAIN}.beta1": "choice(0.8, 0.9)"}


@pytest.mark.parametrize(
    "name, path, value",
    [
        ("lr", f"{MAIN}.lr", 0.1),
        ("optimizer.learning-rate", f"{MAIN}.lr", 0.1),
        (f"{MAIN}.lr", f"{MAIN}.lr", 0.1),
        ("wd", f"{MAIN}.weight_decay", 0.1),
        ("grad_clip", f"{MAIN}.clip", 1.0),
        ("bs", "data.batch", 32),
        ("num_epochs", "phases.0.epochs", 3),
        ("label_smoothing", "phases.0.task.label_smoothing", 0.1),
        ("scheduler", "phases.0.schedule.name", "constant"),
        ("warmup", "phases.0.schedule.warmup_steps", 3),
        ("dropout_rate", "model.dropout", 0.1),
        ("architecture", "model.name", "mynet"),
        ("padding", "data.train.transforms.0.padding", 2),
        ("seed", "seed", 3),
        ("keep.patience", "keep.patience", 3),
    ],
)
def test_usual_names_find_their_place(name: str, path: str, value: Any, recipe: Recipe) -> None:
    other = "data.splits.seed"
    space = space_of(recipe, **{other: {"values": [1, 2]}, name: {"value": value}})
    assert space == {other: "choice(1, 2)", path: value}


def test_nested_parameters_are_dotted_names(recipe: Recipe) -> None:
    inner = {"name": {"values": ["sgd", "adam"]}, "lr": {"min": 0.01, "max": 0.1}}
    space = space_of(recipe, optimizer={"parameters": inner})
    assert space == {f"{MAIN}.name": "choice(sgd, adam)", f"{MAIN}.lr": "uniform(0.01, 0.1)"}


def test_a_name_says_where_a_key_goes_or_that_it_goes_nowhere(recipe: Recipe) -> None:
    parameters = {"hidden": {"values": [8, 16]}, "gpu": {"value": 0}}
    found = swept(recipe, "hidden=model.width", "gpu=", parameters=parameters)
    assert found.block["space"] == {"model.width": "choice(8, 16)"}
    assert "hidden -> model.width" in found.notes
    assert any("gpu is left out" in note for note in found.notes)
    named = swept(recipe, "score=val/macro_f1", metric={"name": "score", "goal": "maximize"})
    assert named.block["metric"] == "val/macro_f1"


@pytest.mark.parametrize(
    "name, score",
    [
        ("val_acc", "val/accuracy"),
        ("Validation Accuracy", "val/accuracy"),
        ("val/top1", "val/accuracy"),
        ("accuracy", "val/accuracy"),
        ("eval.loss", "val/loss"),
        ("val_loss", "val/loss"),
        ("valid_f1", "val/macro_f1"),
    ],
)
def test_usual_metrics_are_scores_of_ours(name: str, score: str, recipe: Recipe) -> None:
    block = swept(recipe, metric={"name": name, "goal": "minimize"}).block
    assert (block["metric"], block["mode"]) == (score, "min")


def test_several_metrics_are_several_objectives(recipe: Recipe) -> None:
    found = swept(
        recipe,
        method="custom",
        scheduler={"engine": "optuna"},
        metric=None,
        metrics=[{"name": "val_acc", "goal": "maximize"}, {"name": "params"}],
    )
    assert found.block["sampler"] == "tpe"
    assert found.block["objectives"] == [
        {"metric": "val/accuracy", "mode": "max"},
        {"metric": "parameters", "mode": "min"},
    ]


def test_a_grid_is_as_long_as_its_points(recipe: Recipe) -> None:
    parameters = {
        "batch_size": {"values": [32, 64, 128]},
        "epochs": {"min": 1, "max": 4},
        "dropout": {"distribution": "q_uniform", "min": 0.0, "max": 0.6, "q": 0.2},
    }
    block = swept(recipe, method="grid", run_cap=None, parameters=parameters).block
    assert (block["sampler"], block["trials"]) == ("grid", 3 * 4 * 3)
    assert block["space"]["model.dropout"] == "choice(0.0, 0.2, 0.4)"  # W&B leaves max out
    with pytest.raises(Refusal, match="the grid has 36 points"):
        swept(recipe, method="grid", run_cap=5, parameters=parameters)


@pytest.mark.parametrize(
    "said, grace, factor, note",
    [
        ({"min_iter": 3}, 3, 3, ""),
        ({"min_iter": 2, "eta": 2.0, "strict": True}, 2, 2, "strict has no counterpart"),
        ({"max_iter": 27, "s": 2}, 3, 3, "looks after 3, 9 iterations, asha after 3, 9, 27, ..."),
        ({"max_iter": 50, "s": 2}, 5, 3, "looks after 5, 16 iterations, asha after 5, 15, 45"),
        ({"max_iter": 4, "s": 9, "eta": 2}, 1, 2, "looks after 1, 2 iterations"),
    ],
)
def test_hyperband_is_asha(
    said: dict[str, Any], grace: int, factor: int, note: str, recipe: Recipe
) -> None:
    found = swept(recipe, early_terminate={"type": "hyperband", **said})
    assert found.block["scheduler"] == {"name": "asha", "grace": grace, "factor": factor}
    assert note in "\n".join(found.notes)


@pytest.mark.parametrize(
    "keys, note",
    [
        ({"metric": {"name": "val_acc"}}, "W&B then minimizes val_acc: mode: min"),
        ({"metric": {"name": "val_acc", "target": 0.9}}, "metric.target has no counterpart"),
        ({"metric": {"name": "val_acc", "impute": "best"}}, "metric.impute has no counterpart"),
        ({"metric": None}, "the recipe's keep.metric is sought"),
        ({"run_cap": None}, "here 20 trials"),
        ({"scheduler": {"num_workers": 8}}, "scheduler: left out"),
        ({"command": ["${program}", "--fast", "${args}"]}, "its own words are not read: --fast"),
        (
            {"parameters": {"lr": {"distribution": "log_uniform", "min": -9, "max": -2}}},
            "takes exponents of e, so it goes from 0.00012341 to 0.135335",
        ),
        (
            {"parameters": {"batch_size": {**Q, "min": 30}}},
            "in multiples of q=8, from 32 to 256",
        ),
    ],
)
def test_what_is_not_the_same_is_told(keys: dict[str, Any], note: str, recipe: Recipe) -> None:
    assert note in "\n".join(swept(recipe, **keys).notes)


def one(name: str = "lr", **said: Any) -> dict[str, Any]:
    return {"parameters": {name: said}}


@pytest.mark.parametrize(
    "keys, path, told",
    [
        (one("hidden_size", value=3), "parameters.hidden_size", "--name hidden_size=dotted.path"),
        (one("optimizer", values=["adan"]), "parameters.optimizer", "did you mean 'adam'?"),
        (
            one("dropout", values=[0.5, 1.5]),
            "parameters.dropout (search.space",
            "should be below 1",
        ),
        (one(distribution="beta", a=2, b=5), "parameters.lr", "has no counterpart"),
        (one(distribution="log_unifrom", min=1, max=2), "parameters.lr.dist", "'log_uniform'"),
        (one(min=1.0, max=0.1), "parameters.lr.min", "below max"),
        (one(min="1e-5", max=0.1), "parameters.lr.min", "is no number"),
        (one(min=0.1), "parameters.lr", "says neither"),
        (one(values=[]), "parameters.lr", "one or more"),
        (one(values=[1, 2], probabilities=[0.5, 0.4]), "parameters.lr.prob", "sum to 0.9"),
        (one(distribution="q_uniform", min=0, max=1, q=0), "parameters.lr.q", "above 0"),
        (one(distribution="q_uniform", min=0, max=1, q=9), "parameters.lr", "no choice"),
        (one(distribution="log_uniform", min=1, max=800), "parameters.lr", "too large"),
        (one(min=0.1, max=1.0, step=3), "parameters.lr.step", "knows no key"),
        ({"parameters": {"lr": 0.1}}, "parameters.lr", "write lr: {value: 0.1}"),
        ({"parameters": None}, "parameters", "no mapping"),
        ({"parameters": {}}, "parameters", "no mapping"),
        ({"method": "grid"}, "parameters.lr", "no grid of uniform"),
        ({"method": "hyperopt"}, "method", "grid, random or bayes"),
        ({"method": ["grid"]}, "method", "grid, random or bayes"),
        ({"method": "custom", "scheduler": {"engine": "ax", "source": "a.py"}}, "method", "Python"),
        ({"metric": {"name": "test_acc"}}, "metric.name", "validation split alone"),
        ({"metric": {"name": "train_loss"}}, "metric.name", "validation split alone"),
        ({"metric": {"name": "val_iou"}}, "metric.name", "--name val_iou=SCORE, of val/accuracy"),
        ({"metric": {"name": "val_acc", "goal": "max"}}, "metric.goal", "maximize"),
        ({"early_terminate": {"type": "envelope"}}, "early_terminate.type", "hyperband"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate", "min_iter"),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 1.5}},
            "early_terminate.eta",
            "whole",
        ),
        ({"run_cap": 0}, "run_cap", "above 0"),
        ({"paramters": {}}, "paramters", "did you mean 'parameters'?"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(
    keys: dict[str, Any], path: str, told: str, recipe: Recipe
) -> None:
    with pytest.raises(Refusal) as refused:
        swept(recipe, **keys)
    assert refused.value.path.startswith(path)
    assert told in str(refused.value)


def test_two_names_of_one_place_and_one_name_of_two_are_refused(recipe: Recipe) -> None:
    with pytest.raises(Refusal, match="'lr' and 'learning_rate' are both"):
        space_of(recipe, lr={"min": 0.1, "max": 0.2}, learning_rate={"value": 0.1})
    gan = Recipe.load(str(GAN))
    with pytest.raises(Refusal, match=r"more than one place for 'lr': phases\.0\.optim\.generator"):
        swept(gan, metric=None)
    with pytest.raises(Refusal, match="'lrr' is no name of the sweep"):
        swept(recipe, "lrr=phases.0.optim.main.lr")


def test_the_command_refuses_in_a_line(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(yaml.safe_dump({"method": "random", "parameters": {"x": {"value": 1}}}))
    for words in (
        ("--from-wandb", sweep),
        ("--from-wandb", tmp_path / "no.yaml"),
        ("--name", "a=b"),
    ):
        said = cli("search", *words, RECIPE)
        assert said.code == 2 and said.out == "" and said.err.count("\n") == 1, said
    said = cli("search", "--from-wandb", sweep, RECIPE, "--pause")
    assert said.code == 2 and "goes not with --pause" in said.err
    said = cli("search", "--from-wandb", sweep, RECIPE, "--name", "x=seed", "--json")
    assert said.code == 2 and "every value is a constant" in json.loads(said.out)["error"]
