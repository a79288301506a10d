"""What a recipe builds, without building it: counts, layers and shapes on the meta device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from datasets.refusal import Refusal
from trainers import activations, anatomy, build, library, rooms, shown, sizing
from trainers.build import Shape
from trainers.recipe import Recipe
from trainers.stage import freeze


def preview(recipe: Recipe, shape: Shape | None = None) -> nn.Module:
    """Build model and tasks on the meta device: wrong arguments and globs surface before data or workers are touched."""
    guess = shape or _guessed(recipe)
    with torch.device("meta"):
        network = build.model(recipe, guess, pretrained=False)
        if recipe.scale.checkpoint_activations:
            activations.checkpoint_blocks(network)
        for index in range(len(recipe.phases)):
            build.task(recipe, index, network, classes=guess.classes)
            freeze(network, build.learning(recipe, index), f"phases.{index}.train")
    for index in range(len(recipe.phases)):
        shown.view(recipe, guess, torch.device("cpu"), index=index)
    return network


def describe(recipe: Recipe, shape: Shape, *, rows: int = 1) -> dict[str, Any]:
    """`{parameters, trainable, modules, multiply_adds, input}`; modules are the leaves with their outputs of `rows` samples.

    `trainable` counts what learns in at least one phase; multiply-adds are those of one sample's forward pass; `sized`
    says what `match_params` found. A model that does not take the data's shape is a `Refusal`.
    """
    network = preview(recipe, shape)
    phases = range(len(recipe.phases))
    words = [word for index in phases for word in build.learning(recipe, index)]
    learning = anatomy.learning(network, words, "phases")
    outputs, multiply_adds = _traced(recipe, network, shape, rows)
    modules = []
    for name, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if own or not list(module.children()):
            trained = [p.numel() for n, p in own.items() if _join(name, n) in learning]
            modules.append(
                {
                    "name": name,
                    "kind": type(module).__name__,
                    "parameters": sum(p.numel() for p in own.values()),
                    "trainable": sum(trained),
                    "output": outputs.get(name),
                }
            )
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "trainable": sum(p.numel() for n, p in network.named_parameters() if n in learning),
        "multiply_adds": multiply_adds,
        "modules": modules,
        "input": {
            "channels": shape.channels,
            "size": shape.size,
            "mean": list(shape.mean),
            "std": list(shape.std),
        },
        "sized": sizing.told(recipe.model, shape),
    }


def loading_lines(recipe: Recipe, shape: Shape, weights: str) -> list[str]:
    """Lines of plain torch that load the weights, without Manta's engine."""
    part = sizing.settled(recipe.model, shape)
    arguments = part.arguments
    said = "".join(f", {key}={value!r}" for key, value in arguments.items())
    if recipe.model.name in rooms.doors("models"):
        door = rooms.door("models", recipe.model.name)
        context = {
            "num_classes": shape.num_classes,
            "channels": shape.channels,
            "size": shape.size,
        }
        given = ", ".join(str(context[name]) for name in door.positional)
        make = [
            "import sys",
            f"sys.path.insert(0, {str(rooms.ROOT)!r})  # the checkout of Manta",
            f"from trainers.models.{recipe.model.name} import build",
            f"model = build({given}{said})",
        ]
    else:
        source, name = library.find(recipe.model.name) or ("", "")
        calls = {
            "timm": f"timm.create_model({name!r}, num_classes={shape.num_classes}, in_chans={shape.channels}{said})",
            "torchvision": f"torchvision.models.get_model({name!r}, num_classes={shape.num_classes}{said})",
            "open_clip": f"open_clip.create_model({name!r}{said}).visual  # under a torch.nn.Linear",
        }
        make = [f"import {source}", f"model = {calls[source]}"]
    picture = f", {shape.size}, {shape.size}" if shape.size else ""
    return [
        *make,
        "from safetensors.torch import load_file",
        f"model.load_state_dict(load_file({weights!r}))",
        "model.eval()",
        f"# input: float32 (batch, {shape.channels}{picture}) = (pixel / 255 - mean) / std"
        if shape.size
        else f"# input: float32 (batch, {shape.channels})",
        f"mean, std = {[round(v, 6) for v in shape.mean]}, {[round(v, 6) for v in shape.std]}",
    ]


def without_weights(recipe: Recipe) -> Recipe:
    """The recipe with random weights where it asks for pretrained ones."""
    return recipe.override({"model.pretrained": False}) if recipe.model.pretrained else recipe


def _guessed(recipe: Recipe) -> Shape:
    """A shape to build for while the data are not known: enough for arguments to be checked."""
    channels, size = build.wanted(recipe)
    return Shape(num_classes=10, channels=channels or 3, size=recipe.data.size or size or 224)


def _traced(
    recipe: Recipe, network: nn.Module, shape: Shape, rows: int
) -> tuple[dict[str, list[int]], int]:
    """(output shapes by module, multiply-adds of one sample), from a forward pass on meta."""
    from torch.utils.flop_counter import FlopCounterMode

    outputs: dict[str, list[int]] = {}
    handles = []
    for name, module in network.named_modules():

        def note(_: nn.Module, __: Any, out: Any, name: str = name) -> None:
            out = (
                out[0] if isinstance(out, tuple) and out else out
            )  # attention gives its weights too
            if isinstance(out, Tensor):
                outputs[name] = list(out.shape)

        handles.append(module.register_forward_hook(note))
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            _forward(recipe, network.eval(), shape, rows)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, counter.get_total_flops() // (2 * rows)


def _forward(recipe: Recipe, network: nn.Module, shape: Shape, rows: int) -> None:
    """Some samples through the network on meta."""
    example = getattr(network, "example", shape.example)(rows, "meta")
    try:
        with torch.no_grad():
            network(example)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        raise Refusal(
            f"'{recipe.model.name}' does not take inputs of shape {tuple(example.shape[1:])}: {error}",
            path="model",
            value=recipe.model.name,
            remedy=_remedy(recipe),
        ) from error


def _remedy(recipe: Recipe) -> str:
    given = [f"model.{name}" for name in recipe.model.arguments]
    own = recipe.model.name in rooms.doors("models")
    checked = f"check {' and '.join(given)}, or " if given and not own else ""
    return f"{checked}set data.size to what it takes, or choose another model"


def _join(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name
