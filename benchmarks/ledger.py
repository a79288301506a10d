"""A training step with `data.ledger=true` against the same step without, in this process, on one thread.

Each block ends with a checkpoint on both sides, for the ledger is written together with it.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks import fair, workloads
from benchmarks.clock import Advance, interleaved, ratios
from benchmarks.reading import Reading, summed_up, total_ratio
from benchmarks.workloads import Workload
from trainers.engine import Reports

ROUNDS = 21


def run(rounds: int | None = None) -> list[Reading]:
    with workloads.on_one_thread() as both:
        return [reading for one in both for reading in _compared(one, rounds or ROUNDS)]


def _compared(work: Workload, rounds: int) -> list[Reading]:
    recipe, folder = work.recipe(work.steps * (rounds + 2)), work.folder
    with ExitStack() as stack:
        sides = []
        for kept in (True, False):
            one = recipe.override({"data.ledger": kept})
            session = fair.local(one, folder / ("with" if kept else "without"))
            reports = stack.enter_context(fair.engine(one, session))
            sides.append(_saving(reports, work.steps))
        interleaved(*sides, steps=work.steps, rounds=1)  # warm-up
        a, b = interleaved(*sides, steps=work.steps, rounds=rounds)
    files = list((folder / "with" / "ledger").iterdir())
    if len(files) != rounds + 1 or (folder / "without" / "ledger").exists():
        raise RuntimeError(f"{len(files)} parts of a ledger after {rounds + 1} checkpoints")
    readings = []
    for clock, ours, others in (("wall", a.wall, b.wall), ("CPU time", a.cpu, b.cpu)):
        what = f"{work.title}: with a ledger / without, {clock}"
        readings += [
            summed_up("ledger", what, ratios(ours, others), target="<= 1.02"),
            total_ratio("ledger", f"{what}, sum over sum", ours, others),
        ]
    return readings


def _saving(reports: Reports, steps: int) -> Advance:
    """One step a call; the last of a block also writes a checkpoint."""
    done = 0

    def advance() -> object:
        nonlocal done
        done += 1
        report = next(reports)
        return reports.send("save") if done % steps == 0 else report

    return advance
