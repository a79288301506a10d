"""The seam between objectives and the engine: a task yields losses, the engine spends them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor, nn

from datasets.batch import Batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


class Step(NamedTuple):
    """One backward pass and one optimizer step.

    `loss` is the mean over this rank's samples, `weight` its denominator where that is not the number of samples
    (class weights), `logs` further means over the same samples, to be written down. `samples` gives what is known of each
    sample, `loss` and `correct` (B,), to whoever keeps a ledger. With `summed` the sum over the samples of the global
    batch is spent in place of the mean, so that gradients grow with the batch; what is written down stays the mean.
    """

    loss: Tensor
    optim: str = "main"
    weight: Tensor | None = None
    logs: Mapping[str, Tensor] = MappingProxyType({})
    samples: Callable[[], Mapping[str, Tensor]] | None = None
    summed: bool = False


class Task(nn.Module):
    """Owns the networks of one objective. Never calls backward, step or .to(device), never asks its rank."""

    couples_samples = False  # a loss over pairs cannot be accumulated over micro-batches

    def steepness(self, batch: int, num_outputs: int) -> float:
        """How much steeper the loss is than a mean over samples and outputs: what a learning rate is to be divided by."""
        return 1.0

    def networks(self) -> dict[str, nn.Module]:
        """Which network each named optimizer of the phase drives."""
        return {"main": self}

    def training_step(self, batch: Batch) -> Iterator[Step]:
        """Yield the losses of a batch one by one; the optimizer named has stepped when the next is asked for."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """What evaluators consume, one row a sample: `logits` (B, C), `prediction` (B, ...), ..."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number, logged as `<split>/<name>`."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length, written as `tables/<split>_<name>.csv` at the end of a run."""

    name: str
    columns: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture, drawn on rank 0 only; `always` draws it at every evaluation, not just at the end."""

    name: str
    draw: Callable[[], Drawing]
    always: bool = False


Finding = Scalar | Table | Figure


class Evaluator(Protocol):
    """Consumes what `Task.predict` gives, yields findings; sums over ranks first, then one division."""

    def update(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        """Take in one batch of this rank."""
        ...

    def findings(self) -> Iterator[Finding]:
        """Called on every rank (it may reduce over ranks), after the last batch."""
        ...
