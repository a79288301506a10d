"""Models of timm, torchvision and open_clip by name, known without importing any of them.

`resnet18` falls through to timm, then torchvision, then open_clip; `torchvision:resnet18` says which.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.refusal import Refusal, nearest

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("timm", "torchvision", "open_clip")
_DECORATED = re.compile(r"^@register_model.*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


def package(library: str) -> Path:
    """An installed library's folder, found without importing it."""
    spec = importlib.util.find_spec(library)
    assert spec and spec.origin, f"{library} is not installed"
    return Path(spec.origin).parent


@cache
def names(library: str) -> frozenset[str]:
    """Names of a library's image models, read off its source files [timm: 1,371 in .05 s]."""
    folder = package(library)
    if library == "open_clip":
        return frozenset(path.stem for path in (folder / "model_configs").glob("*.json"))
    files = sorted((folder / "models").glob("*.py"))
    return frozenset(
        name for path in files for name in _DECORATED.findall(path.read_text(encoding="utf-8"))
    )


def find(name: str) -> tuple[str, str] | None:
    """(library, name in it) of a model, or None."""
    library, colon, rest = name.partition(":")
    if colon and library in LIBRARIES:
        return (library, rest) if rest.split(".")[0] in names(library) else None
    for library in LIBRARIES:
        if name.split(".")[0] in names(library):
            return library, name
    return None


def known() -> set[str]:
    """Every name that `find` accepts without a prefix."""
    return set().union(*(names(library) for library in LIBRARIES))


def build(
    library: str, name: str, arguments: Mapping[str, Any], *, num_classes: int, channels: int
) -> nn.Module:
    """The model with a head of `num_classes`; a `Refusal` on `model` when an argument is not its own."""
    given = {key: value for key, value in arguments.items() if key != "pretrained"}
    pretrained = arguments.get("pretrained")
    if library != "open_clip" and pretrained not in (None, True, False):
        raise Refusal(
            f"{library}'s {name} has pretrained weights or none (it is {pretrained!r})",
            path="model.pretrained",
            value=pretrained,
            remedy="use true or false",
        )
    model: nn.Module
    try:
        if library == "timm":
            import timm

            model = timm.create_model(
                name, num_classes=num_classes, in_chans=channels, **dict(arguments)
            )
        elif library == "torchvision" and arguments.get("pretrained"):
            model = _torchvision_pretrained(name, num_classes, given)
        elif library == "torchvision":
            import torchvision

            model = torchvision.models.get_model(name, num_classes=num_classes, **given)
        else:
            model = _open_clip(name, num_classes, dict(arguments))
    except (TypeError, ValueError, AssertionError, RuntimeError, OSError) as error:
        # The Hub's and urllib's errors are OSErrors or ValueErrors, by way of FileNotFoundError and URLError.
        if pretrained and _is_of_the_network(error):
            raise Refusal(
                f"the pretrained weights of {library}'s {name} cannot be had: {str(error).splitlines()[0][:200]}",
                path="model.pretrained",
                value=pretrained,
                remedy="they are downloaded once: connect to the network, or set model.pretrained=false",
            ) from error
        raise _explained(library, name, arguments, error) from error
    return model


def _is_of_the_network(error: Exception) -> bool:
    module = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or module in ("huggingface_hub", "httpx", "requests")


def _torchvision_pretrained(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    """ImageNet weights with a new head in the place of the old one."""
    import torch
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, weights="DEFAULT", **arguments)
    path, head = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ][-1]
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, torch.nn.Linear(head.in_features, num_classes))
    return model


def _open_clip(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    """An open_clip image tower under a linear head."""
    import open_clip
    import torch

    # Said, or open_clip moves what was made on meta to the CPU, which has no data to move.
    clip = open_clip.create_model(name, device=torch.get_default_device(), **arguments)
    size = open_clip.get_model_config(name)["embed_dim"]
    return torch.nn.Sequential(clip.visual, torch.nn.Linear(size, num_classes))


def input_shape(library: str, name: str, arguments: Mapping[str, Any]) -> tuple[int, int | None]:
    """(channels, pixels a side) that the model insists on; channels 0 or pixels None where it takes any."""
    if library == "timm":
        import timm

        settings = timm.get_pretrained_cfg(name)
        fixed = settings is not None and settings.fixed_input_size and "img_size" not in arguments
        size = settings.input_size[-1] if settings is not None and fixed else None
        return 0, arguments.get("img_size", size)
    if library == "torchvision":
        size = arguments.get("image_size", 224 if name.startswith("vit_") else None)
        return 3, size
    import open_clip

    size = open_clip.get_model_config(name)["vision_cfg"].get("image_size", 224)
    return 3, size[0] if isinstance(size, list | tuple) else size


def normalisation(
    library: str, name: str, arguments: Mapping[str, Any]
) -> tuple[list[float], list[float]] | None:
    """(mean, std) that pretrained weights were trained with; None for random weights."""
    if not arguments.get("pretrained"):
        return None
    if library == "timm":
        import timm

        settings = timm.get_pretrained_cfg(name)
        return list(settings.mean), list(settings.std)
    if library == "torchvision":
        return [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    import open_clip

    return list(open_clip.OPENAI_DATASET_MEAN), list(open_clip.OPENAI_DATASET_STD)


def _explained(library: str, name: str, arguments: Mapping[str, Any], error: Exception) -> Refusal:
    """Which argument it was, where the message or the signatures tell."""
    text = " ".join(str(error).split())
    wrong = re.search(r"unexpected keyword argument '(\w+)'", text)
    if wrong and wrong[1] in arguments:
        return Refusal(
            f"{library}'s {name} takes no argument '{wrong[1]}'",
            path=f"model.{wrong[1]}",
            value=arguments[wrong[1]],
            remedy=nearest(
                wrong[1], _parameters(library, name), f"{library} documents those of {name}"
            ),
        )
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "no arguments"
    return Refusal(
        f"{library}'s {name} does not build with {given}: {text[:300]}",
        path="model",
        value=name,
        remedy="correct the arguments beside model.name",
    )


def _parameters(library: str, name: str) -> set[str]:
    """Keyword parameters of a library's constructor and of the class that it makes."""
    if library == "timm":
        import timm

        entrance = timm.model_entrypoint(name.split(".")[0])
        kinds = [
            kind
            for kind in vars(inspect.getmodule(entrance)).values()
            if inspect.isclass(kind) and kind.__module__ == entrance.__module__
        ]
        callables = [kind.__init__ for kind in kinds]
    elif library == "torchvision":
        import torchvision

        entrance = torchvision.models.get_model_builder(name)
        kinds = [k for k in vars(inspect.getmodule(entrance)).values() if inspect.isclass(k)]
        callables = [kind.__init__ for kind in kinds if kind.__module__ == entrance.__module__]
    else:
        import open_clip

        callables = [open_clip.create_model]
    hidden = {"self", "args", "kwargs", "num_classes", "in_chans"}
    return {p for call in callables for p in inspect.signature(call).parameters} - hidden
