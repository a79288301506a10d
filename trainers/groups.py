"""An optimizer over its network's parameters: in groups by weight decay and depth, with penalties added to their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from datasets.refusal import Refusal
from trainers import anatomy, rooms
from trainers.phase import Optim, Penalty

SHARE = "lr_share"  # of a group: what its rate is multiplied by


def optimizer(optim: Optim, network: nn.Module, path: str) -> Optimizer:
    """The optimizer of what learns in the network. Raises Refusal where nothing does."""
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not learning:
        raise Refusal(
            "this optimizer has nothing to learn: its network is frozen",
            path=path,
            remedy="widen the phase's `train`",
        )
    groups = []
    for share, parameters in _by_depth(optim, network, learning):
        # Biases and the affine parameters of norms are vectors; decaying them only shifts activations.
        flat = [p for p in parameters if optim.no_decay and p.dim() <= 1]
        rest = [p for p in parameters if not (optim.no_decay and p.dim() <= 1)]
        for params, decay in ((rest, optim.weight_decay), (flat, 0.0)):
            if params:
                groups.append(
                    {"params": params, "weight_decay": decay, "lr": optim.lr, SHARE: share}
                )
    built: Optimizer = rooms.door("optimizers", optim.name).build(
        {"groups": groups}, optim.arguments
    )
    return built


def step_of(optimizer: Optimizer) -> Callable[[], object]:
    """The optimizer's step, without torch's wrapper for profilers and hooks where nothing is hooked to it.

    A third of fused Adam's whole step of a small network [40 of 115 µs over 6 parameters].
    """
    bare = getattr(type(optimizer).step, "__wrapped__", None)
    wrapped = getattr(type(optimizer).step, "hooked", False) and "step" not in vars(optimizer)
    if bare is None or not wrapped or _hooked(optimizer):
        return optimizer.step
    return partial(bare, optimizer)


def _hooked(optimizer: Optimizer) -> bool:
    own = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return bool(own or _global_optimizer_pre_hooks or _global_optimizer_post_hooks)


def _by_depth(
    optim: Optim, network: nn.Module, learning: Mapping[str, Tensor]
) -> Iterator[tuple[float, list[Tensor]]]:
    """(share of the rate, parameters): the head has all of it, each layer before it `layer_decay` of the next one's."""
    if optim.layer_decay is None:
        yield 1.0, list(learning.values())
        return
    layers = anatomy.layers(network)
    for depth, layer in enumerate(layers):
        parameters = [learning[name] for name in layer.parameters if name in learning]
        if parameters:
            yield optim.layer_decay ** (len(layers) - 1 - depth), parameters


class Penalties:
    """L1 and L2 norms of some parameters, added to the loss by their gradients: exact on any number of ranks."""

    def __init__(self, said: Sequence[Penalty], network: nn.Module, path: str) -> None:
        """Raises Refusal where one names nothing of the network."""
        self.terms: list[tuple[Penalty, list[nn.Parameter]]] = []
        known = dict(network.named_parameters())
        for number, penalty in enumerate(said):
            chosen = anatomy.learning(network, penalty.of, f"{path}.{number}.of")
            self.terms.append((penalty, [known[name] for name in sorted(chosen)]))

    def add(self, learning: Sequence[Tensor]) -> Tensor | None:
        """Add to the gradients of those that have one; what the terms come to, or None without any."""
        mine = {id(parameter) for parameter in learning}
        total: Tensor | None = None
        for penalty, listed in self.terms:
            pushed = [p for p in listed if id(p) in mine and p.grad is not None]
            if not pushed:
                continue
            weights: Any = [p.detach() for p in pushed]
            grads: Any = [p.grad for p in pushed]
            pull: Any = torch._foreach_sign(weights) if penalty.norm == "l1" else weights
            torch._foreach_add_(grads, pull, alpha=penalty.strength)
            norms = torch.stack(torch._foreach_norm(weights, 1 if penalty.norm == "l1" else 2))
            value = norms.sum() if penalty.norm == "l1" else norms.square().sum() / 2
            total = value * penalty.strength + (0 if total is None else total)
        return total
