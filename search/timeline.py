"""What happened to a run, over the clock: when it worked, what ended that, where it went on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from search import numbers
from search.canvas import MUTED, PALETTE, Panel
from search.sheets import Cell, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEGINNINGS = {"started", "resumed"}
GOOD = {"finished", "stopped", "preempted", "resized"}  # after these nothing is done again
LATER = "interrupted"  # found at the next launch: nobody knows when it happened
WORDS = {
    "died": "a worker died",
    "crowded": "no room for the workers",
    "hung": "a worker hung",
    "preempted": "a node was taken away",
    "resized": "more workers",
    "too_large": "out of memory",
    "interrupted": "found interrupted",
    "damaged": "a damaged checkpoint",
}
# Of a label: its part of the panel's width and height, and the points between two above each other.
_WIDE, _TALL, _LINE = 0.22, 0.06, 9.0


@dataclass(frozen=True)
class Event:
    """Something that happened, `seconds` after the first of them."""

    name: str
    seconds: float
    step: int
    workers: int | None
    why: str
    moment: datetime


def events(summary: Mapping[str, Any]) -> list[Event]:
    """The events of a run's summary.json, as far as they can be read, in their order."""
    found: list[Event] = []
    for told in summary.get("events") or ():
        try:
            moment = datetime.fromisoformat(told["time"])
            name, step, workers = str(told["event"]), int(told["step"]), told.get("workers")
        except (TypeError, KeyError, ValueError):
            continue
        many = workers if isinstance(workers, int) else None
        if name in ("preempted", "resized") and found and found[-1].name == "stopped":
            found.pop()  # this is why it stopped
        since = (moment - found[0].moment).total_seconds() if found else 0.0
        found.append(Event(name, since, step, many, str(told.get("why") or ""), moment))
    return found


def panel(found: Sequence[Event]) -> Panel | None:
    """Steps over the clock, one line a group of workers; nothing for a run that simply went through."""
    if sum(event.name in BEGINNINGS for event in found) < 2:
        return None
    return Panel("Steps over the clock", lambda axes: _draw(axes, found))


def sheet(found: Sequence[Event]) -> Sheet | None:
    """All events, for who wants to know."""
    if sum(event.name in BEGINNINGS for event in found) < 2:
        return None
    rows = []
    for event in found:
        workers = Cell("–") if event.workers is None else Cell(str(event.workers), event.workers)
        rows.append(
            [
                Cell(f"{event.moment:%Y-%m-%d %H:%M:%S}"),
                Cell(WORDS.get(event.name, event.name)),
                Cell(numbers.count(event.step), event.step),
                workers,
                Cell(event.why),
            ]
        )
    return Sheet(["UTC", "What", "Step", "Workers", "Why"], rows)


def _draw(axes: Axes, found: Sequence[Event]) -> None:
    factor, unit = _unit(found[-1].seconds)
    begun: Event | None = None
    whole, highest = found[-1].seconds or 1.0, max(event.step for event in found) or 1
    labels: list[tuple[float, float]] = []  # where there are some, as parts of the whole
    for event in found:
        if event.name in BEGINNINGS:
            begun = event
            continue
        if event.name == "damaged":
            continue  # no end of anything: the sheet tells it
        if begun:
            across = [begun.seconds / factor, event.seconds / factor]
            line = ":" if event.name == LATER else "-"
            axes.plot(across, [begun.step, event.step], line, color=PALETTE[0])
            begun = None
        good = event.name in GOOD
        colour, marker = (PALETTE[2], "o") if good else (PALETTE[1], "X")
        axes.plot(event.seconds / factor, event.step, marker, color=colour, markersize=6)
        part, up = event.seconds / whole, event.step / highest
        while any(abs(part - x) < _WIDE and abs(up - y) < _TALL for x, y in labels):
            up += _TALL
        labels.append((part, up))
        raised = (up - event.step / highest) / _TALL * _LINE
        axes.annotate(
            WORDS.get(event.name, event.name),
            (event.seconds / factor, event.step),
            xytext=(-4, 5 + raised),
            textcoords="offset points",
            ha="right",
            color=MUTED,
            size=7.5,
        )
    axes.set_xlabel(unit)
    axes.set_ylabel("step")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.04, y=0.14)


def _unit(seconds: float) -> tuple[float, str]:
    for factor, name in ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")):
        if seconds > 2 * factor:
            return factor, name
    return 1.0, "seconds"
