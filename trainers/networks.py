"""From the part of a recipe that names a model to the bare network, and what it wants to be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets import store
from trainers import library, rooms, summary
from trainers.library import Seen
from trainers.model_part import WEIGHTS, ModelPart, NetworkPart

if TYPE_CHECKING:
    from torch import nn

# Arguments of libraries that say how large pictures are.
_SIZES = ("img_size", "image_size", "force_image_size")


def bare(
    part: NetworkPart,
    *,
    num_classes: int,
    channels: int,
    size: int,
    pretrained: bool | str | None = None,
) -> nn.Module:
    """The network; `pretrained` is for libraries, which load their own weights. Raises Refusal where it does not build."""
    if part.name in rooms.doors("models"):
        context = {"num_classes": num_classes, "channels": channels, "size": size}
        network: nn.Module = rooms.door("models", part.name).build(context, part.arguments)
        return network
    return library.build(
        *_library(part),
        part.arguments,
        num_classes=num_classes,
        channels=channels,
        pretrained=pretrained,
    )


def wanted(part: NetworkPart) -> tuple[int, int | None]:
    """(channels, pixels a side) that the network insists on; 0 and None where it takes what comes."""
    if found := architecture(part):
        return library.input_shape(*found, {})
    if part.name in rooms.doors("models"):
        channels, size = rooms.door("models", part.name).constants.get("INPUT", (0, None))
        return channels, size
    return library.input_shape(*_library(part), part.arguments)


def says_size(part: NetworkPart) -> bool:
    """Whether an argument of its library's says how large pictures are."""
    return any(name in part.arguments for name in _SIZES)


def seen(part: ModelPart, begun: str | None = None) -> Seen | None:
    """What the weights were shown that the model begins with; None for random ones, and where nobody knows.

    Of a run of Manta's it stands in its folder, and then in that of the run that `begun` with its weights. Other files
    of a library's model are taken for its own weights.
    """
    if not part.pretrained:
        return None
    if part.file and (run := run_of(part.file)):
        for folder in (begun, run):
            given = summary.read_json(folder, "model.json").get("input") if folder else None
            if given:
                mean, std = tuple(given["mean"]), tuple(given["std"])
                return Seen(given["channels"], given["size"] or None, mean, std)
    if found := architecture(part):
        return library.seen(*found, True if part.file else part.pretrained)
    if part.name in rooms.doors("models"):
        constants = rooms.door("models", part.name).constants
        if "MEAN" not in constants:
            return None
        mean, std = tuple(constants["MEAN"]), tuple(constants["STD"])
        return Seen(len(mean), constants["SIZE"], mean, std)
    if part.file and _library(part)[0] == "torchvision":
        from torchvision.models import get_model_weights

        if not list(get_model_weights(_library(part)[1])):
            return None
    return library.seen(*_library(part), True if part.file else part.pretrained)


def run_of(url: str) -> str | None:
    """The folder of the run of Manta's that a file of weights, a checkpoint or a run's folder belongs to."""
    folder = url.rstrip("/").partition("/checkpoints/step-")[0]
    if folder.lower().endswith(WEIGHTS):
        return None
    return folder if store.exists(store.join(folder, "recipe.yaml")) else None


def architecture(part: NetworkPart) -> tuple[str, str] | None:
    """(library, name in it) of a model of ours that is built after a library's, as its `architecture` says."""
    door = rooms.doors("models").get(part.name)
    named = door.constants.get("ARCHITECTURES") if door else None
    said = part.arguments.get("architecture", "")
    return (named, said) if named and said in library.names(named) else None


def _library(part: NetworkPart) -> tuple[str, str]:
    found = library.find(part.name)
    assert found, "the recipe was checked"
    return found
