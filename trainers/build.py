"""From a recipe and a data set's manifest to networks, tasks and evaluators."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from datasets import order
from datasets.batch import Batch, picture
from datasets.refusal import Refusal
from datasets.shards import Manifest
from trainers import demands, networks, rooms, sizing, weights
from trainers.inputs import Inputs
from trainers.recipe import Recipe
from trainers.task import Evaluator, Task

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Shape:
    """What the data ask of the model, and the model of the data."""

    num_classes: int  # outputs: classes, or 1 number for a table
    channels: int  # given to the model: picture channels, or columns of a table
    size: int  # pixels a side given to the model; 0 for a table
    classes: tuple[str, ...] = ()
    stored: tuple[int, ...] = ()  # (H, W, C) of the stored pictures
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def example(self, rows: int, device: str = "meta") -> torch.Tensor:
        """An input of the model's shape, float32."""
        picture = (self.size, self.size) if self.size else ()
        return torch.zeros(rows, self.channels, *picture, device=device)


def shape(recipe: Recipe, manifest: Manifest, *, begun: str | None = None) -> Shape:
    """What the model of the recipe is built for on this data set; `begun` is the run's folder, where there is one."""
    for index in range(len(recipe.phases)):
        _check_columns(recipe, index, manifest)
        _check_classes(recipe, index, manifest)
    return fitted(recipe, manifest, begun=begun)


def fitted(recipe: Recipe, manifest: Manifest, *, begun: str | None = None) -> Shape:
    """The same, whatever the tasks are: for whoever asks the model for features alone."""
    num_classes = len(manifest.classes) or 1
    if manifest.kind == "table":
        inputs = [name for name in manifest.columns if name == "x" or name.startswith("x_")]
        return Shape(num_classes, channels=max(1, len(inputs)), size=0)
    height, stored_width, stored_channels = manifest.shape
    channels, size = wanted(recipe, begun=begun)
    # A channel of one value everywhere has no deviation to divide by.
    mean, std = list(manifest.mean), [value or 1.0 for value in manifest.std]
    if seen := networks.seen(recipe.model, begun):
        mean, std = list(seen.mean), list(seen.std)
    _check_pixels(recipe, recipe.data.mean or mean, recipe.data.std or std)
    side = recipe.data.size or size or height
    if not side:
        raise Refusal(
            f"the pictures of '{manifest.name}' have many sizes: how large shall the model see them?",
            path="data.size",
            remedy="set data.size=224, say",
        )
    # Pictures in files are shown at the model's size; others as they are stored, then resized on the device.
    stored = (height or side, stored_width or side, stored_channels)
    return Shape(
        num_classes,
        channels=channels or stored_channels,
        size=side,
        classes=manifest.classes,
        stored=stored,
        mean=_each(recipe.data.mean or mean, channels or stored_channels),
        std=_each(recipe.data.std or std, channels or stored_channels),
    )


