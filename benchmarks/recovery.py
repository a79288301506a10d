"""From the SIGKILL of a worker to the next new step, beside a cold start of the same group; and from a notice.

Two Ray workers on digits (gloo, one thread each). A cold start is from the group's start to its first step: Ray's actors,
imports, the process group, the data. The kill hits rank 1 in the middle of its work; what comes after it is noticing, the
same start again, and the steps since the last checkpoint once more.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.reading import Reading, summed_up

ROUNDS, PATIENCE = 3, 240.0
SAVED_EVERY, KILLED_AT = 200, 500


def run(rounds: int | None = None) -> list[Reading]:
    """Seconds, and recoveries over the cold starts of their own runs."""
    from cluster.connection import connected

    # Here, not in a run's thread: Ray's processes end with the thread that started them.
    connected(2)
    found = [_disturbed() for _ in range(rounds or ROUNDS)]
    cold, again = [each["cold"] for each in found], [each["again"] for each in found]
    note = f"{found[0]['lost']} steps done again; two workers"
    return [
        summed_up("recovery", "cold start of a group", cold, unit="s"),
        summed_up("recovery", "from SIGKILL to the next new step", again, unit="s", note=note),
        summed_up(
            "recovery",
            "over the cold start",
            [a / c for a, c in zip(again, cold, strict=True)],
            target="<= 1.3",
            note=note,
        ),
    ]


def _disturbed() -> dict[str, Any]:
    """One run that loses rank 1 once."""
    from cluster import workers
    from cluster.run import run as train

    starts: list[float] = []
    real = workers.Group._fit

    def fit(group: workers.Group, size: int) -> None:
        starts.append(time.perf_counter())
        real(group, size)

    workers.Group._fit = fit  # type: ignore[method-assign, assignment]
    try:
        with tempfile.TemporaryDirectory(prefix="manta-bench-") as out:
            recipe = workloads.digits(batch=64, steps=4 * KILLED_AT).override(
                {"scale.workers": 2, "keep.every_steps": SAVED_EVERY}
            )
            thread = threading.Thread(target=lambda: train(recipe, out=out), daemon=True)
            thread.start()
            folder = _folder(Path(out))
            _until(folder, 1)
            cold = time.perf_counter() - starts[0]
            reached = _until(folder, KILLED_AT)
            pid = _rank_one()
            killed = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            reached = max(reached, _last(folder))
            begun = len(starts)
            while len(starts) == begun:  # rows of the dead group are not new
                time.sleep(0.002)
                reached = max(reached, _last(folder))
            resumed = _resumed(folder)
            _until(folder, reached + 1)
            again = time.perf_counter() - killed
            thread.join(PATIENCE)
    finally:
        workers.Group._fit = real  # type: ignore[method-assign]
    return {"cold": cold, "again": again, "lost": reached - resumed}


def _folder(out: Path) -> Path:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := list(out.glob("*/metrics.jsonl")):
            return found[0].parent
        time.sleep(0.002)
    raise RuntimeError("the run did not begin")


def _last(folder: Path) -> int:
    """The last step that is written down; 0 where there is none yet, or a rewrite is under way."""
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, ValueError, IndexError):
        return 0


def _until(folder: Path, step: int) -> int:
    until = time.monotonic() + PATIENCE
    while (found := _last(folder)) < step:
        if time.monotonic() > until:
            raise RuntimeError(f"step {step} never came")
        time.sleep(0.002)
    return found


def _resumed(folder: Path) -> int:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if steps := json.loads((folder / "summary.json").read_bytes()).get("restarts"):
                return int(steps[-1])
        except (OSError, ValueError):
            pass
        time.sleep(0.002)
    raise RuntimeError("the run did not go on")


def _rank_one() -> int:
    """The process of the second training worker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"RayTrainWorker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return max(found)
