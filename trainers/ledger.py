"""Which sample was used when: `ledger/` of a run, for whoever must prove it or asks what a sample's loss did.

Every rank writes its own rows, just before the checkpoint that covers them is complete. Rows past the checkpoint that a
run goes on from are removed first, since those steps are done again: so each step appears once.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datasets import store
from datasets.batch import Batch

FOLDER = "ledger"
COLUMNS = ("phase", "epoch", "step", "rank", "sample_id", "loss", "correct")
_NAME = re.compile(r"^step-(\d{8,})\.rank-(\d+)-of-(\d+)\.parquet$")


class _Used(NamedTuple):
    phase: int
    epoch: int
    step: int
    ids: Tensor
    samples: Mapping[str, Tensor]


class Ledger:
    """What this rank has used since the last checkpoint."""

    def __init__(self, run: str, *, rank: int, world: int) -> None:
        self.url, self.rank, self.world = store.join(run, FOLDER), rank, world
        self._used: list[_Used] = []

    def add(
        self, batch: Batch, samples: Mapping[str, Tensor], *, phase: int, epoch: int, step: int
    ) -> None:
        """Note the rows of a step (global, counted from 1); what is known of each stays on its device until written."""
        if not batch.weightless:
            self._used.append(_Used(phase, epoch, step, batch["id"], samples))

    def write(self, step: int) -> None:
        """Put what was used since the last call beside the checkpoint of this step."""
        if not self._used:
            return
        import pyarrow as pa
        from pyarrow import parquet

        used, self._used = self._used, []
        counts = torch.tensor([len(part.ids) for part in used])

        def spread(name: str) -> Tensor:
            return torch.tensor([getattr(part, name) for part in used]).repeat_interleave(counts)

        columns = {name: pa.array(spread(name).numpy()) for name in ("phase", "epoch", "step")}
        columns["rank"] = pa.array(torch.full((int(counts.sum()),), self.rank).numpy())
        columns["sample_id"] = pa.array(torch.cat([part.ids for part in used]).cpu().numpy())
        for name, kind in (("loss", pa.float32()), ("correct", pa.bool_())):
            # A phase's task tells of each sample or does not; a checkpoint may lie behind two phases.
            stretches = groupby(used, key=lambda part: name in part.samples)
            columns[name] = pa.concat_arrays(
                [_column(name, list(own), kind) for _, own in stretches]
            )
        file = io.BytesIO()
        parquet.write_table(pa.table({name: columns[name] for name in COLUMNS}), file)
        name = f"step-{step:08}.rank-{self.rank}-of-{self.world}.parquet"
        store.write_bytes(store.join(self.url, name), file.getvalue())


def _column(name: str, used: list[_Used], kind: Any) -> Any:
    """What is known of each sample of some steps, all of which tell of it or none."""
    import pyarrow as pa

    if name not in used[0].samples:
        return pa.nulls(sum(len(part.ids) for part in used), kind)
    return pa.array(torch.cat([part.samples[name] for part in used]).cpu().numpy(), kind)


def forget(run: str, *, after: int) -> None:
    """Remove the rows of steps past this one: they are about to be done again."""
    for name, step, _, _ in parts(run):
        if step > after:
            store.remove(store.join(run, FOLDER, name))


def parts(run: str) -> list[tuple[str, int, int, int]]:
    """(file, step of its checkpoint, rank, world) of a run's ledger, in the order of steps."""
    found = []
    for name in store.names(store.join(run, FOLDER)):
        if match := _NAME.match(name):
            found.append((name, int(match[1]), int(match[2]), int(match[3])))
    return sorted(found, key=lambda part: part[1:])
