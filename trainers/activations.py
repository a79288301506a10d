"""Activation checkpointing (arXiv 1604.06174): blocks keep their inputs alone and are computed again in the backward pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from datasets.refusal import Refusal

CHAINS = (nn.Sequential, nn.ModuleList)
LONG = 8  # layers of a chain that is cut


def checkpoint_blocks(network: nn.Module) -> int:
    """Make every block of a network forget its activations, in place; how many blocks there are.

    Blocks are the members of `nn.Sequential`s and `nn.ModuleList`s that have parts of their own (a residual block, a
    transformer layer), and plain chains of layers, which are cut into as many parts as the square root of their length.
    Raises Refusal for a network without either.
    """
    found = [*_blocks(network)]
    if not found:
        raise Refusal(
            "this model has no blocks (members of an nn.Sequential or nn.ModuleList) to compute again",
            path="scale.checkpoint_activations",
            value=True,
            remedy="set scale.checkpoint_activations=false",
        )
    for block in found:
        _forgetful(block)
    return len(found)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    if not isinstance(module, CHAINS):
        for child in module.children():
            yield from _blocks(child)
    elif composite := [member for member in module if [*member.children()]]:
        for member in composite:
            yield from ([*_blocks(member)] if isinstance(member, CHAINS) else []) or [member]
    elif isinstance(module, nn.Sequential) and [*module.parameters()]:
        yield module


def _forgetful(block: nn.Module) -> None:
    plain, parts = block.forward, _stretches(block)
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    again = partial(_contexts, norms)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return plain(*args, **kwargs)
        first, *rest = parts or [plain]
        out = checkpoint(first, *args, use_reentrant=False, context_fn=again, **kwargs)
        for part in rest:
            out = checkpoint(part, out, use_reentrant=False, context_fn=again)
        return out

    block.forward = forward


def _stretches(block: nn.Module) -> list[Callable[..., Any]]:
    """A long chain of plain layers in parts, which share its layers; nothing of any other block."""
    if not isinstance(block, nn.Sequential) or len(block) < LONG:
        return []
    if any([*layer.children()] for layer in block):
        return []
    length = round(len(block) ** 0.5)
    # Never before a layer that overwrites its input, which is what is kept.
    starts = [n for n in range(0, len(block)) if not getattr(block[n], "inplace", False)]
    cuts = [0]
    for start in starts:
        if start - cuts[-1] >= length:
            cuts.append(start)
    return [block[a:b] for a, b in itertools.pairwise([*cuts, len(block)])]


def _contexts(
    norms: list[_BatchNorm],
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the forward pass and its repetition: the same batch moves running statistics once, not twice."""
    return nullcontext(), _resting(norms)


@contextmanager
def _resting(norms: list[_BatchNorm]) -> Iterator[None]:
    # Not by `track_running_stats`: the kernel would then save other tensors than in the forward pass.
    momenta = [norm.momentum for norm in norms]
    counters = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    counts = [counter.clone() for counter in counters]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for counter, count in zip(counters, counts, strict=True):
            counter.copy_(count)
