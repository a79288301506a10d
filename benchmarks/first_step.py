"""Seconds from the start of a process to its first optimizer step: Manta's own path against a plain script.

Fresh processes, interleaved, the cache and the page cache warm. The plain script imports the same libraries: the
third-party packages that Manta's process has imported by its first step, as a probe of that process lists them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.clock import ratios
from benchmarks.reading import Reading, summed_up
from datasets import store
from trainers import feed
from trainers.recipe import Recipe
from trainers.rooms import ROOT

ROUNDS = 7
RECIPE = "recipes/digits.yaml"


def run(rounds: int | None = None) -> list[Reading]:
    """Wall and CPU seconds of both, and their paired ratios."""
    recipe = Recipe.load(str(ROOT / RECIPE))
    url = str(store.path_of(feed.url_of(recipe.data, recipe.data)).absolute())
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
        ours: list[dict[str, Any]] = []
        theirs: list[dict[str, Any]] = []
        sides = [(_manta, ours), (_plain, theirs)]
        packages = _manta(Path(name, "probe"), url, [])["packages"]
        _plain(Path(name), url, packages)  # warm-up of the other one
        for number in range(rounds or ROUNDS):
            for start, found in sides:
                found.append(start(Path(name, str(number)), url, packages))
            sides.reverse()
    note = f"{len(packages)} packages imported on both sides"
    readings = []
    for key, title in (("wall", "wall"), ("cpu", "CPU time")):
        a, b = [one[key] for one in ours], [one[key] for one in theirs]
        readings += [
            summed_up(
                "first_step",
                f"to the first step, {title}",
                ratios(a, b),
                target="<= 1.3",
                note=note,
            ),
            summed_up("first_step", f"Manta, {title}", a, unit="s"),
            summed_up("first_step", f"plain script, {title}", b, unit="s"),
        ]
    imports = [[one["imported"] for one in side] for side in (ours, theirs)]
    readings.append(
        summed_up("first_step", "plain script, imports alone, wall", imports[1], unit="s")
    )
    return readings


def _manta(out: Path, url: str, packages: list[str]) -> dict[str, Any]:
    return _started("benchmarks.first_step_manta", [RECIPE, f"data.url={url}"], out)


def _plain(out: Path, url: str, packages: list[str]) -> dict[str, Any]:
    return _started("benchmarks.first_step_plain", [url, *packages], out)


def _started(module: str, arguments: list[str], out: Path) -> dict[str, Any]:
    """Run a script that prints what it found as its last line; `wall` counts from before the process is started."""
    environment = {**os.environ, "MANTA_OUT": str(out), "OMP_NUM_THREADS": "1"}
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "wall": found["at"] - start, "imported": found["imported_at"] - start}
