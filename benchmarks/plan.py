"""The plan of an epoch of 10**9 samples in 10**6 shards, for one rank of 64, and of 4,096: seconds and memory, each in a new process.

What is timed is what a rank does at the start of an epoch: from the split's shards, which its manifest has given it, to the
rows of its first step, and those of a step in the middle, as after a resume. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.reading import Reading, summed_up
from datasets import order
from datasets.packed.manifest import Shard, Split
from datasets.sampling.samplers import Shuffled
from trainers.rooms import ROOT

ROUNDS = 7
ROWS, SHARDS, SHARD_BYTES = 10**9, 10**6, 128 * 2**20
WORLDS = {64: 4_096, 4_096: 65_536}  # ranks, each with a lane -> rows of a global batch


def run(rounds: int | None = None) -> list[Reading]:
    """Of as many ranks as there are rounds."""
    return [reading for world in WORLDS for reading in _of(world, rounds or ROUNDS)]


def _of(world: int, rounds: int) -> list[Reading]:
    found = [_of_a_rank(number * 9 * world // 64 % world, world) for number in range(rounds)]
    note = f"rank {', '.join(str(one['rank']) for one in found)} of {world:,}"
    return [
        summed_up(
            "plan",
            f"{world:,} ranks: to the rows of the first step",
            [one["first"] for one in found],
            unit="s",
            target="<= 1",
            note=note,
        ),
        summed_up(
            "plan",
            f"{world:,} ranks: the same, CPU time",
            [one["cpu"] for one in found],
            unit="s",
            target="<= 1",
        ),
        summed_up(
            "plan",
            f"{world:,} ranks: to those of a step in the middle",
            [one["middle"] for one in found],
            unit="s",
        ),
        summed_up(
            "plan",
            f"{world:,} ranks: most memory",
            [one["mb"] for one in found],
            unit="MB",
            target="<= 200",
            note=note,
        ),
    ]


def _of_a_rank(rank: int, world: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.plan", str(rank), str(world)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def _measured(rank: int, world: int) -> dict[str, Any]:
    each = ROWS // SHARDS
    split = Split(
        ROWS,
        content="",
        shards=tuple(Shard(f"{n:06}", each, SHARD_BYTES, ()) for n in range(SHARDS)),
    )
    plan = order.Plan(ROWS, WORLDS[world], lanes=world)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before, start, cpu = _memory_mb("VmRSS"), time.perf_counter(), time.process_time()
    line = Shuffled(split, plan).epoch(seed=0, phase=0, epoch=0)
    rows = [line.rows(0, rank, world)]
    first, cpu = time.perf_counter(), time.process_time() - cpu
    rows.append(line.rows(plan.steps // 2, rank, world))
    middle = time.perf_counter()
    if [len(part) for part in rows] != [WORLDS[world] // world] * 2:
        raise RuntimeError(f"a rank's rows are {[len(part) for part in rows]}")
    return {
        "rank": rank,
        "first": first - start,
        "cpu": cpu,
        "middle": middle - first,
        "mb": _memory_mb("VmHWM") - before,
    }


def _memory_mb(name: str) -> float:
    """A line of /proc/self/status."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measured(*map(int, sys.argv[1:]))))
