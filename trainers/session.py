"""Where this process stands. The places (cluster/session.py) implement it; the engine only asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Session(Protocol):
    """One process of a run."""

    rank: int
    world: int
    device: torch.device
    folder: str  # url of the run folder
    leads: bool  # the first process of its host
    opens_test: bool  # whether the end of the run may look at the test split: a trial's may not
    draws: (
        bool  # whether its evaluators' figures are wanted: one run of many is looked at as a table
    )

    def holds(self) -> bool:
        """Whether this launch still holds the run folder: asked before each checkpoint, on rank 0."""
        ...

    def alive(self) -> None:
        """A step was done, or a batch judged: for a place that ends who hangs."""
        ...

    def should_stop(self) -> bool:
        """A local wish to end early: a signal, a pruned trial, a preemption notice. Cheap: asked every step."""
        ...

    def show(self, rows: list[dict[str, Any]]) -> None:
        """Rows of metrics.jsonl just written, for who watches. Rank 0 only."""
        ...
