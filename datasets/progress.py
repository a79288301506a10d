"""What a person sees of long work on data: a bar on a terminal, a line every tenth when piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def shown(what: str, unit: str = "pictures") -> Iterator[Callable[[int, int], None]]:
    """A function that is told how many are done, of how many. It writes to stderr."""
    start, tenth = time.perf_counter(), 0

    def line(done: int, total: int) -> None:
        nonlocal tenth
        if done * 10 // max(1, total) > tenth or done == total:
            tenth = done * 10 // max(1, total)
            rate = done / max(1e-9, time.perf_counter() - start)
            print(f"{what}: {done:,} of {total:,} {unit}, {rate:,.0f}/s", file=sys.stderr)

    if not sys.stderr.isatty():
        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        what,
        BarColumn(),
        MofNCompleteColumn(),
        unit,
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
