"""What a recipe says of wrong labels: its forms, its mistakes, and what makes it another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.cleaning import lists
from datasets.cleaning.lists import Labels
from datasets.refusal import Refusal
from trainers import feed
from trainers.cleaned import Cleaned, finder
from trainers.recipe import Recipe

NOISY = {"data.noise": {"name": "symmetric", "rate": 0.1}}


def a_list(recipe: Recipe, url: Path, action: str = "drop") -> str:
    """One that drops (or relabels) the first five samples."""
    dataset = feed.dataset(recipe.data)
    columns = dataset.columns("train")
    noise = recipe.data.noise.model_dump() if recipe.data.noise else None
    made = {"digest": dataset.manifest.digest, "data": "digits", "noise": noise}
    ids, given = columns["id"][:5], columns["label"][:5]
    labels = Labels(ids, given, (given + 1) % 10, np.zeros(5), np.full(5, action), np.ones(5), made)
    lists.write(str(url), labels, dataset.manifest.classes)
    return str(url)


def identity(recipe: Recipe) -> str:
    return recipe.identity(feed.dataset(recipe.data).manifest.digest)


@pytest.mark.parametrize(
    ("said", "path", "says"),
    [
        ({}, "data.cleaned", "say path .* or by"),
        ({"by": "kfoldd"}, "data.cleaned.by", "did you mean 'kfold'"),
        ({"by": "kfold", "folds": 1}, "data.cleaned.folds", "should be 2 or more"),
        ({"by": "kfold", "share": 1.0}, "data.cleaned.share", "should be below 1"),
        ({"by": "kfold", "action": "burn"}, "data.cleaned.action", "'drop', 'relabel'"),
        ({"by": "kfold", "model": "resnet20"}, "data.cleaned", "by=kfold takes no model"),
        ({"by": "loss", "folds": 3}, "data.cleaned", "by=loss takes no folds"),
        ({"by": "loss", "action": "relabel"}, "data.cleaned", "not which is right"),
        ({"by": "neighbours", "model": "resnet21"}, "data.cleaned.model", "no model is called"),
        ({"by": "neighbours", "model": "mlp", "run": "x"}, "data.cleaned", "either model or run"),
        ({"path": "l.csv", "folds": 3}, "data.cleaned", "say by with folds"),
        ({"by": "kfold", "set": {"seed": 1}}, "data.cleaned", "keep the recipe's seed"),
        (
            {"by": "kfold", "set": {"data.noise": None}},
            "data.cleaned",
            "keep the recipe's data.noi",
        ),
        ({"by": "kfold", "set": {"data": {}}}, "data.cleaned", "keep the recipe's data"),
        (
            {"by": "kfold", "set": {"phases.0.epoch": 1}},
            "data.cleaned.set: phases.0.epoch",
            "unknown key 'epoch'",
        ),
    ],
)
def test_mistakes_are_refused_at_load(
    digits: Recipe, said: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(Refusal, match=says) as refused:
        digits.override({"data.cleaned": said})
    assert refused.value.path == path and "\n" not in str(refused.value)


@pytest.mark.parametrize("rate", [-0.1, 1.5, "much"])
@pytest.mark.parametrize("kind", ["symmetric", "pairwise"])
def test_a_rate_of_noise_is_a_share(digits: Recipe, kind: str, rate: object) -> None:
    with pytest.raises(Refusal) as refused:
        digits.override({"data.noise": {"name": kind, "rate": rate}})
    assert refused.value.path == "data.noise.rate" and refused.value.value == rate


def test_parts_held_out_are_checked(digits: Recipe) -> None:
    with pytest.raises(Refusal, match="fold 5 is none of 5 folds"):
        digits.override("data.held_out.fold=5")
    with pytest.raises(Refusal, match="leave held_out out"):
        digits.override("data.held_out.fold=1", "data.cleaned.by=kfold")
    for key in ("held_out={fold: 0}", "cleaned={by: loss}"):
        mixed = digits.override(f"data.{key}", "data.mixture=[{source: digits}, {source: digits}]")
        with pytest.raises(Refusal, match="of a mixture is not clear"):
            feed.dataset(mixed.data)


def test_a_path_alone_is_short_for_a_list(digits: Recipe) -> None:
    assert digits.override("data.cleaned=l.csv").data.cleaned == Cleaned(path="l.csv")
    assert not digits.override("data.cleaned=l.csv").data.cleans_first
    assert digits.override("data.cleaned.by=loss").data.cleans_first
    assert not digits.data.cleans_first


def test_what_finds_wrong_labels_is_the_recipe_itself_but_for_what_is_set(digits: Recipe) -> None:
    said = {"by": "kfold", "set": {"data.train.transforms": [], "model.width": 4}}
    found = finder(digits.override({"data.cleaned": said}))
    assert found == digits.override({"data.train.transforms": [], "model.width": 4})
    assert finder(digits) == digits


def test_a_list_counts_by_what_it_does_and_not_by_where_it_lies(
    digits: Recipe, tmp_path: Path
) -> None:
    noisy = digits.override(NOISY)
    one = noisy.override({"data.cleaned": a_list(noisy, tmp_path / "one.csv")})
    two = noisy.override({"data.cleaned": a_list(noisy, tmp_path / "two.parquet")})
    other = noisy.override({"data.cleaned": a_list(noisy, tmp_path / "3.csv", "relabel")})
    assert identity(one) == identity(two)
    assert len({identity(one), identity(other), identity(noisy)}) == 3
    rows = [feed.dataset(r.data).manifest.split("train").rows for r in (noisy, one, other)]
    assert rows == [1259, 1254, 1259]


def test_what_is_to_be_found_counts_by_how_and_not_by_the_list_that_came_of_it(
    digits: Recipe, tmp_path: Path
) -> None:
    noisy = digits.override(NOISY)
    asked = noisy.override({"data.cleaned": {"by": "kfold"}})
    made = asked.override({"data.cleaned.path": a_list(noisy, tmp_path / "l.csv")})
    assert feed.dataset(asked.data).manifest.split("train").rows == 1259, "not known yet"
    assert feed.dataset(made.data).manifest.split("train").rows == 1254
    assert identity(asked) == identity(made)
    more = asked.override({"data.cleaned.folds": 3})
    assert len({identity(asked), identity(more), identity(noisy)}) == 3
    assert digits.identity("x") == digits.override("data.cleaned=null").identity("x")


def test_a_list_of_other_noise_is_refused(digits: Recipe, tmp_path: Path) -> None:
    noisy = digits.override(NOISY)
    cleaned = noisy.override({"data.cleaned": a_list(noisy, tmp_path / "l.csv")})
    with pytest.raises(Refusal, match=r"with noise .*0\.1.* has .*0\.2") as refused:
        feed.dataset(cleaned.override({"data.noise.rate": 0.2}).data)
    assert refused.value.path == "data.cleaned"
    with pytest.raises(Refusal, match="is of other data"):
        feed.dataset(cleaned.override({"data.splits.seed": 3}).data)


def test_noise_reaches_the_part_that_is_held_out(digits: Recipe) -> None:
    noisy = digits.override(NOISY, "data.held_out={fold: 2, folds: 4}")
    test, train = (feed.dataset(noisy.data).columns(split) for split in ("test", "train"))
    truth = feed.dataset(digits.data).columns("train")
    label = dict(zip(truth["id"], truth["label"], strict=True))
    assert len(test["id"]) + len(train["id"]) == 1259
    wrong = np.mean([label[i] != given for i, given in zip(test["id"], test["label"], strict=True)])
    assert 0.05 < wrong < 0.18
