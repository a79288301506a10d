"""Models of timm, torchvision and open_clip by name, known without importing any of them.

`resnet18` falls through to timm, then torchvision, then open_clip; `torchvision:resnet18` says which.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
    library: str,
    name: str,
    arguments: Mapping[str, Any],
    *,
    num_classes: int,
    channels: int,
    pretrained: bool | str | None = None,
) -> nn.Module:
    """The model with a head of `num_classes`, with its library's weights where `pretrained` is true or names some.

    Raises Refusal, on `model`, for an argument that is not its own, and for weights that cannot be had.
    """
    model: nn.Module
    given = dict(arguments)
    try:
        if library == "timm":
            model = _timm(name, given, num_classes, channels, pretrained)
        elif library == "torchvision" and pretrained:
            model = _torchvision_pretrained(name, num_classes, given, pretrained)
        elif library == "torchvision":
            import torchvision

            model = torchvision.models.get_model(name, num_classes=num_classes, **given)
        else:
            model = _open_clip(name, num_classes, given, pretrained)
    except Refusal:
        raise
    except (TypeError, ValueError, AssertionError, RuntimeError, OSError) as error:
        # The Hub's and urllib's errors are OSErrors or ValueErrors, by way of FileNotFoundError and URLError.
        if pretrained and _is_of_the_network(error):
            raise Refusal(
                f"the pretrained weights of {library}'s {name} cannot be had: {str(error).splitlines()[0][:200]}",
                path="model.pretrained",
                value=pretrained,
                remedy="they are downloaded once: connect to the network, or name a file of them "
                "(model.pretrained=PATH)",
            ) from error
        raise _explained(library, name, arguments, error) from error
    return model


def _is_of_the_network(error: Exception) -> bool:
    module = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or module in ("huggingface_hub", "httpx", "requests")


def _timm(
    name: str,
    arguments: dict[str, Any],
    num_classes: int,
    channels: int,
    pretrained: bool | str | None,
) -> nn.Module:
    import timm

    if isinstance(pretrained, str):
        raise _unnamed(
            f"timm's {name}", pretrained, timm.list_pretrained(f"{name.split('.')[0]}.*")
        )
    # Of each of its many attempts to reach the Hub it warns; what came of them is said in one line.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    model: nn.Module = timm.create_model(
        name,
        pretrained=bool(pretrained),
        num_classes=num_classes,
        in_chans=channels,
        **arguments,
    )
    return model


def _unnamed(model: str, said: Any, names: list[str]) -> Refusal:
    """No weights are called so."""
    known = f"known: {', '.join(names[:12])}" if names else "there are none"
    if model.startswith("timm's") and names:
        known = f"a name of timm's says which weights: model={names[0]}, with model.pretrained=true"
    return Refusal(
        f"{model} has no weights called {said!r}", path="model.pretrained", value=said, remedy=known
    )


def _torchvision_weights(name: str, pretrained: bool | str) -> Any:
    """One of the members of torchvision's enumeration of a model's weights."""
    import torchvision

    known = torchvision.models.get_model_weights(name)
    if pretrained is True and hasattr(known, "DEFAULT"):
        return known.DEFAULT
    if pretrained not in known.__members__:
        raise _unnamed(f"torchvision's {name}", pretrained, list(known.__members__))
    return known[pretrained]


def _torchvision_pretrained(
    name: str, num_classes: int, arguments: dict[str, Any], pretrained: bool | str
) -> nn.Module:
    """The weights with a new head in the place of the old one."""
    import torch
    import torchvision

    from trainers import weights

    found = _torchvision_weights(name, pretrained)
    model: nn.Module = torchvision.models.get_model(name, weights=found, **arguments)
    path = weights.head(model)
    old = model.get_submodule(path)
    new: nn.Module
    if isinstance(old, torch.nn.Conv2d):  # SqueezeNet's classes are maps
        new = torch.nn.Conv2d(old.in_channels, num_classes, 1)
    else:
        assert isinstance(old, torch.nn.Linear), f"{name} ends in a {type(old).__name__}"
        new = torch.nn.Linear(old.in_features, num_classes)
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)
    return model


def _open_clip(
    name: str, num_classes: int, arguments: dict[str, Any], pretrained: bool | str | None
) -> nn.Module:
    """An open_clip image tower under a linear head."""
    import open_clip
    import torch

    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained and pretrained not in tags:
        raise _unnamed(f"open_clip's {name}", pretrained, tags)
    # Said, or open_clip moves what was made on meta to the CPU, which has no data to move.
    with untold():
        clip = open_clip.create_model(
            name, pretrained=pretrained or None, device=torch.get_default_device(), **arguments
        )
    size = open_clip.get_model_config(name)["embed_dim"]
    return torch.nn.Sequential(clip.visual, torch.nn.Linear(size, num_classes))


@contextmanager
def untold() -> Iterator[None]:
    """Within it nobody hears open_clip say, by the root logger, that there are no weights: they were not asked for, or come later."""

    def silent(record: logging.LogRecord) -> bool:
        return False

    logging.getLogger().addFilter(silent)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(silent)


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
    size = arguments.get("force_image_size") or size
    return 3, size[0] if isinstance(size, list | tuple) else size


@dataclass(frozen=True, slots=True)
class Seen:
    """How pictures were shown to a network while its weights were learnt."""

    channels: int
    size: int | None  # pixels a side
    mean: tuple[float, ...]
    std: tuple[float, ...]


def seen(library: str, name: str, pretrained: bool | str) -> Seen | None:
    """What the library's weights were shown; None where it does not say."""
    if library == "timm":
        import timm

        settings = timm.get_pretrained_cfg(name)
        if settings is None:
            return None
        channels, size = settings.input_size[0], settings.input_size[-1]
        return Seen(channels, size, tuple(settings.mean), tuple(settings.std))
    if library == "torchvision":
        shown = _torchvision_weights(name, pretrained).transforms()
        return Seen(3, int(shown.crop_size[0]), tuple(shown.mean), tuple(shown.std))
    import open_clip

    known: dict[str, Any] = {}
    if isinstance(pretrained, str):
        known = open_clip.get_pretrained_cfg(name, pretrained) or {}
    mean = known.get("mean") or open_clip.OPENAI_DATASET_MEAN
    std = known.get("std") or open_clip.OPENAI_DATASET_STD
    return Seen(3, input_shape(library, name, {})[1], tuple(mean), tuple(std))


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
    hidden = {"self", "args", "kwargs", "num_classes", "in_chans", "pretrained", "weights"}
    return {p for call in callables for p in inspect.signature(call).parameters} - hidden
