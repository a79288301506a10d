"""report.html of a search: one page from its folder alone, readable without a network."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from datasets import store
from datasets.page import render
from search import canvas, numbers, sheets
from search.canvas import Panel
from search.report import Picture, coloured
from search.sheets import Cell, Sheet
from search.trials import doubt, found, panels, pictures, words
from search.trials.found import Found


def write(url: str) -> str:
    """Draw report.html into a search folder; its path or URL."""
    search = found.read(url)
    page = store.join(search.folder.url, "report.html")
    store.write_bytes(page, html(search).encode())
    return page


def html(search: Found) -> str:
    """The page of a search, finished or not."""
    filters: dict[str, Callable[..., Any]] = {"count": numbers.count, "yaml": coloured}
    return render(Path(__file__).parent.parent / "search.html.j2", context(search), filters)


def context(search: Found) -> dict[str, Any]:
    """Everything that the template says."""
    doubts, across = doubt.of(search), panels.parallel(search)
    mattered = pictures.of_what_mattered(search)
    return {
        "name": search.recipe.name,
        "folder": search.folder.name,
        "status": str(search.state.get("status", "unknown")),
        "verdict": words.sentences(search, doubts),
        "tiles": words.tiles(search, doubts),
        "notes": _notes(search),
        "went": _drawn(pictures.of_course(search)),
        "parallel": _picture(
            "Every finished trial a line; the best in orange, below the axis where a trial has no such setting",
            across,
        )
        if across
        else None,
        "mattered": _drawn(mattered),
        "several": search.goals[0].metric if len(search.goals) > 1 else "",
        "noise": bool(mattered) and doubts.alike > 0 and doubts.alike == doubts.compared,
        "few": not mattered and bool(len(search.table)),
        "slices": _drawn(panels.slices(search)),
        "trials": sheet(search),
        "best": _text(search, "best.yaml"),
        "recipe": _text(search, "search.yaml"),
        "commands": _commands(search),
    }


def sheet(search: Found) -> Sheet:
    """A row a trial, the best first; of those that did not end, by their number."""
    done, table = search.complete, search.table.astype(object)  # Python's own numbers
    order = [*done.index, *(number for number in table.index if number not in done.index)]
    paths = [dimension.path for dimension in search.space.dimensions]
    shown = order[: sheets.MOST_ROWS]
    again_of = table["same_as"].dropna().astype(int).to_dict()
    rows = []
    for number in shown:
        line = table.loc[number]
        again = again_of.get(number)
        state = line["state"] if again is None else f"as {again:04d}"
        cells = [Cell(f"{number:04d}", float(number)), Cell(str(state))]
        cells += [_score(goal.metric, line[goal.metric]) for goal in search.goals]
        cells += [_score(search.goals[0].metric, line["reached"])]
        cells += [_value(line[path]) for path in paths]
        cells += [_seconds(line["seconds"]), Cell(str(line["why"] or ""))]
        rows.append(cells)
    headings = ["Trial", "State", *(goal.metric for goal in search.goals), "Best so far"]
    headings += [search.labels[path] for path in paths]
    return Sheet([*headings, "Seconds", "Why"], rows, len(order) - len(shown))


def _score(metric: str, value: float) -> Cell:
    return Cell(numbers.score(metric, float(value)), float(value)) if value == value else Cell("–")


def _seconds(value: float) -> Cell:
    return Cell(numbers.number(round(value, 1)), value) if value == value else Cell("–")


def _value(value: Any) -> Cell:
    number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return Cell(words.setting(value), float(value) if number else None)


def _drawn(drawn: Sequence[Panel]) -> list[Picture]:
    return [_picture(panel.title, canvas.single(panel)) for panel in drawn]


def _picture(caption: str, figure: Any) -> Picture:
    return Picture(caption, Markup(canvas.svg(figure)), inline=True)


def _notes(search: Found) -> list[str]:
    notes = [str(note) for note in search.state.get("notes", ())]
    if error := search.state.get("error"):
        notes.insert(0, f"It ended with: {error}")
    if len(search.complete):  # such as batch norm that was not synchronised over workers
        best = search.run(int(search.complete.index[0]))
        notes += [f"Of the best trial's run: {note}" for note in best.summary.get("notes", ())]
    return notes + words.failures(search)


def _text(search: Found, name: str) -> str:
    url = store.join(search.folder.url, name)
    return store.read_bytes(url).decode(errors="replace") if store.exists(url) else ""


def _commands(search: Found) -> list[tuple[str, str]]:
    """(what it is for, lines to paste)."""
    url, quoted = search.folder.url, shlex.quote(search.folder.url)
    more = f"search.trials={len(search.table) + 20}"
    words = f"--join {quoted}" if search.state.get("joined") else f"{quoted} {more}"
    return [
        ("Go on with more trials", f"python launch.py search {words}"),
        ("The winner as a recipe", f"python launch.py results {quoted} --best winner.yaml"),
        ("All trials as a table", f"python launch.py results {quoted} --save trials.csv"),
        (
            "In a notebook",
            f"from search.trials import found\n\nsearch = found.read({url!r})\nsearch.table",
        ),
    ]
