"""Each doubt about a run is met by a run that earns it, and healthy runs earn none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.session import Local
from datasets import shards
from datasets.refusal import Refusal
from datasets.sources import digits as source
from tests.trainers.runs import rows, summary
from trainers import demands, feed, symptoms
from trainers.engine import fit
from trainers.recipe import Recipe

Places = Callable[..., Local]
LR = "phases.0.optim.main.lr"


def with_health(recipe: Recipe) -> Recipe:
    return recipe.override({"evals": {**recipe.plain()["evals"], "health": {"name": "health"}}})


def perceptron(**changes: Any) -> Recipe:
    """Forty epochs of a rectified perceptron that fits a curve by plain SGD."""
    short = {"scale.device": "cpu", "log.tensorboard": False, "phases.0.epochs": 40}
    sgd = {"phases.0.optim.main.name": "sgd", "model.activation": "relu"}
    return Recipe.load("recipes/curve.yaml").override({**short, **sgd, **changes})


def notes(recipe: Recipe, session: Local) -> list[str]:
    list(fit(recipe, session))
    found: list[str] = summary(session)["notes"]
    return found


def triplets(digits: Recipe, **task: Any) -> Recipe:
    """Three epochs of triplets and nothing else."""
    phase = {
        "task": {"name": "triplet", **task},
        "epochs": 3,
        "data": {"order": {"name": "pxk", "samples": 4}},
        "optim": {"main": {"name": "sgd", "lr": 0.1}},
    }
    evals = {"embedding": {"name": "embedding"}, "health": {"name": "health"}}
    return digits.override(
        {"data.batch": 32, "phases": [phase], "keep.metric": None, "evals": evals}
    )


def packed(folder: Path, train: dict[str, Any], val: dict[str, Any], classes: int = 10) -> str:
    names = [str(n) for n in range(classes)]
    kind = {"kind": "image", "shape": (8, 8, 1), "packed": {}}
    shards.write(str(folder), {"train": train, "val": val}, name="own", classes=names, **kind)
    return str(folder)


def halves() -> tuple[dict[str, Any], dict[str, Any]]:
    columns = source.build().columns
    return ({n: c[:1200] for n, c in columns.items()}, {n: c[1200:] for n, c in columns.items()})


def test_a_net_at_chance(digits: Recipe, local: Places) -> None:
    (note,) = notes(digits.override({LR: 0.0}), local())
    assert note.startswith("Phase 0 ended at chance: its loss was 2.")
    assert "say the same of every class is 2.303" in note


def test_triplets_in_one_place(digits: Recipe, local: Places) -> None:
    """A weight decay that is far too strong draws all features into one point."""
    session = local()
    told = notes(
        triplets(digits, distance="euclidean").override(
            {"phases.0.optim.main.weight_decay": 3.0, "phases.0.optim.main.no_decay": False}
        ),
        session,
    )
    assert any("its triplet loss stays at the margin (0.25" in note for note in told), told
    assert any("100 % of the triplets are active" in note for note in told)
    last = [row for row in rows(session) if row["split"] == "train"][-1]
    assert last["loss"] == pytest.approx(last["chance"], rel=0.05)
    assert last["negative_distance"] < 0.05


def test_units_that_never_answer_and_features_of_no_direction(local: Places) -> None:
    """Rectifiers driven out of their range by a rate that is too large: a layer of them says 0 to everything."""
    session = local()
    wild = perceptron(**{"phases.0.optim.main.clip": 100.0, LR: 1.0})
    told = notes(with_health(wild), session)
    dead = summary(session)["scores"]["test/dead_units"]
    assert dead > 0.5
    assert (
        f"{100 * dead:.0f} % of the units are dead: they are 0 for every sample of the test split."
        in told
    )
    assert any("effective rank is 0.00, so to the network nearly all samples" in n for n in told)


def test_a_gradient_that_explodes(local: Places) -> None:
    session = local()
    told = notes(perceptron(**{"phases.0.optim.main.clip": 1e3, LR: 1.0}), session)
    (note,) = [note for note in told if "exploded in phase 0" in note]
    norms = [row["gradient_norm"] for row in rows(session) if "gradient_norm" in row]
    assert f"from {norms[0]:.3g} to {max(norms):.3g}, the loss from" in note


def test_validation_that_is_better_than_training(
    digits: Recipe, local: Places, tmp_path: Path
) -> None:
    """A fifth of the labels to learn from are wrong, in the data themselves."""
    train, val = halves()
    label = train["label"].copy()
    label[::5] = (label[::5] + 3) % 10
    url = packed(tmp_path / "wrong", {**train, "label": label}, val)
    plain = {"data.url": url, "data.source": None, "data.train.transforms": []}
    told = notes(digits.override({**plain, "phases.0.epochs": 8}), local())
    (note,) = [note for note in told if note.startswith("Validation is better than training")]
    assert "look for a leak, for wrong labels in training" in note
    # Augmented samples are harder to learn: nothing is concluded from them.
    moved = digits.override({"data.url": url, "data.source": None, "phases.0.epochs": 8})
    assert not any("Validation is better" in note for note in notes(moved, local("moved")))


def test_a_score_beyond_the_ceiling(digits: Recipe, local: Places) -> None:
    told = notes(digits.override({"keep.ceiling": 0.3}), local())
    assert [note.split(" is ")[0] for note in told] == ["val/accuracy", "test/accuracy"]
    assert all(
        "beyond the ceiling that the recipe declares (0.3): look for a leak" in n for n in told
    )
    lowest = {"keep.metric": "val/loss", "keep.mode": "min", "keep.ceiling": 1e-6}
    assert not notes(digits.override(lowest), local("lowest"))


def test_a_ceiling_changes_no_run_and_needs_a_metric(digits: Recipe) -> None:
    with_ceiling = digits.override({"keep.ceiling": 0.99})
    assert with_ceiling.identity("digest") == digits.identity("digest")
    with pytest.raises(Refusal, match="a ceiling needs a metric") as caught:
        digits.override({"keep.metric": None, "keep.ceiling": 0.99})
    assert (caught.value.path, caught.value.value) == ("keep.ceiling", 0.99)


def test_a_class_that_nothing_is_validated_on(
    digits: Recipe, local: Places, tmp_path: Path
) -> None:
    train, val = halves()
    seen = np.isin(val["label"], [4, 7], invert=True)
    url = packed(tmp_path / "some", train, {name: column[seen] for name, column in val.items()})
    choosing = digits.override({"data.url": url, "data.source": None})
    dataset = shards.open_dataset(url)
    with pytest.raises(Refusal, match="class '4' .and 1 more. has no validation sample") as caught:
        demands.check_judged(choosing, dataset)
    assert (caught.value.path, caught.value.value) == ("keep.metric", "val/accuracy")
    recipe = choosing.override({"keep.metric": None})
    demands.check_judged(recipe, dataset)
    expected = "No validation sample of 4, 7: no score here says how well they are told"
    assert any(note.startswith(expected) for note in notes(recipe, local()))
    assert symptoms.unjudged(recipe, dataset) and not symptoms.unjudged(
        recipe.override({"evals": {}, "keep.metric": None}), dataset
    )


def test_a_fit_that_is_no_better_than_the_mean(local: Places) -> None:
    lost = {"phases.0.optim.main.name": "adam", "phases.0.optim.main.lr": 100.0}
    told = notes(perceptron(**lost, **{"model.activation": "sigmoid"}), local())
    expected = "The fit is no better than predicting the mean: on the test split its RMSE is"
    assert any(note.startswith(expected) for note in told)
    assert not any("the mean" in n for n in notes(perceptron(**{LR: 0.001}), local("good")))


def test_pixels_that_a_generator_cannot_make_are_told_beforehand(local: Places) -> None:
    recipe = Recipe.load("recipes/dcgan_digits.yaml")
    dataset = feed.dataset(recipe.data)
    assert not symptoms.foreseen(recipe, dataset)
    (said,) = symptoms.foreseen(recipe.override({"data.mean": None, "data.std": None}), dataset)
    assert "span -1 to 1, the data's -0.81 to 1.8" in said and "data.mean=[0.5]" in said
    assert not symptoms.foreseen(recipe.override({"data.mean": [0.0], "data.std": [1.0]}), dataset)


def test_a_run_that_is_resumed_is_judged_as_a_whole(digits: Recipe, local: Places) -> None:
    session, still = local(), digits.override({LR: 0.0})
    reports = fit(still, session)
    for _ in range(25):
        next(reports)
    reports.send("stop")
    assert not summary(session)["notes"], "nothing is concluded of a run that goes on"
    (note,) = notes(still, session)
    assert note.startswith("Phase 0 ended at chance")


@pytest.mark.parametrize("name", ["digits", "digits_plain", "digits_triplet"])
def test_healthy_runs_earn_no_doubt(name: str, local: Places) -> None:
    short = {"scale.device": "cpu", "log.tensorboard": False, "model.width": 16}
    recipe = Recipe.load(f"recipes/{name}.yaml").override({**short, "phases.0.epochs": 6})
    if name == "digits_triplet":
        recipe = recipe.override({"phases.1.epochs": 3})
    session = local()
    assert notes(with_health(recipe), session) == []
    train = [row for row in rows(session) if row["split"] == "train"]
    measured = [n for n, row in enumerate(train) if "gradient_norm" in row]
    assert measured[:3] == [0, 20, 40], "where nothing is clipped, every twentieth step"
