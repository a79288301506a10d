"""Interleaved blocks of two sides, timed by the wall and by the CPU time of this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Advance = Callable[[], object]


@dataclass
class Times:
    """Seconds a step of each block of one side."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def interleaved(
    ours: Advance,
    theirs: Advance,
    *,
    steps: int,
    rounds: int,
    fence: Callable[[], object] = lambda: None,
) -> tuple[Times, Times]:
    """`rounds` pairs of blocks of `steps` calls; who goes first alternates, so that drift falls on both.

    `fence` runs at both ends of a block, within its time: ranks that wait for each other end together.
    """
    times = Times(), Times()
    sides = [(ours, times[0]), (theirs, times[1])]
    for _ in range(rounds):
        for advance, taken in sides:
            _block(advance, taken, steps, fence)
        sides.reverse()
    return times


def _block(advance: Advance, taken: Times, steps: int, fence: Callable[[], object]) -> None:
    fence()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        advance()
    fence()
    taken.wall.append((time.perf_counter() - wall) / steps)
    taken.cpu.append((time.process_time() - cpu) / steps)


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Of paired blocks."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]
