"""What goes on inside a network while it predicts: features and activity, for evaluators that need them and no others.

Nothing is computed twice: the network's own forward pass is listened to.
"""

# B batch, D features, U units
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.refusal import Refusal
from trainers import anatomy
from trainers.task import Task

Predict = Callable[[Batch], dict[str, Tensor]]
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Threshold)  # what can be exactly 0 for good


@contextmanager
def listening(task: Task, wanted: Iterable[str]) -> Iterator[Predict]:
    """Within it, `task.predict` that also gives what is wanted of

    `embedding` (B, D) float32, what the head takes, of tasks that do not give it themselves, and `active` (B, U) bool,
    whether a unit of a rectifier is other than 0 anywhere in the picture.
    """
    heard: dict[str, list[Tensor]] = {}
    wanted = set(wanted)
    with ExitStack() as stack:
        if "embedding" in wanted and (head := _head(task)):
            handle = head.register_forward_pre_hook(partial(_features, heard))
            stack.callback(handle.remove)
        for module in task.modules() if "active" in wanted else ():
            if isinstance(module, RECTIFIERS):
                handle = module.register_forward_hook(partial(_activity, heard))
                stack.callback(handle.remove)

        def predict(batch: Batch) -> dict[str, Tensor]:
            heard.clear()  # of an attempt for which memory ran out
            outputs = task.predict(batch)
            if "embedding" in heard:
                outputs = {"embedding": heard["embedding"][-1], **outputs}
            if "active" in wanted:
                nothing = torch.zeros(len(batch), 0, dtype=torch.bool, device=batch["id"].device)
                outputs["active"] = torch.cat([nothing, *heard.get("active", ())], dim=1)
            return outputs

        # Compiled networks do not tell what they do inside.
        if any(getattr(module, "_compiled_call_impl", None) for module in task.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield predict


def _head(task: Task) -> nn.Module | None:
    try:
        return task.get_submodule(anatomy.head(task))
    except Refusal:
        return None


def _features(heard: dict[str, list[Tensor]], _: nn.Module, given: tuple[Any, ...]) -> None:
    if isinstance(given[0], Tensor):
        heard.setdefault("embedding", []).append(given[0].detach().flatten(1).float())


def _activity(heard: dict[str, list[Tensor]], _: nn.Module, __: Any, out: Tensor) -> None:
    """(B, C, ...) of pictures, (B, tokens, C) of sequences, (B, C)."""
    # At once: the next layer may write into the same memory.
    on = out.detach() != 0
    active_BC = on.any(1) if on.ndim == 3 else on.flatten(2).any(2) if on.ndim > 3 else on
    heard.setdefault("active", []).append(active_BC)
