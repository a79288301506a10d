"""Seconds to the first batch: from the disk, in the middle of an epoch, and from S3 into an empty cache; and a rank's memory.

Fresh processes, interleaved, imports excluded. What is resumed must be the batch of the uninterrupted epoch, to the bit.
From S3 the target is the bytes of the first batch's record batches over the bandwidth that obstore alone has beside it,
with as many threads, plus 0.7 s. The server is on this machine, and takes its share of the cores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.reading import Reading, summed_up
from benchmarks.stream import pictures, server
from datasets import order, pack, store
from trainers.rooms import ROOT

ROUNDS, PICTURES, BATCH = 5, 2000, 64
STEPS = PICTURES // BATCH
FIRST_SECONDS = 0.7


def run(rounds: int | None = None) -> list[Reading]:
    """A training stream over the photographs of `benchmarks.stream`; a new random step in each round."""
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as name:
        folder, drawn = Path(name), store.cache_folder() / "benchmarks" / str(PICTURES)
        local = str(folder / "set")
        drawn.mkdir(parents=True, exist_ok=True)
        pictures.draw(drawn, PICTURES, pictures.SMALL_PICTURES)
        pack.pack("imagefolder", {"path": f"{drawn}/photographs"}, local, splits={}, seed=0)
        with server.served([Path(local)]) as servers:
            found = _rounds(local, servers["s3"], folder / "cache", rounds or ROUNDS)
    resumed = [
        b["seconds"] - a["seconds"] for a, b in zip(found["first"], found["resumed"], strict=True)
    ]
    promised = [
        one["bytes"] / raw["bandwidth"] + FIRST_SECONDS
        for one, raw in zip(found["remote"], found["bandwidth"], strict=True)
    ]
    remote = [one["seconds"] for one in found["remote"]]
    late = [a - b for a, b in zip(remote, promised, strict=True)]
    bandwidth = [raw["bandwidth"] / 1e6 for raw in found["bandwidth"]]
    return [
        _summed("from the disk", [one["seconds"] for one in found["first"]], "s", "<= 0.7"),
        _summed("at a random step, more than that", resumed, "s", "<= 1"),
        _summed("from S3, empty cache", remote, "s"),
        _summed("the same, more than bytes / bandwidth + 0.7 s", late, "s", "<= 0"),
        _summed("bandwidth of obstore alone", bandwidth, "MB/s"),
        _summed("resident set after an epoch", [e["mb"] for e in found["epoch"]], "MB", "<= 1100"),
    ]


def _rounds(
    local: str, environment: dict[str, str], cache: Path, rounds: int
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    url = f"s3://{server.BUCKET}/{Path(local).name}"
    remote = {**environment, "MANTA_CACHE": str(cache)}
    for number in range(rounds):
        step = int(order.integers(order.key("resume", number), [0], 0, STEPS)[0])
        sides: list[tuple[str, list[str], dict[str, str]]] = [
            ("first", ["batch", local, "0"], {}),
            ("resumed", ["batch", local, str(step)], {}),
            ("epoch", ["epoch", local], {}),
            ("bandwidth", ["bandwidth", url], remote),
            ("remote", ["batch", url, "0"], remote),
        ]
        for side, arguments, more in sides if number % 2 == 0 else sides[::-1]:
            shutil.rmtree(cache, ignore_errors=True)
            found.setdefault(side, []).append(_read(arguments, more))
        whole = found["epoch"][-1]["hashes"]
        for side, at in (("first", 0), ("resumed", step), ("remote", 0)):
            if found[side][-1]["hash"] != whole[at]:
                raise RuntimeError(f"{side}: not the batch of the uninterrupted epoch's step {at}")
    return found


def _read(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.first_batch_reader", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended badly: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))


def _summed(what: str, values: list[float], unit: str, target: str = "") -> Reading:
    return summed_up("first_batch", what, values, unit=unit, target=target)
