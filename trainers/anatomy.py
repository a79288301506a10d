"""What a network is made of, whoever wrote it: its layers from the input to the head, and the network without its head.

A recipe's `train` and `layer_decay` speak of these; features for metric learning, retrieval and pictures come from here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from datasets.refusal import Refusal, nearest

_CONTAINERS = (nn.Sequential, nn.ModuleList)
_LAST = re.compile(r"last (\d+)")


@dataclass(frozen=True, slots=True)
class Layer:
    """A step of a network's depth: a convolution with its norm, a residual block, an encoder block."""

    name: str
    parameters: tuple[str, ...]


def layers(network: nn.Module) -> list[Layer]:
    """From the input to the head, by the order in which modules were made; every parameter is in one of them.

    Blocks of chains count one each. Norms belong to the layer before them; so does what has only vectors. Parameters that
    stand beside the blocks (class token, positions) belong to the first.
    """
    found: list[Layer] = []
    beside: list[str] = []
    half = sum(p.numel() for p in network.parameters()) / 2
    seen: set[int] = set()  # shared parameters belong to the layer that has them first

    def own(prefix: str, module: nn.Module, *, recurse: bool) -> list[tuple[str, nn.Parameter]]:
        listed = [
            (f"{prefix}{name}", parameter)
            for name, parameter in module.named_parameters(recurse=recurse)
            if id(parameter) not in seen
        ]
        seen.update(id(parameter) for _, parameter in listed)
        return listed

    def walk(module: nn.Module, prefix: str) -> None:
        beside.extend(name for name, _ in own(prefix, module, recurse=False))
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            size = sum(p.numel() for p in child.parameters())
            # What holds most of the network is not a layer of it, but the network in a wrapper.
            wrapper = size > half and any(child.children())
            if size and (isinstance(child, _CONTAINERS) or wrapper or _stage(child)):
                walk(child, f"{path}.")
                continue
            parameters = own(f"{path}.", child, recurse=True)
            names = tuple(name for name, _ in parameters)
            if not names:
                continue
            if found and all(parameter.dim() <= 1 for _, parameter in parameters):
                found[-1] = Layer(found[-1].name, (*found[-1].parameters, *names))
            else:
                found.append(Layer(path, names))

    walk(network, "")
    if not found:
        return [Layer("", tuple(beside))] if beside else []
    found[0] = Layer(found[0].name, (*beside, *found[0].parameters))
    return found


def _stage(module: nn.Module) -> bool:
    """Whether it holds a chain of blocks of one kind: a stage of timm's ConvNeXt, say."""
    for child in module.modules():
        if isinstance(child, _CONTAINERS):
            kinds = {type(block) for block in child}
            if len(kinds) == 1 < len(child) and any(next(child.children()).children()):
                return True
    return False


def head(network: nn.Module) -> str:
    """The dotted name of the linear layer that gives the outputs: the last one. Raises Refusal where there is none."""
    linear: list[str] = [
        name for name, module in network.named_modules() if isinstance(module, nn.Linear)
    ]
    if not linear:
        raise Refusal(
            f"a {type(network).__name__} has no linear layer at its end, so it has no head",
            path="model",
            value=type(network).__name__,
            remedy="choose a model that classifies",
        )
    return linear[-1]


def headless(network: nn.Module) -> nn.Module:
    """The network up to its head: the same input -> features (B, D), D being what the head takes.

    All parameters and buffers are the network's own, not copies; those of the head are not among them.
    """
    path = head(network).split(".")
    root = module = copy.copy(network)
    for name in path[:-1]:
        module._modules = dict(module._modules)
        child = module._modules[name]
        assert child is not None
        module._modules[name] = module = copy.copy(child)
    module._modules = {**module._modules, path[-1]: nn.Identity()}
    return root


def width(network: nn.Module) -> int:
    """D, how many features the head takes."""
    layer = network.get_submodule(head(network))
    assert isinstance(layer, nn.Linear)
    return layer.in_features


def learning(network: nn.Module, words: Sequence[str], path: str) -> set[str]:
    """Names of the parameters that a recipe's `train` means. Each word adds some:

    `head`, `body` (all but the head), `layer4+` (that layer and all after it), `last 2` (the last two layers before the
    head, and the head), or a glob of parameter names. Raises Refusal, on `path`, for one that means nothing.
    """
    found: set[str] = set()
    for number, word in enumerate(words):
        try:
            chosen = set(_meant(network, word))
        except Refusal as refusal:
            refusal.path, refusal.value = f"{path}.{number}", word
            raise
        found |= chosen
    return found


def _meant(network: nn.Module, word: str) -> Iterator[str]:
    names = [name for name, _ in network.named_parameters()]
    last = _LAST.fullmatch(word)
    if word in ("head", "body"):
        inside = f"{head(network)}."
        yield from (name for name in names if name.startswith(inside) == (word == "head"))
    elif last:
        yield from _from(network, _before_head(network, int(last[1])))
    elif word.endswith("+"):
        yield from _from(network, _beginning(network, word[:-1]))
    else:
        chosen = [name for name in names if fnmatchcase(name, word)]
        if not chosen:
            tops = sorted({name.split(".")[0] for name in names})
            raise Refusal(
                f"the glob '{word}' matches no parameter of the model",
                remedy=f"use {word}.*"
                if word in tops
                else f"its parameters begin with {', '.join(tops[:12])}; "
                "head, body, `last 2` and `NAME+` are known too",
            )
        yield from chosen


def _from(network: nn.Module, first: int) -> Iterator[str]:
    for layer in layers(network)[first:]:
        yield from layer.parameters


def _before_head(network: nn.Module, count: int) -> int:
    """The number of the layer that is the `count`-th before the head."""
    inside = f"{head(network)}."
    listed = layers(network)
    place = next(
        i
        for i, layer in enumerate(listed)
        if any(name.startswith(inside) for name in layer.parameters)
    )
    if not 1 <= count <= place:
        raise Refusal(
            f"there are {place} layers before the head, not {count}",
            remedy=f"use a number from 1 to {place}",
        )
    return place - count


def _beginning(network: nn.Module, name: str) -> int:
    """The number of the first layer that is `name`, or lies in it."""
    listed = layers(network)
    for number, layer in enumerate(listed):
        if layer.name == name or layer.name.startswith(f"{name}."):
            return number
    known = dict.fromkeys(
        ".".join(parts[:depth])
        for parts in (layer.name.split(".") for layer in listed)
        for depth in range(1, len(parts) + 1)
    )
    raise Refusal(f"no layer of the model is called '{name}'", remedy=nearest(name, known))
