"""What a task demands of the order of samples and of the classes: refused before anything is paid for."""

from __future__ import annotations

from datasets import subsets
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import rooms
from trainers.recipe import Recipe

# `PAIRS` in a task's file says by which column samples belong together: each batch must hold several of each kind.


def check_order(recipe: Recipe, index: int) -> None:
    """Refuse batches that leave samples of a task over pairs without a partner. Needs the recipe alone."""
    task, data = recipe.phases[index].task.name, recipe.phase_data(index)
    pairs = rooms.door("tasks", task).constants.get("PAIRS")
    if pairs == "view":
        _check_views(recipe, index)
    if pairs in ("view", "text"):
        _check_batch(recipe, index)
    if pairs != "label":
        return
    path = f"phases.{index}.data.order"
    if data.mixture:
        raise Refusal(
            f"task '{task}' needs several samples of a class in every batch, a mixture does not promise them",
            path="data.mixture",
            remedy="pack the sets as one, and use data.source or data.url",
        )
    name = data.order.name if data.order else "shuffle"
    if name != "pxk":
        raise Refusal(
            f"task '{task}' needs several samples of a class in every batch, order '{name}' does not promise them",
            path=path,
            value=name,
            remedy=f'set "{path}={{pxk: {{samples: 4}}}}"',
        )
    if samples_of(recipe, index) < 2:
        raise Refusal(
            f"task '{task}' needs pairs, and one sample of a class is none",
            path=f"{path}.samples",
            value=1,
            remedy="use 2 or more",
        )
    if samples_of(recipe, index) >= data.batch:
        raise Refusal(
            f"task '{task}' needs two classes in every batch, and {samples_of(recipe, index)} samples of one fill it",
            path=f"{path}.samples",
            value=samples_of(recipe, index),
            remedy=f"use {max(2, data.batch // 2)} or fewer, or a larger data.batch",
        )


def _check_views(recipe: Recipe, index: int) -> None:
    """Refuse pictures that are shown once."""
    phase, data = recipe.phases[index], recipe.phase_data(index)
    if (data.train.views or 1) < 2:
        place = f"phases.{index}.data.train.views" if phase.data.train else "data.train.views"
        raise Refusal(
            f"task '{phase.task.name}' compares two views of each picture, and pictures are shown once",
            path=place,
            value=data.train.views,
            remedy=f"set {place}=2",
        )


def _check_batch(recipe: Recipe, index: int) -> None:
    """Refuse batches in which a picture has no other beside it."""
    phase, data = recipe.phases[index], recipe.phase_data(index)
    if data.batch < 2:
        place = f"phases.{index}.data.batch" if phase.data.batch else "data.batch"
        raise Refusal(
            f"task '{phase.task.name}' sets a picture beside the others of its batch, and a batch of one has none",
            path=place,
            value=data.batch,
            remedy=f"use {place}=2 or more; hundreds serve better",
        )


def samples_of(recipe: Recipe, index: int) -> int:
    """K of a phase's P x K."""
    order = recipe.phase_data(index).order
    assert order is not None
    field = rooms.door("orders", "pxk").schema.model_fields["samples"]
    return int(order.arguments.get("samples", field.default))


def check_data(recipe: Recipe, index: int, dataset: Dataset) -> None:
    """Refuse classes that are too small for the task of a phase, by name."""
    door = rooms.door("tasks", recipe.phases[index].task.name)
    pairs, by_frequency = door.constants.get("PAIRS") == "label", "counts" in door.positional
    if door.constants.get("PAIRS") in ("view", "text"):
        _check_tail(recipe, index, dataset)
    if not (pairs or by_frequency):
        return
    counts, classes = subsets.counts(dataset), dataset.manifest.classes
    # A class of which there is nothing is never drawn.
    sizes = {name: n for name, n in zip(classes, counts, strict=True) if n or by_frequency}
    name, size = min(sizes.items(), key=lambda pair: pair[1])
    others = "leave the class out with data.subset.classes"
    if by_frequency and not size:
        raise Refusal(
            f"class '{name}' has no sample to learn from, and task '{door.name}' goes by how many each has",
            path="data",
            value=name,
            remedy=f"{others}, or choose another task",
        )
    if pairs and size < (samples := samples_of(recipe, index)):
        raise Refusal(
            f"class '{name}' has {size} sample{'s' * (size != 1)} to learn from, and every batch needs {samples} of a class",
            path=f"phases.{index}.data.order.samples",
            value=samples,
            remedy=f"use {size}, or {others}" if size > 1 else others,
        )


def _check_tail(recipe: Recipe, index: int, dataset: Dataset) -> None:
    """Refuse an epoch whose last batch is one picture alone."""
    data = recipe.phase_data(index)
    rows = dataset.manifest.split("train").rows
    if data.tail == "keep" and rows % data.batch == 1:
        raise Refusal(
            f"the last batch of an epoch is one picture of {rows:,}, which has no other beside it",
            path="data.tail",
            value="keep",
            remedy="use data.tail=drop, or another data.batch",
        )


def check_begun(recipe: Recipe) -> None:
    """Refuse a task that leaves the model as it is beside a model that has learnt nothing: its weights are random."""
    learnt = bool(recipe.model.pretrained)
    for index, phase in enumerate(recipe.phases):
        learnt = learnt or phase.init is not None
        keeps = bool(rooms.door("tasks", phase.task.name).constants.get("KEEPS_MODEL"))
        if keeps and not learnt:
            raise Refusal(
                f"task '{phase.task.name}' leaves the model as it is, and its weights are random: nothing was learnt before",
                path=f"phases.{index}.init",
                remedy=f"set phases.{index}.init to a run (of recipes/clip_digits.yaml, say), or model.pretrained",
            )
        learnt = learnt or not keeps


def check_judged(recipe: Recipe, dataset: Dataset) -> None:
    """Refuse to choose checkpoints by a validation split that says nothing of a class that is learnt."""
    kept = recipe.keep.metric or ""
    chooses = [
        rooms.door("evals", part.name).constants
        for part in recipe.evals.values()
        if part.on == "val"
    ]
    by_class = any(
        kept.removeprefix("val/") in door.get("SCORES", ()) and "label" in door.get("NEEDS", ())
        for door in chooses
    )
    missing = subsets.unjudged(dataset) if by_class else []
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise Refusal(
            f"class '{missing[0]}'{more} has no validation sample, and checkpoints are chosen by {kept}",
            path="keep.metric",
            value=kept,
            remedy="cut a validation split that has all classes (data.splits.val), choose classes with "
            "data.subset.classes, or set keep.metric=null",
        )
