"""Exponential moving average of what learns (Polyak averaging, as arXiv 1909.13719 uses it): judged and saved in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averages of a task's learning parameters and float buffers, beside them; running statistics are averaged too.

    `live` are the tensors of the task, `held` their averages, or while these are `judged`, the other way round.
    """

    def __init__(self, task: nn.Module, decay: float) -> None:
        self.decay = decay
        named = {id(t): (n, t) for n, t in task.state_dict(keep_vars=True).items() if _moves(t)}
        self.live: dict[str, Tensor] = {name: tensor.detach() for name, tensor in named.values()}
        self.held = {name: tensor.clone() for name, tensor in self.live.items()}

    def update(self, step: int) -> None:
        """Take in the weights after so many steps of the phase; the first of them count for more."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([*self.held.values()], [*self.live.values()], 1 - decay)

    def exchange(self) -> None:
        """The averages take the weights' place, and these theirs."""
        kept = [tensor.clone() for tensor in self.live.values()]
        torch._foreach_copy_([*self.live.values()], [*self.held.values()])
        torch._foreach_copy_([*self.held.values()], kept)

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Within it the task is the average."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()


def _moves(tensor: Tensor) -> bool:
    learns = tensor.requires_grad or not isinstance(tensor, nn.Parameter)
    return learns and tensor.is_floating_point()
