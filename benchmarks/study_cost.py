"""What a study wastes: 200 runs of about five seconds over two processes, and a finished study looked at again.

Wasted is what the two processes had (two times the seconds from the first line to the last) beyond the training seconds that
the runs themselves wrote down: starting Ray and the processes, the evaluation at each run's end, checkpoints, predictions,
the table and the report. Runs are evaluated at their end alone: what a recipe asks for in between is its own affair.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.reading import Reading, summed_up
from search.studies import table
from search.studies.folder import Folder
from trainers.rooms import ROOT

CELLS, ARMS, PROCESSES, AGAIN = 200, 5, 2, 5


def run(rounds: int | None = None) -> list[Reading]:
    """One study; `rounds`, if given, are tens of runs."""
    cells = 10 * rounds if rounds else CELLS
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as out:
        seeds = f"seeds={cells // ARMS}"
        # Five seconds of training, and one look at the validation rows.
        longer = ["set.phases.0.epochs=40", "set.evals.accuracy.every=40"]
        begun = time.perf_counter()
        _study(out, seeds, *longer)
        wall = time.perf_counter() - begun
        found = table.read(Folder.open(str(Path(out, "digits_lr-small"))))
        trained = sum(row.seconds for row in found.rows)
        again = []
        for _ in range(AGAIN):
            begun = time.perf_counter()
            _study(out, seeds, *longer)
            again.append(time.perf_counter() - begun)
    note = f"{cells} runs of {trained / cells:.1f} s over {PROCESSES} processes"
    wasted = 100 * (PROCESSES * wall / trained - 1)
    return [
        summed_up(
            "study_cost", "wasted beyond training", [wasted], unit="%", target="<= 10", note=note
        ),
        summed_up("study_cost", "a finished study again", again, unit="s", target="< 3", note=note),
    ]


def _study(out: str, *words: str) -> None:
    command = [sys.executable, "launch.py", "study", "studies/digits_lr.yaml", *words]
    command += ["parallel=2", "set.log.tensorboard=false", "--quiet", "--out", out]
    subprocess.run(command, cwd=ROOT, env=dict(os.environ), check=True, stdout=subprocess.DEVNULL)
