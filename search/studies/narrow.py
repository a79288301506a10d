"""A study's table on a short line: cells on two lines before any column goes, and what goes is named beneath."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from search import terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

GAP = 2  # between columns
WORDS = 12  # to which what has many words may shrink
SPARE = ("time", "runs")  # what goes first where nothing else helps
Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Column:
    """What stands beneath each other, cells of one or more lines; `names` are the headings of all that it holds."""

    names: tuple[str, ...]
    cells: tuple[str, ...]

    def heading(self, whole: bool) -> str:
        """Of one line, or of as many as make it no wider than the cells."""
        if whole:
            return ", ".join(self.names)
        texts = [f"{name}," for name in self.names[:-1]] + [self.names[-1]]
        least = max([_widest(self.cells), *(len(word) for text in texts for word in text.split())])
        return "\n".join(textwrap.fill(text, least, break_on_hyphens=False) for text in texts)

    def width(self, whole: bool) -> int:
        return _widest((self.heading(whole), *self.cells))


def drawn(headings: Sequence[str], rows: Rows, width: int | None = None) -> list[RenderableType]:
    """The table and, where a column had to go, a line that names it."""
    width = width or terminal.line()
    cells = [*zip(*rows, strict=True)] if rows else [()] * len(headings)
    columns = [Column((name,), tuple(own)) for name, own in zip(headings, cells, strict=True)]
    if _needed(columns, whole=True) <= width:
        return [_table(columns, width, whole=True)]
    if "source" in headings:  # claims are sentences, which wrap to what is left
        return [_table(columns, width)]
    for shrink in (_parted, _stacked, _costs, _verdicts, _listed):
        if _needed(columns) > width:
            columns = shrink(columns)
    needed = _needed(columns)
    left: list[str] = []
    for name in SPARE:
        at = next((each for each in columns if each.names[0] == name), None)
        # What the rows do not say alike is what a reader has to know.
        if at and _needed(columns) > width and not (name == "runs" and {*at.cells} != {"all"}):
            columns = [each for each in columns if each is not at]
            left += at.names
    return [_table(columns, width), *([terminal.left_out(left, needed)] if left else [])]


def blocks(headings: Sequence[str], rows: Rows, width: int | None = None) -> list[RenderableType]:
    """A table of many like columns, as several beneath each other that all begin with the first column."""
    width = width or terminal.line()
    cells = [*zip(*rows, strict=True)] if rows else [()] * len(headings)
    first, *others = [Column((name,), own) for name, own in zip(headings, cells, strict=True)]
    shown: list[list[Column]] = [[first]]
    for column in others:
        if len(shown[-1]) > 1 and _needed([*shown[-1], column], whole=True) > width:
            shown.append([first])
        shown[-1].append(column)
    made: list[RenderableType] = []
    for block in shown:
        made += [*([""] if made else []), _table(block, width, whole=True)]
    return made


def _parted(columns: list[Column]) -> list[Column]:
    """What stands in brackets on a line of its own, `3 collapsed` over `(seeds 0, 1, 2)`."""
    first, *others = columns
    return [first, *(_changed(each, " (", "\n(") for each in others)]


def _stacked(columns: list[Column]) -> list[Column]:
    """The interval beneath the mean."""
    return _beneath(columns, "95 % interval", ", mean ± sd")


def _costs(columns: list[Column]) -> list[Column]:
    return _beneath(columns, "images", "time")


def _verdicts(columns: list[Column]) -> list[Column]:
    """Verdict and p in one column: `tie,` over `= best` over `p .87`."""
    columns = [
        _changed(each, ", ", ",\n") if each.names[0] == "verdict" else each for each in columns
    ]
    columns = [
        replace(each, cells=tuple(f"p {cell}" if cell else "" for cell in each.cells))
        if each.names == ("p",)
        else each
        for each in columns
    ]
    return _beneath(columns, "p", "verdict")


def _listed(columns: list[Column]) -> list[Column]:
    """The levels of an arm beneath each other, and the runs that do not count wrapped."""

    def wrapped(cell: str) -> str:
        lines = (textwrap.wrap(line, WORDS, break_long_words=False) for line in cell.split("\n"))
        return "\n".join(line for each in lines for line in each)

    first, *others = columns
    return [
        _changed(first, ", ", ",\n"),
        *(
            replace(each, cells=tuple(map(wrapped, each.cells)))
            if each.names[0] == "runs"
            else each
            for each in others
        ),
    ]


def _changed(column: Column, old: str, new: str) -> Column:
    return replace(column, cells=tuple(cell.replace(old, new) for cell in column.cells))


def _beneath(columns: list[Column], name: str, over: str) -> list[Column]:
    """The column `name` beneath the one whose heading ends in `over`, where there are both."""
    lower = next((each for each in columns if each.names == (name,)), None)
    upper = next((each for each in columns if each.names[0].endswith(over)), None)
    if lower is None or upper is None:
        return columns
    pairs = zip(upper.cells, lower.cells, strict=True)
    cells = tuple("\n".join(dict.fromkeys(filter(None, pair))) for pair in pairs)  # one – is enough
    both = Column((*upper.names, *lower.names), cells)
    return [both if each is upper else each for each in columns if each is not lower]


def _needed(columns: Sequence[Column], *, whole: bool = False) -> int:
    return sum(GAP + each.width(whole) for each in columns) - GAP


def _widest(texts: Sequence[str]) -> int:
    return max((len(line) for text in texts for line in text.split("\n")), default=0)


def _table(columns: Sequence[Column], width: int, *, whole: bool = False) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    fits = _needed(columns, whole=whole) <= width
    made = Table(box=None, header_style="bold", pad_edge=False)
    for n, column in enumerate(columns):
        made.add_column(
            Text(column.heading(whole)),
            justify="right" if column.names in (("n",), ("p",)) else "left",
            # Rich cuts what may not wrap, so a name that would take the line may.
            no_wrap=fits or (n == 0 and 4 * column.width(whole) <= width),
            overflow="fold",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        made.add_row(*map(Text, row))
    return made
