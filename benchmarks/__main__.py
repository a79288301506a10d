"""Run benchmarks: `python -m benchmarks [NAME ...] [--rounds N] [--json | --markdown]`, from the checkout's root."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from typing import Any

NAMES = (
    *("step", "step_tasks", "ledger", "ddp", "first_step", "first_batch", "lock", "plan", "demo"),
    *("checkpoints", "recovery", "ddp_options"),
    *("search_cost", "search_quality", "search_growth", "study_cost", "explain"),
)
ON_CUDA = ("gpu_step", "gpu_feed")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(NAMES)} [all of these]; on a CUDA device {', '.join(ON_CUDA)}",
    )
    parser.add_argument("--rounds", type=int, help="repetitions, fewer for a quick look")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object on stdout")
    shape.add_argument("--markdown", action="store_true", help="Markdown on stdout")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - {*NAMES, *ON_CUDA})
    if unknown:
        parser.error(f"no benchmark is called '{unknown[0]}': {', '.join(NAMES + ON_CUDA)}")
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds must be 1 or more")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: dict[str, Any] = {}
    here = _here()
    if not given.json:
        print(_says(here))
    for name in dict.fromkeys(given.names or NAMES):
        sys.stderr.write(f"{name} ...\n")
        readings = importlib.import_module(f"benchmarks.{name}").run(given.rounds)
        found[name] = [reading.as_dict() for reading in readings]
        if not given.json:
            _show(readings, given.markdown)
    if given.json:
        print(json.dumps({"environment": here, "readings": found}, indent=1))


def _here() -> dict[str, Any]:
    """The machine, the versions, and how busy the machine is before anything is run."""
    from cluster.environment import environment

    return {**environment(), "cpu": _cpu(), "load": round(os.getloadavg()[0], 2)}


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                line.split(":")[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return ""


def _says(here: dict[str, Any]) -> str:
    commit = f"{here['commit'][:8] or 'no commit'}{' + changes' if here['dirty'] else ''}"
    busy = " (busy: figures are not for the record)" if here["load"] > 0.5 else ""
    return (
        f"{here['started'][:10]}, {commit}, Python {here['python']}, torch {here['torch']}, "
        f"{here['cpu_count']} x {here['cpu']}, load {here['load']}{busy}\n"
    )


def _show(readings: list[Any], as_markdown: bool) -> None:
    from rich.console import Console

    from benchmarks import tables

    if as_markdown:
        print(tables.markdown(readings), end="\n\n")
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(tables.drawn(readings))


if __name__ == "__main__":
    main()
