"""What steps leave behind, kept on the device and averaged over ranks only when it is written down."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datasets.fetching.ranges import Stats
from trainers import parallel

Row = dict[str, Any]
SECONDS = 1.0  # between flushes: the ranks' only collective beside the gradients'
MOST_STEPS = 1_000


@dataclass(frozen=True, slots=True)
class Wishes:
    """What ranks may ask for on their own and must do together."""

    stop: bool
    save: bool


class Done(NamedTuple):
    """A step as it was done; a tuple, because a step is made at every step and turned into a row only here."""

    step: int
    phase: int
    epoch: int
    lrs: dict[str, float]
    seconds: float  # training so far, waiting included
    wait_seconds: float
    samples: int
    logs: dict[str, Tensor]  # means over this rank's rows, still on the device
    rows: int

    def row(self) -> Row:
        """What is known of the step without looking at the device."""
        return {
            "step": self.step,
            "split": "train",
            "phase": self.phase,
            "epoch": self.epoch,
            **self.lrs,
            "seconds": self.seconds,
            "wait_seconds": self.wait_seconds,
            "samples": self.samples,
        }


class Meter:
    """Collects steps; `flush` gives their rows and what any rank wishes.

    All ranks flush at the same steps: `due` counts steps, and how many make about a second is rank 0's to say.
    `stats` counts what this rank fetches from afar, if anything. `fetched` are these counts over all ranks at the last
    flush, on top of those `before` this launch.
    """

    def __init__(self, stats: Stats | None = None, before: Mapping[str, int] | None = None) -> None:
        self._stats, self._before = stats, dict(before or {}) if stats else {}
        self.fetched = dict(self._before)
        self.every = 1
        self._steps: list[Done] = []
        self._since = time.perf_counter()

    def add(self, done: Done) -> None:
        self._steps.append(done)

    @property
    def due(self) -> bool:
        return len(self._steps) >= self.every

    def flush(self, *, stop: bool, save: bool) -> tuple[list[Row], Wishes]:
        """Rows of the steps since the last flush, averaged over the global batch, and the ranks' wishes."""
        proposal, now = self.every, time.perf_counter()
        if self._steps:
            proposal = int(SECONDS * len(self._steps) / max(1e-6, now - self._since))
            self._since = now
        names = sorted({name for done in self._steps for name in done.logs})
        sums = torch.zeros(len(self._steps), len(names) + 1, dtype=torch.float64)
        if self._steps:
            # Some things are known of some steps alone: the same ones on every rank.
            none = torch.zeros_like(next(iter(self._steps[0].logs.values())))
            logged = [done.logs.get(name, none) for done in self._steps for name in names]
            values = torch.stack(logged)
            weights = torch.tensor([[float(done.rows)] for done in self._steps])
            # A rank that only keeps step must not spoil the means of the others.
            local = values.cpu().double().view(len(self._steps), len(names))
            sums = torch.cat(
                [torch.where(weights > 0, local * weights, 0.0), weights.double()], dim=1
            )
        counts = self._stats.told() if self._stats else {}
        agreed = [stop, save, proposal if parallel.rank() == 0 else 0, *counts.values()]
        total = parallel.summed(torch.cat([sums.flatten(), sums.new_tensor(agreed)]))
        sums, wishes = total[: sums.numel()].view_as(sums), total[sums.numel() :].tolist()
        self.every = min(MOST_STEPS, max(1, int(wishes[2])))
        fetched = zip(counts, wishes[3:], strict=True)
        self.fetched = {name: self._before.get(name, 0) + int(n) for name, n in fetched}
        rows = []
        for done, line in zip(self._steps, sums.tolist(), strict=True):
            found = zip(names, line, strict=False)
            means = {n: v / max(line[-1], 1.0) for n, v in found if n in done.logs}
            rows.append({**done.row(), **self.fetched, **means})
        self._steps = []
        return rows, Wishes(stop=bool(wishes[0]), save=bool(wishes[1]))
