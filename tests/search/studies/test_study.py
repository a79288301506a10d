"""A study's file and the words of a command line that change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from datasets.refusal import Refusal
from search.studies import arms, levels
from search.studies.study import Study

LR = "phases.0.optim.main.lr"
SIZES = {
    "name": "sizes",
    "question": "Which rate is it?",
    "recipe": "recipes/digits_plain.yaml",
    "set": {"phases.0.epochs": 3},
    "factors": {LR: [0.1, 0.01]},
    "seeds": 3,
    "ceiling": 0.99,
    "metric": "test/accuracy",
    "scales": {
        "small": {"seeds": 5, "ceiling": 0.9, "set": {"phases.0.epochs": 7}},
        "full": {"factors": {LR: [1, 2, 3]}},
    },
}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    path = tmp_path / "sizes.yaml"
    path.write_text(yaml.safe_dump(SIZES))
    return lambda *words: Study.load(str(path), words)


def test_a_word_has_the_last_say_over_the_scale(load: Any) -> None:
    study = load("seeds=2", "set.phases.0.epochs=1", "ceiling=0.5")
    assert study.run_seeds == [0, 1] and study.best_possible == 0.5
    found = arms.arms(study)
    assert {arm.recipe.phases[0].epochs for arm in found} == {1} and len(found) == 2


def test_a_word_changes_the_scale_that_is_chosen_with_it(load: Any) -> None:
    study = load(f"factors.{LR}=[5]", "scale=full", "seeds=1")
    assert study.factors == {LR: [5]} and study.run_seeds == [0]
    assert study.scales["small"].seeds == [0, 1, 2, 3, 4], "the other one is as it was"


def test_without_words_the_scale_has_it(load: Any) -> None:
    assert load().run_seeds == [0, 1, 2, 3, 4] and load().best_possible == 0.9
    assert load("scale=full").run_seeds == [0, 1, 2]
    assert [arm.recipe.phases[0].epochs for arm in arms.arms(load())] == [7, 7]


def test_another_metric_takes_nothing_that_was_said_of_the_first(tmp_path: Path) -> None:
    """A claimed accuracy is no loss; a ceiling, a margin and a direction are of what they were said of."""
    claim = {"arm": "lr 0.1", "value": 0.9, "source": "a report", "scale": None}
    tree = {**SIZES, "mode": "max", "margin": 0.01, "claims": [claim]}
    path = tmp_path / "sizes.yaml"
    path.write_text(yaml.safe_dump(tree))
    by_loss = Study.load(str(path), ["metric=val/loss"])
    assert by_loss.claims[0].metric == "test/accuracy" and not by_loss.upwards
    assert (by_loss.margin, by_loss.best_possible) == (0.0, None)
    said = Study.load(str(path), ["metric=val/top5", "margin=0.02", "ceiling=0.8", "mode=max"])
    assert (said.margin, said.best_possible, said.upwards) == (0.02, 0.8, True)
    same = Study.load(str(path), ["metric=test/accuracy"])
    assert same == Study.load(str(path)) and same.claims[0].metric is None


def test_a_run_before_that_no_arm_starts_from_is_refused(tmp_path: Path) -> None:
    """Else a mistyped `init` would hide it."""
    tree = {**SIZES, "before": {"first": {"recipe": "recipes/digits_plain.yaml"}}}
    path = tmp_path / "sizes.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(Refusal, match="no arm starts from this run") as refused:
        arms.arms(Study.load(str(path)))
    assert refused.value.path == "before.first" and "before.first" in str(refused.value.remedy)
    found = arms.arms(Study.load(str(path), ["set.phases.0.init=before.first"]))
    assert {arm.recipe.phases[0].init for arm in found} == {"before.first"}


def test_a_word_sets_what_a_run_before_leaves_out(tmp_path: Path) -> None:
    tree = {**SIZES, "before": {"first": {"recipe": "recipes/digits_plain.yaml"}}}
    tree["scales"] = {**tree["scales"], "full": {"before": {"first": tree["before"]["first"]}}}
    path = tmp_path / "sizes.yaml"
    path.write_text(yaml.safe_dump(tree))
    words = ["before.first.set.phases.0.epochs=1", "before.first.set.data.batch=32"]
    for scale in ("small", "full"):
        study = Study.load(str(path), [f"scale={scale}", *words, "before.first.seed=7"])
        ((name, seed, recipe),) = arms.before(study)
        assert (name, seed, recipe.seed) == ("first", None, 7)
        assert (recipe.phases[0].epochs, recipe.data.batch) == (1, 32)
    with pytest.raises(Refusal, match="no 'second' here"):
        Study.load(str(path), ["before.second.set.phases.0.epochs=1"])


def test_text_is_read_as_one_line(load: Any) -> None:
    assert load("question='Which\n  rate   is it? '").question == "Which rate is it?"
    claim = "{arm: lr 0.1, value: 0.9, source: ' R 1,\n\n row 2 ', note: 'a\n\n b'}"
    (told,) = load(f"claims=[{claim}]").claims
    assert told.source == "R 1, row 2" and told.note == "a b"


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([None, "runs/start-1a2b", "/far/away/b/"], ["no init", "init start-1a2b", "init b"]),
        (["one/a", "two/a", "c"], ["init one/a", "init two/a", "init c"]),
        (["s3://bucket/runs/a", None], ["init a", "no init"]),
    ],
)
def test_labels_of_folders_and_of_none_can_be_read(
    load: Any, values: list[Any], labels: list[str]
) -> None:
    study = load().model_copy(update={"factors": {"phases.0.init": values}})
    assert [level.label for level in levels.factors_of(study)["phases.0.init"]] == labels
    named = load().model_copy(update={"factors": {"model.name": ["hf/a", "hf/b"]}})
    assert [level.label for level in levels.factors_of(named)["model.name"]] == [
        "model hf/a",
        "model hf/b",
    ]
