"""What training takes of a device's memory, told before there is a device: steps of tensors without storage.

A step of the recipe is done on fake tensors, which have shapes and types and nothing else. What autograd keeps for the
backward pass is counted as it is kept, each storage once, with two and with four rows: the difference is what a row costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from datasets.batch import Batch, picture
from datasets.refusal import Refusal
from trainers import build, rooms
from trainers.average import Average
from trainers.build import Shape
from trainers.describe import preview
from trainers.recipe import Recipe
from trainers.stage import freeze
from trainers.task import Task

_ROWS = (2, 4)  # one row is too few for a batch norm over a vector


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one worker that trains a phase; `row` is what each sample that it takes at once adds."""

    parameters: int  # with buffers
    gradients: int
    moments: int  # the optimizers', and the moving average of the weights
    activations: int  # that do not grow with the batch: bf16 copies of weights
    row: int

    @property
    def fixed(self) -> int:
        """Bytes whatever the batch."""
        return self.parameters + self.gradients + self.moments + self.activations

    def at(self, rows: int) -> int:
        """Bytes when so many rows are taken at once."""
        return self.fixed + rows * self.row

    def most_rows(self, available: int) -> int:
        """How many rows fit; 0 where not even one does."""
        return max(0, (available - self.fixed) // max(1, self.row))


def estimate(recipe: Recipe, shape: Shape, index: int, *, bf16: bool) -> Memory:
    """The memory of the phase `index`, without what the device's own libraries take.

    Raises Refusal where the task looks at values, which fake tensors do not have.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    network = preview(recipe, shape)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _without_storage(network)
        task = build.task(recipe, index, network, classes=shape.classes).train()
        freeze(network, build.learning(recipe, index), f"phases.{index}.train")
        batches = [_batch(recipe, index, shape, rows) for rows in _ROWS]
    optimizers = _optimizers(recipe, index, task)
    kept = []
    try:
        for batch in batches:
            # A generator's noise is made by numpy from the samples' ids: those are real, and so the mode is over.
            batch.columns["id"] = torch.zeros(len(batch), dtype=torch.long)
            spent = batch.stacked() if recipe.phase_data(index).train.repeat else batch
            kept.append(_step(task, optimizers, spent, bf16=bf16) + _row_bytes(shape, batch))
    except RuntimeError as error:
        raise Refusal(
            f"memory cannot be foretold: {str(error).strip().splitlines()[0][:160]}",
            path=f"phases.{index}.task",
            value=recipe.phases[index].task.name,
        ) from error
    row = (kept[1] - kept[0]) // (_ROWS[1] - _ROWS[0])
    weights, ema = list(task.parameters()), recipe.phases[index].ema
    states = [state for optimizer in optimizers.values() for state in optimizer.state.values()]
    beside = [*Average(task, ema).held.values()] if ema is not None else []
    return Memory(
        parameters=_bytes([*weights, *task.buffers()]),
        gradients=_bytes(p for p in weights if p.requires_grad),
        moments=_bytes(beside) + sum(_bytes(state.values()) for state in states),
        activations=max(0, kept[0] - _ROWS[0] * row),
        row=row,
    )


def _optimizers(recipe: Recipe, index: int, task: Task) -> dict[str, torch.optim.Optimizer]:
    """As the stage builds them, but for what takes no memory: rates and groups."""
    built = {}
    for name, network in task.networks().items():
        optim = recipe.phases[index].optim[name]
        learning = [p for p in network.parameters() if p.requires_grad]
        groups = [{"params": learning, "lr": optim.lr, "weight_decay": optim.weight_decay}]
        built[name] = rooms.door("optimizers", optim.name).build(
            {"groups": groups}, optim.arguments
        )
    return built


def _step(
    task: Task, optimizers: dict[str, torch.optim.Optimizer], batch: Batch, *, bf16: bool
) -> int:
    """One training step; the most bytes that autograd kept at a time, weights and the batch left out."""
    apart = [*task.parameters(), *task.buffers(), *batch.columns.values()]
    kept = _Kept(apart)
    # CUDA's autocast is off where there is no CUDA. The CPU's keeps a little more in bf16, in front of layer norms.
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    steps = task.training_step(batch)
    with saved_tensors_hooks(kept.pack, kept.unpack):
        while True:
            with autocast:
                step = next(steps, None)
            if step is None:
                return kept.most
            optimizers[step.optim].zero_grad()
            step.loss.backward()  # type: ignore[no-untyped-call]
            optimizers[step.optim].step()


class _Kept:
    """Counts the storages that autograd holds on to, as long as it does."""

    def __init__(self, apart: Iterable[Tensor]) -> None:
        self.most = 0
        self._apart = {each.untyped_storage()._cdata for each in apart}
        # The weak references also keep the addresses from being given to others.
        self._held: dict[int, tuple[Any, int]] = {}
        self._total, self._stale = 0, False

    def pack(self, tensor: Tensor) -> Tensor:
        if self._stale:
            self._drop()
        storage = tensor.untyped_storage()
        if storage._cdata not in self._apart and storage._cdata not in self._held:
            reference: Any = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            self._held[storage._cdata] = (reference, storage.nbytes())
            self._total += storage.nbytes()
            self.most = max(self.most, self._total)
        return tensor

    def unpack(self, tensor: Tensor) -> Tensor:
        self._stale = True  # a backward pass lets go of what it has used
        return tensor

    def _drop(self) -> None:
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        self._total, self._stale = sum(size for _, size in self._held.values()), False


def _batch(recipe: Recipe, index: int, shape: Shape, rows: int) -> Batch:
    """A batch as a task gets it."""
    data = recipe.phase_data(index)
    columns = {name: torch.zeros(rows, dtype=torch.long) for name in ("id", "label")}
    if data.train.mix:
        columns["label"] = torch.zeros(rows, shape.num_classes)
    if data.class_weights:
        columns["weight"] = torch.ones(rows)
    if shape.size:
        views = range(data.train.views or data.train.repeat or 1)
        columns |= {picture(view): shape.example(rows, "cpu") for view in views}
    else:
        columns |= {"x": shape.example(rows, "cpu"), "y": torch.zeros(rows)}
    return Batch(columns, key=0)


def _row_bytes(shape: Shape, batch: Batch) -> int:
    """The batch itself: its columns, and the pixels that its pictures were made of."""
    stored = len(batch) * len(batch.pictures) * math.prod(shape.stored)
    return stored + _bytes(batch.columns.values())


def _without_storage(network: nn.Module) -> None:
    """Parameters and buffers on the CPU as far as anyone can tell, in place; tied ones stay tied."""
    made: dict[int, Tensor] = {}
    for module in network.modules():
        own: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for held in own:
            for name, tensor in held.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    empty = torch.empty_like(tensor, device="cpu")
                    is_weight = isinstance(tensor, nn.Parameter)
                    made[id(tensor)] = nn.Parameter(empty) if is_weight else empty
                held[name] = made[id(tensor)]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))
