"""What a person sees of long work on data: a bar on a terminal, a line every tenth when piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias

Progress: TypeAlias = Callable[[int, int], None]  # how many are done, of how many


class Shown(Protocol):
    """Where progress is shown: what is done, and what is counted."""

    def __call__(self, what: str, unit: str = ...) -> AbstractContextManager[Progress]: ...


@contextmanager
def shown(what: str, unit: str = "pictures") -> Iterator[Progress]:
    """Writes to stderr what it is told, and nothing until then."""
    if not sys.stderr.isatty():
        yield _lines(what, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = what, BarColumn(), MofNCompleteColumn(), unit, TimeRemainingColumn()
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(what, total=None)

    def update(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        bar.stop()


@contextmanager
def silent(what: str, unit: str = "") -> Iterator[Progress]:
    """For who looks elsewhere."""
    yield lambda done, total: None


def _lines(what: str, unit: str) -> Progress:
    start, tenth = time.perf_counter(), 0

    def line(done: int, total: int) -> None:
        nonlocal tenth
        if done * 10 // max(1, total) > tenth or done == total:
            tenth = done * 10 // max(1, total)
            rate = done / max(1e-9, time.perf_counter() - start)
            print(f"{what}: {done:,} of {total:,} {unit}, {rate:,.0f}/s", file=sys.stderr)

    return line
