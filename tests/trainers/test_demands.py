"""What a task demands of order and data is refused in one line, with the place in the recipe and a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import opening
from datasets import shards, subsets
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.sources import digits as source
from trainers import demands, feed
from trainers.describe import preview
from trainers.recipe import Recipe

ORDER = "phases.0.data.order"
PAIRED = ("triplet", "contrastive", "ntxent")


@pytest.fixture
def pairs() -> Recipe:
    return Recipe.load("recipes/digits_triplet.yaml")


def few(folder: Path, sizes: dict[int, int]) -> Dataset:
    """Digits of which some classes have so many samples to learn from."""
    columns = source.build().columns
    label = columns["label"]
    kept = np.ones(len(label), dtype=bool)
    for name, size in sizes.items():
        kept[np.flatnonzero(label == name)[size:]] = False
    train = {name: column[kept] for name, column in columns.items()}
    names = [str(n) for n in range(10)]
    kind: dict[str, Any] = {"kind": "image", "shape": (8, 8, 1), "packed": {}}
    shards.write(str(folder), {"train": train}, name="few", classes=names, **kind)
    return shards.open_dataset(str(folder))


@pytest.mark.parametrize("task", PAIRED)
@pytest.mark.parametrize(
    ("order", "path", "value", "error"),
    [
        (None, ORDER, "shuffle", "order 'shuffle' does not promise them"),
        ("balanced", ORDER, "balanced", "order 'balanced' does not promise them"),
        ({"name": "pxk", "samples": 1}, f"{ORDER}.samples", 1, "one sample of a class is none"),
        ({"name": "pxk", "samples": 32}, f"{ORDER}.samples", 32, "two classes in every batch"),
    ],
)
def test_batches_without_partners_are_refused_by_the_recipe_alone(
    pairs: Recipe, task: str, order: Any, path: str, value: Any, error: str
) -> None:
    recipe = pairs.override({"phases.0.task": task, ORDER: order})
    with pytest.raises(Refusal, match=error) as caught:
        preview(recipe)
    assert (caught.value.path, caught.value.value) == (path, value)
    assert caught.value.remedy


def test_the_remedy_is_taken(pairs: Recipe) -> None:
    with pytest.raises(Refusal) as caught:
        preview(pairs.override({ORDER: None}))
    change = str(caught.value.remedy).removeprefix('set "').removesuffix('"')
    preview(pairs.override({ORDER: None}).override(change))


def test_a_mixture_promises_no_partners(pairs: Recipe) -> None:
    sets = [{"source": {"name": "digits"}}, {"source": {"name": "digits"}}]
    mixed = pairs.override({"data.source": None, "data.mixture": sets, ORDER: None})
    with pytest.raises(Refusal, match="a mixture does not promise them") as caught:
        preview(mixed)
    assert caught.value.path == "data.mixture"


def test_the_data_of_the_recipe_may_order_all_phases(pairs: Recipe) -> None:
    preview(pairs.override({ORDER: None, "data.order": {"name": "pxk", "samples": 4}}))


def test_a_class_smaller_than_k_is_named(pairs: Recipe, tmp_path: Path) -> None:
    dataset = few(tmp_path / "few", {3: 5, 8: 3})
    with pytest.raises(Refusal) as caught:
        demands.check_data(pairs, 0, dataset)
    assert "class '8' has 3 samples to learn from, and every batch needs 4" in caught.value.error
    assert (caught.value.path, caught.value.value) == (f"{ORDER}.samples", 4)
    assert "use 3, or leave the class out" in str(caught.value.remedy)
    demands.check_data(pairs.override({f"{ORDER}.samples": 2}), 0, dataset)
    demands.check_data(pairs, 1, dataset)  # the classifier needs no pairs
    demands.check_data(pairs, 0, few(tmp_path / "none", {8: 0}))  # never drawn


def test_it_is_refused_before_a_run_is_opened(pairs: Recipe, tmp_path: Path) -> None:
    dataset = few(tmp_path / "few", {8: 3})
    recipe = pairs.override({"data.source": None, "data.url": str(tmp_path / "few")})
    plans = opening.plans_of(recipe, dataset, 1)
    with pytest.raises(Refusal, match="class '8'"):
        opening.foreknown(recipe, dataset, plans, str(tmp_path / "run"), None)
    assert not (tmp_path / "run").exists()


def test_logit_adjustment_needs_every_class(pairs: Recipe, tmp_path: Path) -> None:
    adjusted = pairs.override({"phases.1.task": "logit_adjusted"})
    demands.check_data(adjusted, 1, few(tmp_path / "few", {8: 1}))
    with pytest.raises(Refusal, match="class '2' has no sample to learn from") as caught:
        demands.check_data(adjusted, 1, few(tmp_path / "none", {2: 0}))
    assert (caught.value.path, caught.value.value) == ("data", "2")


def test_more_shots_than_a_class_has_are_refused(tmp_path: Path) -> None:
    dataset = few(tmp_path / "few", {6: 12})
    assert set(subsets.counts(subsets.of_train(dataset, shots=12, fraction=None))) == {12}
    with pytest.raises(Refusal) as caught:
        subsets.of_train(dataset, shots=13, fraction=None)
    assert caught.value.error == "class '6' has 12 samples to learn from, not 13"
    assert (caught.value.path, caught.value.value) == ("data.subset.shots", 13)
    assert "data.subset.shots=12" in str(caught.value.remedy)


def test_counts_are_of_the_labels_that_are_learnt_from() -> None:
    recipe = Recipe.load("recipes/digits.yaml")
    clean = subsets.counts(feed.dataset(recipe.data))
    noise = {"data.noise": {"name": "symmetric", "rate": 0.5}}
    wrong = subsets.counts(feed.dataset(recipe.override(noise).data))
    assert sum(clean) == sum(wrong) and clean != wrong
    curve = feed.dataset(Recipe.load("recipes/curve.yaml").data)
    assert subsets.counts(curve) == []
