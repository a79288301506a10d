"""A worker that Ray ends because its host runs out of memory is replaced like any other that dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.run import Run
from tests.cluster.conftest import DIGITS, ROOT, SMALL

ROOM, HUNGER = 5 * 2**30, 9 * 2**30
# Rank 1 once takes more than there is, as a leak would; in the worker's own process.
DRIVER = """
import os, sys, threading
from pathlib import Path

def hungry(config):
    from cluster import workers
    real = workers.fit

    def fit(recipe, session):
        for report in real(recipe, session):
            yield report
            if session.rank == 1 and report.step == 7 and not os.path.exists({marker!r}):
                Path({marker!r}).touch()
                held = bytearray({hunger})
                held[::4096] = b"1" * len(held[::4096])
                threading.Event().wait()

    workers.fit = fit
    workers.worker(config)

from cluster import workers
workers.worker, real = hungry, workers.worker
hungry.__module__ = "__main__"
import launch
launch.app(sys.argv[1:])
"""


def memory() -> tuple[int, int]:
    """(total, used) bytes of this machine."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    known = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return known["MemTotal"], known["MemTotal"] - known["MemAvailable"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_worker_killed_for_its_memory_is_replaced(tmp_path: Path) -> None:
    total, used = memory()
    if total - used < HUNGER + 2 * ROOM:
        pytest.skip(f"needs {(HUNGER + 2 * ROOM) / 2**30:.0f} GiB of free memory")
    marker, out = tmp_path / "marker", tmp_path / "runs"
    script = DRIVER.format(marker=str(marker), hunger=HUNGER)
    words = ["train", DIGITS, *SMALL, "scale.workers=2", "phases.0.epochs=1", "keep.every_steps=4"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_memory_usage_threshold": f"{(used + ROOM) / total:.3f}",
        "RAY_memory_monitor_refresh_ms": "1000",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--out", str(out)],
        **{"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "check": False},
    )
    assert done.returncode == 0, done.stderr
    assert marker.exists() and "a worker died" in done.stderr and "Traceback" not in done.stderr
    (folder,) = out.iterdir()
    run = Run.open(str(folder))
    assert run.finished and run.summary["restarts"] == [4]
    died = next(event for event in run.summary["events"] if event["event"] == "died")
    assert "memory" in died["why"], died
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in lines if row["split"] == "train"]
    assert steps == [*range(1, 20)], "a step is missing or was written twice"
