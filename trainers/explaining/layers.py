"""Which layers of a network still know where: found by looking at what each gives, whoever wrote the network."""

# B batch, C channel, S pixels a side, G positions a side, N tokens

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from datasets.refusal import Refusal

MOST_BEFORE = 16  # tokens before those of positions: class token, registers
_POOLS = ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool", "SelectAdaptivePool")
_NOTHING = (nn.Identity, nn.modules.dropout._DropoutNd)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer whose output has a place for each part of the picture; `before` tokens are of no part."""

    name: str
    kind: Literal["channels first", "channels last", "tokens"]
    side: int
    before: int = 0
    learns: bool = True  # whether the outputs depend on its places
    default: bool = True  # whether it may be chosen unasked: no pooling, and of tokens a norm alone

    def grid(self, output: Tensor) -> Tensor:
        """What the layer gives, or its gradient, as (B, C, G, G)."""
        if self.kind == "channels first":
            return output
        if self.kind == "channels last":
            return output.permute(0, 3, 1, 2)
        places_BCN = output[:, self.before :].transpose(1, 2)
        return places_BCN.reshape(*places_BCN.shape[:2], self.side, self.side)


def mapped(network: nn.Module, example: Tensor, logits: nn.Module | None = None) -> list[Layer]:
    """All layers with a map, in the order in which they are run; `example` is (B, C, S, S) with B > 1.

    `logits` is what is run where the network is but a part of it.

    Of layers that give the same tensor (a stage, and its last block) the outermost is named. A layer that is run more
    than once has no map of its own.
    """
    once = _given(network, example, logits or network)
    # Containers end after what they hold.
    outermost = {id(output): name for name, _, output in once}
    pooled = {id(output) for _, module, output in once if _kind(module).startswith(_POOLS)}
    found, side, grid = [], example.shape[-1], 0
    for name, module, output in once:
        layer = _layer(name, module, output, example, side, grid)
        if layer:
            if layer.kind != "tokens":
                side = grid = layer.side
            if outermost[id(output)] == name:
                found.append(replace(layer, default=layer.default and id(output) not in pooled))
    return found


def _given(
    network: nn.Module, example: Tensor, logits: nn.Module
) -> list[tuple[str, nn.Module, Tensor]]:
    """What each module of the network gives that is run once, with its gradient, in order."""
    calls: Counter[str] = Counter()
    given: list[tuple[str, nn.Module, Tensor]] = []

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def keep(_: nn.Module, __: object, output: object) -> None:
            calls[name] += 1
            if (
                isinstance(output, Tensor)
                and output.requires_grad
                and not isinstance(module, _NOTHING)
            ):
                output.retain_grad()
                given.append((name, module, output))

        return module.register_forward_hook(keep)

    handles = [watch(name, module) for name, module in network.named_modules() if name]
    try:
        with torch.enable_grad():
            # Of the square: the gradient of a plain sum is nothing behind a norm.
            logits(example.clone().requires_grad_()).square().sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    return [found for found in given if calls[found[0]] == 1]


def chosen(layers: Sequence[Layer], network: nn.Module, name: str | None) -> Layer:
    """The layer of this name, or the last one that a map is customarily made of: the last feature map, or the last norm whose places the head hears of.

    Raises Refusal where there is none, with the nearest names.
    """
    known = {layer.name: layer for layer in layers}
    usual = [layer for layer in layers if layer.learns and layer.default]
    if layers and not any(layer.learns for layer in layers):
        raise Refusal(
            "the model gives the same for every picture: its head is all zeros",
            path="model",
            value=type(network).__name__,
            remedy="train it for some steps",
        )
    if name is None:
        if not usual:
            raise Refusal(
                f"no layer of a {type(network).__name__} has a place for each part of the picture",
                path="model",
                value=type(network).__name__,
                remedy="explain a run of a convolutional network or a vision transformer",
            )
        return usual[-1]
    if name not in known:
        exists = name in dict(network.named_modules())
        told = (
            f"the layer '{name}' has no map: no place for each part of the picture"
            if exists
            else f"the model has no layer '{name}'"
        )
        raise Refusal(told, path="--layer", value=name, remedy=_nearest(name, list(known)))
    if not known[name].learns:
        best = f"use {usual[-1].name}" if usual else "use another layer"
        raise Refusal(
            f"of the layer '{name}' the head hears a single token, so its places have no gradient",
            path="--layer",
            value=name,
            remedy=best,
        )
    return known[name]


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[-3:]
    return f"the nearest with a map: {', '.join(close)}" if close else "it has none with a map"


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _layer(
    name: str, module: nn.Module, output: Tensor, example: Tensor, most: int, grid: int
) -> Layer | None:
    """What kind of map an output (B, ...) is, or None. Maps never grow, which tells them from matrices of attention."""
    shape, gradient = tuple(output.shape), output.grad
    if shape[0] != len(example):
        return None
    if len(shape) == 4:
        first, last = shape[2] == shape[3], shape[1] == shape[2]
        side = shape[2]
        if not (first or last) or not 1 < side <= most:
            return None
        kind: Literal["channels first", "channels last"] = (
            "channels first" if first else "channels last"
        )
        learns = gradient is not None and bool(gradient.any())
        return Layer(name, kind, side, learns=learns)
    if len(shape) != 3:
        return None
    side = grid if 0 <= shape[1] - grid * grid <= MOST_BEFORE else math.isqrt(shape[1])
    before = shape[1] - side * side
    if side < 2 or before > MOST_BEFORE:
        return None
    learns = gradient is not None and bool(gradient[:, before:].any())
    # Before the last attention, as the makers of the maps advise: what comes after reaches the head by its own token.
    norm = "Norm" in _kind(module)
    return Layer(name, "tokens", side, before, learns=learns, default=norm)
