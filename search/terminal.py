"""Tables for a terminal: numbers as people read them, never wider than the line; what that leaves out is named."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search import numbers

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

# What goes when the line is too short, first to last; the minor scores go after EARLY.
EARLY = ("name", "images_per_second", "workers", "seed", "steps", "batch")
LATE = ("task", "started", "seconds")
MAJOR = 2  # scores that outlive the columns of LATE
ENDLESS = 10_000  # columns of a line that nobody's window cuts
HEADINGS = {"images_per_second": "images/s"}


def line() -> int:
    """Columns of a line on stdout: the terminal's, or what COLUMNS says; of a pipe or a file as many as it takes."""
    said = os.environ.get("COLUMNS", "")
    if not sys.stdout.isatty() and not (said.isdecimal() and int(said)):
        return ENDLESS
    return shutil.get_terminal_size((100, 24)).columns


def left_out(names: Sequence[str], needed: int) -> str:
    """What a table of a short line says beneath it; `needed` columns hold it whole."""
    many = "them" if len(names) > 1 else "it"
    return (
        f"left out for want of width: {', '.join(names)}; "
        f"COLUMNS={needed}, or a pipe (| less -S), shows {many}"
    )


def table(
    frame: pd.DataFrame,
    title: str = "",
    *,
    width: int = 80,
    keep: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> Table:
    """A frame as a rich table; headings are broken and then columns left out where it does not fit, and the caption says so.

    `keep` are columns that stay whatever the width, such as the one sorted by; `spare` go before all others.
    """
    from rich.table import Table
    from rich.text import Text

    shown = frame.reset_index() if frame.index.name not in (None, "url") else frame
    # Down a comparison's scores the metric changes from row to row, elsewhere it is the column.
    metrics = list(shown["metric"]) if frame.index.name == "metric" else None
    null = "null" if frame.index.name == "path" else "–"  # a recipe's null is a value
    columns = {
        str(name): [
            cell(metric, value, null)
            for metric, value in zip(metrics or [str(name)] * len(shown), shown[name], strict=True)
        ]
        for name in shown.columns
    }
    empty = [name for name, cells in columns.items() if not any(c not in ("", "–") for c in cells)]
    kept = {name: cells for name, cells in columns.items() if name not in empty}
    headings = _headings(kept, width)
    needed = _width(kept, headings)
    dropped = _fit(kept, headings, width, keep, spare)
    _mend(headings, kept, width, keep)
    caption = left_out(dropped, needed) if dropped else None
    # Text, not str: brackets in names are names, not markup.
    drawn = Table(
        title=Text(title) if title else None,
        caption=Text(caption) if caption else None,
        box=None,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        header_style="bold",
        pad_edge=False,
    )
    for name in kept:
        right = shown[name].map(_is_number).all() and name not in ("seed",)
        drawn.add_column(
            Text(headings[name]),
            justify="right" if right else "left",
            overflow="fold",
        )
    for line in zip(*kept.values(), strict=True):
        drawn.add_row(*(Text(text) for text in line))
    return drawn


def cell(column: str, value: Any, null: str = "–") -> str:
    """One value as text; – where there is none."""
    import pandas as pd

    if value is None:
        return null
    if value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, pd.Timestamp):
        return f"{value:%d %b %H:%M}"
    if not _is_number(value):
        return str(value)
    plain = value.item() if hasattr(value, "item") else value
    if column == "seed":
        return str(int(plain))
    if column == "seconds":
        return numbers.seconds(plain)
    if column == "images_per_second":
        return numbers.count(plain)
    return numbers.score(column, plain)


def _is_number(value: Any) -> bool:
    import numbers as abstract

    return isinstance(value, abstract.Number) and not isinstance(value, bool)


def _headings(columns: dict[str, list[str]], width: int) -> dict[str, str]:
    """Column -> heading; those that are wider than their cells on several lines, where the line is too short."""
    headings = {name: HEADINGS.get(name, name) for name in columns}
    for sign in ("/", "_"):
        if _width(columns, headings) <= width:
            break
        for name, cells in columns.items():
            if len(headings[name]) > max(map(len, cells), default=0):
                headings[name] = headings[name].replace(sign, f"{sign}\n")
    return headings


def _mend(
    headings: dict[str, str], columns: dict[str, list[str]], width: int, keep: Sequence[str]
) -> None:
    """Put headings on one line again where there is room, those that matter most first."""
    scores = sorted((name for name in columns if "/" in name), key=_importance)
    for name in dict.fromkeys([*keep, *scores, *columns]):
        if name in columns:
            broken, headings[name] = headings[name], HEADINGS.get(name, name)
            if _width(columns, headings) > width:
                headings[name] = broken


def _fit(
    columns: dict[str, list[str]],
    headings: dict[str, str],
    width: int,
    keep: Sequence[str],
    spare: Sequence[str],
) -> list[str]:
    """Remove the least columns until the rest fits; their names."""
    scores = sorted((name for name in columns if "/" in name), key=_importance)
    order = [*spare, *EARLY, *scores[: MAJOR - 1 : -1], *LATE, *scores[MAJOR - 1 : 0 : -1]]
    dropped = []
    for name in order:
        if _width(columns, headings) <= width:
            break
        if name in columns and name not in keep:
            del columns[name]
            dropped.append(name)
    return dropped


def _importance(score: str) -> tuple[bool, bool, bool, str]:
    """Headline metrics of the test split first, then of validation, then all others."""
    split, _, metric = score.partition("/")
    return metric not in ("accuracy", "rmse"), split != "test", split != "val", metric


def _width(columns: dict[str, list[str]], headings: dict[str, str]) -> int:
    return (
        sum(
            2 + max(len(text) for texts in (headings[name].split("\n"), cells) for text in texts)
            for name, cells in columns.items()
        )
        - 2
    )
