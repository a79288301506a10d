"""What a process and all its descendants have used so far, from /proc: needs nothing that a peer might pin."""

from __future__ import annotations

import ctypes
import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def adopt_orphans() -> None:
    """From here on a descendant whose parent ends stays in this process's tree, or its CPU time would be lost."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tree(root: int) -> list[int]:
    """The process and its descendants."""
    children = defaultdict(list)
    for entry in os.listdir(_PROC):
        if entry.isdecimal() and (fields := _stat(int(entry))):
            children[int(fields[1])].append(int(entry))
    found = [root]
    for process in found:
        found += children[process]
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the tree, of ended and awaited descendants too."""
    ticks = (sum(map(int, fields[11:15])) for p in tree(root) if (fields := _stat(p)))
    return sum(ticks) / _TICKS


def memory_mb(root: int) -> tuple[float, float]:
    """(resident sets of the tree added up, the same with shared pages counted once) in MB."""
    totals = {"Rss": 0, "Pss": 0}
    for process in tree(root):
        with suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in totals:
                    totals[name] += int(rest.split()[0])
    return totals["Rss"] / 1000, totals["Pss"] / 1000


def _stat(process: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; [] where the process is gone."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
