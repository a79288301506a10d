"""A thousand short trials in one search: memory, open files and the time a trial takes, early and late.

Trials of two steps of digits, one at a time. The driver's and the trial process's resident sets and open files are
looked at once a second; "early" is around the 200th trial, "late" the last ones.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
from pathlib import Path

import numpy as np

from benchmarks.reading import Reading
from search.tune import drive
from search.tune.reading import of_folder
from trainers.recipe import Recipe
from trainers.rooms import ROOT

TRIALS, EARLY = 1_000, (150, 250)
PAGE = os.sysconf("SC_PAGE_SIZE")


def run(rounds: int | None = None) -> list[Reading]:
    """One search; `rounds`, if given, are hundreds of trials."""
    count = 100 * rounds if rounds else TRIALS
    recipe = Recipe.load(str(ROOT / "recipes" / "digits.yaml")).override(
        {
            "model.width": 8,
            "phases.0.epochs": None,
            "phases.0.steps": 2,
            "scale.device": "cpu",
            "scale.threads": 1,
            "log.tensorboard": False,
        }
    )
    search = {"trials": count, "parallel": 1, "retrain": 0, "sampler": "random"}
    search["space"] = {"phases.0.optim.main.lr": "loguniform(1e-4, 1e-1)"}
    seen: list[tuple[int, int, int, int, int]] = []
    done = threading.Event()
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as out:
        watcher = threading.Thread(target=_watch, args=(Path(out), seen, done), daemon=True)
        watcher.start()
        folder = drive.search(recipe.override({"search": search}), out=out, quiet=True)
        done.set()
        watcher.join()
        ended = [trial.datetime_complete for trial in of_folder(folder).get_trials()]
    times = np.diff(sorted(each.timestamp() for each in ended if each))
    first = [one for one in seen if EARLY[0] <= one[0] <= EARLY[1]]
    last = [one for one in seen if one[0] >= count - (EARLY[1] - EARLY[0])]
    found = [
        _reading("seconds a trial, early", float(np.median(times[EARLY[0] : EARLY[1]])), "s"),
        _reading("seconds a trial, late", float(np.median(times[-(EARLY[1] - EARLY[0]) :])), "s"),
    ]
    names = (
        "driver, memory",
        "driver, open files",
        "trial process, memory",
        "trial process, open files",
    )
    for place, name in enumerate(names, start=1):
        unit = "MB" if "memory" in name else "files"
        for when, rows in (("early", first), ("late", last)):
            value = statistics.median(one[place] for one in rows)
            found.append(_reading(f"{name}, {when}", value, unit))
    return found


def _reading(what: str, value: float, unit: str) -> Reading:
    return Reading("search_growth", what, unit, value, 1)


def _watch(out: Path, seen: list[tuple[int, int, int, int, int]], done: threading.Event) -> None:
    while not done.wait(1.0):
        trials = len(list(out.glob("*/trials/*")))
        if worker := _trial_process():
            seen.append((trials, *_of(os.getpid()), *_of(worker)))


def _trial_process() -> int | None:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::Trainable"):
                return int(path.parent.name)
        except OSError:
            continue
    return None


def _of(process: int) -> tuple[int, int]:
    """(resident MB, open files); zeros of one that has just ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return round(pages * PAGE / 1e6), len(os.listdir(f"/proc/{process}/fd"))
    except OSError:
        return 0, 0
