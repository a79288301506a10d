"""The demo: `launch.py train recipes/digits.yaml --fresh`, seconds from start to exit and test accuracy, three seeds.

Cold: the data set is packed anew into an empty cache of Manta's (the system's page cache is warm all the same).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.reading import Reading, summed_up
from trainers.rooms import ROOT

SEEDS = 3


def run(rounds: int | None = None) -> list[Reading]:
    """Wall seconds with a cold and a warm cache, and the test accuracy of each seed."""
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    accuracies = []
    for seed in range(rounds or SEEDS):
        with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
            for cache in seconds:
                taken, accuracy = _demo(Path(name), seed)
                seconds[cache].append(taken)
            accuracies.append(accuracy)
    listed = "seeds " + ", ".join(f"{seed}: {a:.4f}" for seed, a in enumerate(accuracies))
    return [
        *(
            summed_up("demo", f"seconds, {cache} cache", taken, unit="s", target="< 90")
            for cache, taken in seconds.items()
        ),
        summed_up("demo", "test accuracy", accuracies, unit="", target=">= 0.97", note=listed),
    ]


def _demo(folder: Path, seed: int) -> tuple[float, float]:
    """(seconds, test accuracy) of one run; the last line printed is its report's path."""
    environment = {
        **os.environ,
        "MANTA_OUT": str(folder / "runs"),
        "MANTA_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",  # as the Makefile sets it
    }
    command = [
        sys.executable,
        "launch.py",
        "train",
        "recipes/digits.yaml",
        "--fresh",
        f"seed={seed}",
    ]
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    taken = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"the demo ended with {done.returncode}: {done.stderr[-2000:]}")
    report = Path(done.stdout.splitlines()[-1])
    summary = json.loads((report.parent / "summary.json").read_text(encoding="utf-8"))
    return taken, summary["scores"]["test/accuracy"]
