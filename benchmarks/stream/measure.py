"""What each loader's process runs: time to its first batch, then a window in the middle of its epoch.

The window begins and ends while the loader reads ahead as deeply as it does, so that what it has prepared before the
first mark weighs against what it has prepared, unseen, at the last.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.stream import processes

EDGE = 6  # batches at either end that the window leaves out: more than any loader here reads ahead


@dataclass(frozen=True)
class Given:
    """What a loader is told. `folder` has `photographs/CLASS/ID.jpg` and `small/CLASS/ID.png`; `own` is the loader's."""

    folder: str
    own: str
    pictures: int
    variant: str = ""
    batch: int = 64
    size: int = 224
    workers: int = 2
    epochs: int = 1
    seed: int = 0
    url: str = ""  # where its data lie, if not in `own`

    @property
    def cache(self) -> str:
        """Where remote data may be kept; empty at the start."""
        return f"{self.folder}/cache"

    @property
    def photographs(self) -> list[Path]:
        return sorted(Path(self.folder, "photographs").glob("*/*.jpg"))


Prepare = Callable[[Given], object]
Batches = Callable[[Given], Iterator[Any]]


def label(picture: Path) -> int:
    """Of a picture in `photographs/CLASS/`."""
    return int(picture.parent.name)


def main(batches: Batches, prepare: Prepare | None = None, *, packages: tuple[str, ...]) -> None:
    """The loader's script: `prepare` or `read`, and a JSON object of `Given`. Prints one line of JSON."""
    processes.adopt_orphans()
    given = Given(**json.loads(sys.argv[2]))
    if sys.argv[1] == "prepare":
        assert prepare is not None
        found = _prepared(prepare, given)
    else:
        found = _read(batches, given)
    found["versions"] = {name: version(name) for name in packages}
    print(f"\n{json.dumps(found)}", flush=True)
    os._exit(0)  # some never end their threads; what they would do at exit is not measured


def _prepared(prepare: Prepare, given: Given) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), _cpu()
    prepare(given)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": _cpu() - cpu}


def _read(batches: Batches, given: Given) -> dict[str, Any]:
    total = given.epochs * (given.pictures // given.batch)
    edge = min(EDGE, total // 4)
    begins, ends = edge, total - edge
    images, looks, marks = 0, {}, {"start": (time.perf_counter(), _cpu(), 0)}
    for number, batch in enumerate(batches(given), start=1):
        images += batch if isinstance(batch, int) else len(batch)
        if number in (1, begins, ends):
            marks[{1: "first", begins: "begin", ends: "end"}[number]] = (
                time.perf_counter(),
                _cpu(),
                images,
            )
        if number == 1 and not isinstance(batch, int):
            looks = _look(batch)
    if "end" not in marks:
        raise RuntimeError(f"ended after {images} of {given.epochs * given.pictures} pictures")
    marks["last"] = (time.perf_counter(), _cpu(), images)
    window = [b - a for a, b in zip(marks["begin"], marks["end"], strict=True)]
    whole = [b - a for a, b in zip(marks["start"], marks["last"], strict=True)]
    return {
        "first_batch_s": marks["first"][0] - marks["start"][0],
        "images": window[2],
        "wall_s": window[0],
        "cpu_s": window[1],
        "epoch": {"images": whole[2], "wall_s": whole[0], "cpu_s": whole[1]},
        "peak_rss_of_one_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "looks": looks,
        "given": asdict(given),
    }


def _look(batch: Any) -> dict[str, Any]:
    """Shape, type and mean of a batch: a loader that does other work than asked for shows itself here."""
    import numpy as np

    pixels = np.asarray(batch)
    return {
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "mean": float(pixels.mean()),
        "std": float(pixels.std()),
    }


def _cpu() -> float:
    return processes.cpu_seconds(os.getpid())
