"""What a run's folder says of its network, for whoever puts it to work: the data need not be at hand."""

from __future__ import annotations

from datasets import store
from datasets.refusal import Refusal
from trainers import summary
from trainers.build import Shape
from trainers.describe import without_weights
from trainers.recipe import Recipe


def recipe(run: str) -> Recipe:
    """As it ran, with random weights: those of a checkpoint are about to take their place."""
    return without_weights(Recipe.load(store.join(run, "recipe.yaml")))


def shape(run: str) -> Shape:
    """What the model was built for. Raises Refusal where the folder does not say it."""
    card, given = (summary.read_json(run, name) for name in ("data.json", "model.json"))
    given = given.get("input", {})
    if not card or not given:
        raise Refusal("data.json or model.json is missing", path=run)
    return Shape(
        num_classes=len(card["classes"]) or 1,
        channels=given["channels"],
        size=given["size"],
        classes=tuple(card["classes"]),
        stored=tuple(card["shape"]),
        mean=tuple(given["mean"]),
        std=tuple(given["std"]),
    )
