"""What a study says on stderr while it runs: on a terminal a table that fills, elsewhere a line for each run that ends."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from search import numbers
from search.studies.folder import Entry

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

MOST_ROWS, MOST_SEEDS = 30, 12  # of a table that a terminal can hold
Key = tuple[str, int]


class Teller:
    """From `with` to its end it owns the terminal's last lines."""

    def __init__(self, metric: str, quiet: bool, console: Console | None = None) -> None:
        self.metric, self.quiet = metric, quiet
        self.scores: dict[Key, float] = {}
        self._console = console
        self._live: Live | None = None

    def __enter__(self) -> Teller:
        if not self.quiet and (self._console or sys.stderr.isatty()):
            from rich.console import Console
            from rich.live import Live

            console = self._console or Console(stderr=True)
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def line(self, text: str) -> None:
        if self._live:
            self._live.console.print(text, highlight=False, markup=False)
        elif not self.quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def show(self, entries: Mapping[Key, Entry]) -> None:
        """The table as it is now; nothing where it would not fit, or nobody looks."""
        arms, seeds = {arm for arm, _ in entries}, {seed for _, seed in entries}
        if self._live and len(arms) <= MOST_ROWS and len(seeds) <= MOST_SEEDS:
            self._live.update(self._table(entries), refresh=True)

    def _table(self, entries: Mapping[Key, Entry]) -> Table:
        from rich.table import Table
        from rich.text import Text

        arms = list(dict.fromkeys(arm for arm, _ in entries))
        seeds = sorted({seed for _, seed in entries})
        made = Table(box=None, header_style="bold", pad_edge=False)
        made.add_column(self.metric, no_wrap=True)
        for seed in seeds:
            made.add_column(f"seed {seed}", justify="right")
        for arm in arms:
            cells = [self._cell(entries.get((arm, seed))) for seed in seeds]
            made.add_row(Text(arm), *map(Text, cells))
        return made

    def _cell(self, entry: Entry | None) -> str:
        if entry is None or entry.status == "missing":
            return "·"
        score = self.scores.get((entry.arm, entry.seed))
        if entry.status == "finished" and score is not None:
            return numbers.score(self.metric, score)
        return entry.status
