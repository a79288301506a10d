"""Proof from a run's ledger: every step used the samples that its order claims, once, through kills and changed worlds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from cluster.run import Run
from datasets import store
from datasets.refusal import Refusal
from datasets.shards import Dataset
from trainers import checkpoint, feed, ledger, summary
from trainers.recipe import Recipe

SHOWN = 5  # violations that are told


@dataclass
class Proof:
    """What a ledger shows: how many steps and epochs are as claimed, and what is not."""

    steps: int = 0
    first_step: int = 0
    samples: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    worlds: list[int] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.violations

    def refuse(self, run: str) -> None:
        """Raises the Refusal that names the first violations."""
        more = len(self.violations) - SHOWN
        told = "; ".join(self.violations[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise Refusal(
            f"the ledger does not hold: {told}",
            path=run,
            value=len(self.violations),
            remedy="its scores are not those of the declared order: train it anew with --fresh",
        )

    def as_dict(self) -> dict[str, Any]:
        return {"holds": self.holds, **vars(self)}

    def __str__(self) -> str:
        whole = [epoch for epoch in self.epochs if epoch["whole"]]
        dropped = sorted({epoch["dropped"] for epoch in whole})
        tail = f", {dropped[0]} dropped by the tail" if len(dropped) == 1 and dropped[0] else ""
        promises = " and ".join(dict.fromkeys(str(epoch["promise"]) for epoch in self.epochs))
        used = sorted({int(epoch["used"]) for epoch in whole})
        each = f", {' or '.join(map(str, used))} samples in each{tail}" if whole else ""
        parts = [
            f", {part['steps']} of {part['of']} steps of epoch {part['epoch'] + 1} of phase {part['phase']}"
            for part in self.epochs
            if not part["whole"]
        ]
        last = self.first_step + self.steps - 1
        return (
            f"steps {self.first_step} to {last} are as the order says: {_many(len(whole), 'whole epoch')}"
            f"{each}{''.join(parts[:SHOWN])}; {promises}; {_many(len(self.restarts), 'restart')}, "
            f"worlds of {' and '.join(map(str, self.worlds))}"
        )


def read(run: Run) -> pd.DataFrame:
    """The ledger's rows, (phase, epoch, step, rank, sample_id, loss, correct), by step, rank and slot."""
    tables = []
    for name, _, _, world in ledger.parts(run.url):
        data = store.read_bytes(store.join(run.url, ledger.FOLDER, name))
        try:
            table = parquet.read_table(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            raise Refusal(
                f"is no parquet file: {error}",
                path=store.join(run.url, ledger.FOLDER, name),
                remedy="the ledger is damaged, and proves nothing",
            ) from error
        tables.append(table.append_column("world", pa.array([world] * len(table), pa.int64())))
    if not tables:
        raise Refusal(
            "this run has no ledger", path=run.url, remedy="train it with data.ledger=true"
        )
    try:
        rows = pa.concat_tables(tables).select([*ledger.COLUMNS, "world"]).to_pandas()
    except (pa.ArrowException, KeyError) as error:
        raise Refusal(
            f"its parts have not the columns of a ledger: {error}",
            path=store.join(run.url, ledger.FOLDER),
            remedy="the ledger is damaged, and proves nothing",
        ) from error
    return rows.sort_values(["step", "rank"], kind="stable", ignore_index=True)


def prove(run: Run) -> Proof:
    """Hold the ledger against the arithmetic of the recipe's order, step by step."""
    rows, recipe = read(run), run.recipe
    dataset = feed.dataset(recipe.data)
    steps = [group for _, group in rows.groupby("step", sort=True)]
    proof = Proof(
        steps=len(steps),
        first_step=int(rows["step"].min()),
        samples=len(rows),
        worlds=sorted(int(world) for world in rows["world"].unique()),
        restarts=list(summary.read(run.url).get("restarts", [])),
    )
    _check_steps(rows, run, proof)
    latest = checkpoint.latest(run.url)
    # Phases that stopped early are as long as they were.
    lengths = checkpoint.read_state(latest).lengths if latest else ()
    for phase, of_phase in rows.groupby("phase", sort=True):
        index = int(str(phase))
        if index not in range(len(recipe.phases)):
            proof.violations.append(f"there is no phase {index}")
            continue
        before = sum(steps for _, steps in lengths[:index])
        for epoch, group in of_phase.groupby("epoch", sort=True):
            _check_epoch(group, (index, int(str(epoch)), before), recipe, dataset, proof)
    return proof


def _check_steps(rows: pd.DataFrame, run: Run, proof: Proof) -> None:
    """Every step from the first to the last checkpoint's is there, and of one world."""
    found = np.unique(rows["step"].to_numpy())
    # A ledger begins with the run, or where one that had none was gone on with.
    begins = {1, *(step + 1 for step in proof.restarts)}
    if found[0] not in begins:
        proof.violations.append(f"steps before {found[0]} are missing")
    missing = np.setdiff1d(np.arange(found[0], found[-1] + 1), found)
    if len(missing):
        proof.violations.append(f"{len(missing)} steps are missing, the first is {missing[0]}")
    worlds = rows.groupby("step")["world"].nunique()
    for step in worlds[worlds > 1].index[:SHOWN]:
        proof.violations.append(f"step {step} was done twice, in worlds of different sizes")
    last = summary.read(run.url).get("steps")
    if last is not None and int(last) > found[-1]:
        proof.violations.append(f"the run has {last} steps, the ledger ends at {found[-1]}")


def _check_epoch(
    group: pd.DataFrame,
    where: tuple[int, int, int],
    recipe: Recipe,
    dataset: Dataset,
    proof: Proof,
) -> None:
    """The samples of each step, in the order of their slots, are those that the arithmetic gives."""
    phase, epoch, before = where  # steps of the run before the phase
    sampler, ids = feed.sampler(recipe, phase, dataset), dataset.columns("train")["id"]
    plan = sampler.plan
    line = sampler.epoch(seed=recipe.seed, phase=phase, epoch=epoch)
    used = group["sample_id"].to_numpy()
    steps, starts = np.unique(group["step"].to_numpy(), return_index=True)
    for step, own in zip(steps.tolist(), np.split(used, starts[1:]), strict=True):
        place = step - 1 - before - epoch * plan.steps
        if not 0 <= place < plan.steps:
            proof.violations.append(f"step {step} is not of phase {phase}, epoch {epoch}")
            continue
        expected = ids[line.rows(place)]
        if not np.array_equal(own, expected):
            proof.violations.append(_difference(step, own, expected))
    whole = len(steps) == plan.steps
    by_id = np.argsort(ids)
    places = np.searchsorted(ids, used, sorter=by_id).clip(max=len(ids) - 1)
    # What the order promises is counted as well: the arithmetic above would repeat its own mistakes.
    broken = sampler.broken(by_id[places], whole=whole)
    proof.violations += [f"phase {phase}, epoch {epoch}: {breach}" for breach in broken]
    dropped = plan.rows - plan.full_steps * plan.batch - plan.ragged
    proof.epochs.append(
        {
            "phase": phase,
            "epoch": epoch,
            "used": len(used),
            "samples": len(np.unique(used)),
            "whole": int(whole),
            "steps": len(steps),
            "of": plan.steps,
            "dropped": dropped if whole else 0,
            "promise": sampler.promise,
        }
    )


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _difference(step: int, own: np.ndarray, expected: np.ndarray) -> str:
    if len(own) != len(expected):
        return f"step {step} used {len(own)} samples, its order has {len(expected)}"
    if sorted(own.tolist()) == sorted(expected.tolist()):
        return f"step {step} used its samples in other slots"
    strange = np.setdiff1d(own, expected)
    return f"step {step} used {len(strange)} samples that are not its own, such as {strange[:1].tolist()}"
