"""Readings as a table for people, and as Markdown rows for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.reading import Reading

COLUMNS = ("what", "median", "quartiles", "95 % of the median", "n", "target", "note")


def drawn(readings: Sequence[Reading]) -> Table:
    """For a terminal."""
    table = Table(*COLUMNS, title=readings[0].benchmark, title_justify="left")
    for reading in readings:
        table.add_row(*cells(reading))
    return table


def markdown(readings: Sequence[Reading]) -> str:
    """A header and a row a reading."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(cells, readings)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(reading: Reading) -> list[str]:
    """The cells of a reading, in the order of COLUMNS."""
    unit = "" if reading.unit in ("ratio", "") else f" {reading.unit}"
    return [
        reading.what,
        f"{_number(reading.value, reading.unit)}{unit}",
        _span(reading.quartiles, reading.unit),
        _span(reading.interval, reading.unit),
        str(reading.count),
        reading.target,
        reading.note,
    ]


def _span(span: tuple[float, float] | None, unit: str) -> str:
    return " .. ".join(_number(end, unit) for end in span) if span else ""


def _number(value: float, unit: str) -> str:
    digits = {"ratio": 3, "": 4, "s": 2}.get(unit, 0)
    return f"{value:,.{digits}f}"
