"""Foreign transforms where they run: built from what a recipe says, seeded for each picture, their results looked at.

torchvision's and the user's code draw from global generators. Before each picture `random`, `numpy.random` and torch's are
seeded from (key, id), so what happens to a sample is the same in any process, in any order.
"""

# H height, W width, C channel

from __future__ import annotations

import importlib
import inspect
import random
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from datasets import order
from datasets.foreign.spec import PYTHON, V2, Spec
from datasets.refusal import Refusal, nearest
from datasets.transforms import Images

Call: TypeAlias = Callable[[Images], Any]  # one picture, (H, W, C) uint8


def build(spec: Spec) -> Call:
    """What the spec names. Raises Refusal where it is not there or does not take its arguments."""
    if spec.name.startswith(V2):
        transform = _v2(spec.name, spec.arguments, spec.path)
        return lambda image_HWC: _through_torch(transform, image_HWC)
    return _function(spec)


def apply(spec: Spec, call: Call, image: Images, *, key: int, sample: int) -> Images:
    """One picture, transformed. Raises Refusal, naming the sample, for an error and for another shape."""
    value = int(order.hashes(key, sample, 0)[0])
    without_torch = "torch" not in sys.modules
    try:
        seed(value)
        result = call(image.copy())
        if without_torch and "torch" in sys.modules:  # imported on the way, so not seeded
            seed(value)
            result = call(image.copy())
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = [frame for frame in frames if "site-packages" not in frame.filename][-1]
        raise Refusal(
            f"{spec.name} fails on the sample with id {sample}: {type(error).__name__}: {error} "
            f"({where.filename}, line {where.lineno})",
            path=spec.path,
            value=sample,
        ) from error
    if not isinstance(result, np.ndarray) or (result.shape, result.dtype) != (
        image.shape,
        np.uint8,
    ):
        raise Refusal(
            f"{spec.name} makes {_described(result)} of {_described(image)} "
            f"(the sample with id {sample})",
            path=spec.path,
            value=sample,
            remedy="a transform keeps the shape and the type; data.size and frames change sizes",
        )
    return result


def seed(value: int) -> None:
    """Seed what a transform may draw from by 64 bits: `random`, `numpy.random`, and torch where it is imported."""
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(value)  # torch.manual_seed would ask for CUDA's too


def _v2(name: str, arguments: Mapping[str, Any], path: str) -> Callable[[Any], Any]:
    """A transform of torchvision; `transforms` among its arguments are others of them."""
    from torchvision.transforms import AutoAugmentPolicy, v2

    given = dict(arguments)
    try:
        if "transforms" in given:
            given["transforms"] = [_nested(part, path) for part in given["transforms"]]
        if "policy" in given:
            given["policy"] = AutoAugmentPolicy(given["policy"])
        built: Callable[[Any], Any] = getattr(v2, name.removeprefix(V2))(**given)
    except Refusal:
        raise
    except Exception as error:
        said = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "no arguments"
        raise Refusal(
            f"{name} does not build with {said}: {error}",
            path=path,
            value=name,
            remedy="torchvision documents its arguments",
        ) from error
    return built


def _nested(part: Mapping[str, Any], path: str) -> Callable[[Any], Any]:
    arguments = {key: value for key, value in part.items() if key != "name"}
    return _v2(part["name"], arguments, path)


def _through_torch(transform: Callable[[Any], Any], image_HWC: Images) -> Any:
    import torch

    image_CHW = torch.from_numpy(image_HWC).permute(2, 0, 1).contiguous()
    result = transform(image_CHW)
    if not isinstance(result, torch.Tensor) or result.dim() != 3:
        return result
    return result.permute(1, 2, 0).numpy()


def _function(spec: Spec) -> Call:
    """A function of the user's, with the recipe's arguments."""
    module_name, _, name = spec.name.removeprefix(PYTHON).partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise Refusal(
            f"'{module_name}' cannot be imported: {type(error).__name__}: {error}",
            path=spec.path,
            value=spec.name,
            remedy="it is looked for in the working directory and on PYTHONPATH",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise Refusal(
            f"'{module_name}' has no function '{name}'",
            path=spec.path,
            value=spec.name,
            remedy=nearest(
                name, [n for n, v in vars(module).items() if callable(v)], "look into it"
            ),
        )
    try:
        inspect.signature(function).bind(None, **spec.arguments)
    except TypeError as error:
        raise Refusal(
            f"{spec.name} is called with an image and {', '.join(spec.arguments) or 'nothing'}: {error}",
            path=spec.path,
            value=spec.name,
            remedy=f"its signature is {name}{inspect.signature(function)}",
        ) from error
    return lambda image_HWC: function(image_HWC, **spec.arguments)


def _described(result: Any) -> str:
    if hasattr(result, "shape") and hasattr(result, "dtype"):
        return f"{result.dtype} {tuple(result.shape)}"
    return f"a {type(result).__name__}"