def _each(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value a channel, where one stands for all."""
    return tuple(values) * channels if len(values) == 1 else tuple(values)


def model(recipe: Recipe, shape: Shape, *, pretrained: bool = True) -> nn.Module:
    """The network, initialised by the recipe's seed; a `Refusal` on `model` where it does not build.

    Its pretrained weights are left out without `pretrained`: where others are loaded, and where only shapes are asked for.
    """
    torch.manual_seed(order.key(recipe.seed, "model") >> 1)
    with on_part("model"):
        part, own = sizing.settled(recipe.model, shape), None
        if pretrained and not part.file and part.name not in rooms.doors("models"):
            own = part.pretrained
        network = networks.bare(
            part,
            num_classes=shape.num_classes,
            channels=shape.channels,
            size=shape.size,
            pretrained=own,
        )
        if pretrained:
            weights.begin(part, network)
    return network


def task(
    recipe: Recipe,
    index: int,
    network: nn.Module,
    counts: Callable[[], Sequence[int]] = tuple,
    classes: Sequence[str] = (),
) -> Task:
    """The task of a phase around the network, for one that asks for them with the names of the `classes`, as far as they
    are known, and the samples of each, which `counts` gives.
    """
    part = recipe.phases[index].task
    _check_fit(recipe, index)
    demands.check_order(recipe, index)
    torch.manual_seed(order.key(recipe.seed, "task", index) >> 1)
    with on_part(f"phases.{index}.task", part.arguments):
        try:
            door = rooms.door("tasks", part.name)
            known: dict[str, object] = {"model": network, "classes": list(classes)}
            if "counts" in door.positional:
                known["counts"] = counts()
            built: Task = door.build(known, part.arguments)
        except AttributeError as error:
            raise Refusal(
                f"task '{part.name}' does not fit model '{recipe.model.name}': {error}",
                path=f"phases.{index}.task",
                value=part.name,
                remedy="choose a model made for the task (`launch.py list models`)",
            ) from None
    if recipe.scale.micro_batch and built.couples_samples:
        raise Refusal(
            f"task '{part.name}' couples the samples of a batch, so it cannot be cut",
            path="scale.micro_batch",
            value=recipe.scale.micro_batch,
            remedy="set scale.micro_batch=null",
        )
    wanted, given = set(built.networks()), set(recipe.phases[index].optim)
    if wanted != given:
        raise Refusal(
            f"task '{part.name}' steps the optimizers {sorted(wanted)}, the recipe names {sorted(given)}",
            path=f"phases.{index}.optim",
            value=sorted(given),
            remedy=f"name {' and '.join(sorted(wanted))}",
        )
    return built


def learning(recipe: Recipe, index: int) -> list[str]:
    """The words for what of the model learns in a phase: its `train`, or none where the task leaves the model as it is."""
    phase = recipe.phases[index]
    if not rooms.door("tasks", phase.task.name).constants.get("KEEPS_MODEL"):
        return phase.train
    if phase.train != ["*"]:
        raise Refusal(
            f"task '{phase.task.name}' leaves the model as it is: only what the task adds to it learns",
            path=f"phases.{index}.train",
            value=phase.train,
            remedy="leave it out",
        )
    return []


def evaluators(recipe: Recipe, shape: Shape) -> dict[str, Evaluator]:
    """A fresh evaluator for each key of `evals`."""
    context = {"classes": list(shape.classes), "mean": list(shape.mean), "std": list(shape.std)}
    made: dict[str, Evaluator] = {}
    for key, part in recipe.evals.items():
        with on_argument(f"evals.{key}"):
            made[key] = rooms.door("evals", part.name).build(context, part.arguments)
    return made


def inputs(shape: Shape, device: torch.device | str = "cpu") -> Inputs:
    """Stored pixels -> the model's input."""
    return Inputs(
        stored_channels=shape.stored[2],
        channels=shape.channels,
        size=None if shape.stored[:2] == (shape.size, shape.size) else shape.size,
        mean=list(shape.mean),
        std=list(shape.std),
        device=device,
    )


def readying(shape: Shape, device: torch.device) -> Callable[[Batch], Batch]:
    """What makes a batch ready for the model: moved to the device, its pictures made floats."""
    if shape.size:
        return inputs(shape, device).ready
    return lambda batch: batch.to(device)


@contextmanager
def on_part(path: str, said: Collection[str] = ()) -> Iterator[None]:
    """Refusals raised by a part name where in the recipe it stands; of what is `said` there, below it."""
    try:
        yield
    except Refusal as refusal:
        if not refusal.path:
            refusal.path = path
        elif refusal.path.split(".")[0] in said:
            refusal.path = f"{path}.{refusal.path}"
        raise


@contextmanager
def on_argument(path: str) -> Iterator[None]:
    """Refusals of frames, transforms and evaluators name their argument: where in the recipe it stands is added."""
    try:
        yield
    except Refusal as refusal:
        refusal.path = f"{path}.{refusal.path}" if refusal.path else path
        raise


def wanted(recipe: Recipe, *, begun: str | None = None) -> tuple[int, int | None]:
    """(channels, size) that the model insists on, or that its weights were shown; 0 and None where it takes what comes."""
    channels, size = networks.wanted(recipe.model)
    seen = networks.seen(recipe.model, begun)
    if seen is None:
        return channels, size
    told = networks.says_size(recipe.model)
    return channels or seen.channels, size if told else seen.size or size


def _check_fit(recipe: Recipe, index: int) -> None:
    """Refuse a task that feeds the model something else than it takes: noise to a classifier."""
    task, model = recipe.phases[index].task, recipe.model
    feeds = rooms.door("tasks", task.name).constants.get("FEEDS", "data")
    door = rooms.doors("models").get(model.name)
    takes = door.constants.get("TAKES", "data") if door else "data"
    if feeds != takes:
        raise Refusal(
            f"task '{task.name}' feeds {feeds} to a model, model '{model.name}' takes {takes}",
            path=f"phases.{index}.task",
            value=task.name,
            remedy="choose a model made for the task (`launch.py list models`)",
        )


def _check_columns(recipe: Recipe, index: int, manifest: Manifest) -> None:
    """Refuse a task that reads what the data do not hold."""
    task, views = recipe.phases[index].task, recipe.phase_data(index).train.views or 1
    shown = {picture(view) for view in range(1, views)}
    missing = needs(task.name) - shown - set(manifest.columns)
    if missing:
        raise Refusal(
            f"task '{task.name}' reads {', '.join(sorted(missing))}, "
            f"the data '{manifest.name}' have {', '.join(manifest.columns)}",
            path=f"phases.{index}.task",
            value=task.name,
            remedy="choose another task (`launch.py list tasks`) or other data",
        )


def _check_pixels(recipe: Recipe, mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse to normalise what a task takes for pixels of 0 to 1."""
    for index, phase in enumerate(recipe.phases):
        plain = {*mean} == {0.0} and {*std} == {1.0}
        if rooms.door("tasks", phase.task.name).constants.get("PIXELS") and not plain:
            raise Refusal(
                "reads pixels of 0 to 1, which the data's mean and deviation change",
                path=f"phases.{index}.task",
                value=phase.task.name,
                remedy="set data.mean=[0.0] and data.std=[1.0]",
            )


def needs(task: str) -> set[str]:
    """The columns, or views, that a task reads."""
    return set(rooms.door("tasks", task).constants.get("NEEDS", ()))


def _check_classes(recipe: Recipe, index: int, manifest: Manifest) -> None:
    """Refuse to tell one class apart."""
    task = recipe.phases[index].task
    if len(manifest.classes) == 1 and "label" in needs(task.name):
        raise Refusal(
            f"'{manifest.name}' has one class, '{manifest.classes[0]}': there is nothing to tell apart",
            path="data",
            value=manifest.classes[0],
            remedy="add pictures of another class, or choose another task (`launch.py list tasks`)",
        )
