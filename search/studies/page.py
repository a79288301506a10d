"""report.html of a study: one page from its folder and its runs alone, readable without a network."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from datasets import store
from datasets.page import Tile, render
from search import facts, numbers
from search.report import Picture, coloured
from search.sheets import WORST, Cell, Sheet, named, titled
from search.studies import checked, firsts, looking, words, writing
from search.studies import table as tables
from search.studies.amounts import points, span
from search.studies.folder import STUDY, Folder
from search.studies.levels import short_name
from search.studies.rows import Table

if TYPE_CHECKING:
    from search.studies.curves import Curve

MOST_BESIDE = 12  # arms of which each is shown beside each
MOST_LETTERS = 30  # of an arm's name in one line of a table
SURE = ("better", "worse")
TALL = 4.5  # inches


def write(folder: Folder) -> str:
    """Draw report.html into a study's folder; its path or URL."""
    return refreshed(tables.read(looking.seen(folder)), anew=True)


def refreshed(table: Table, *, anew: bool = False) -> str:
    """The report, drawn where it is not of this very table already; its path or URL."""
    page = store.join(table.folder.url, "report.html")
    told = {**writing.tree(table), "seconds": None}  # which every look adds to
    shown = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]
    if anew or table.state.get("shown") != shown or not store.exists(page):
        store.write_bytes(page, html(table).encode())
        table.folder.amend(shown=shown)
    return page


def html(table: Table) -> str:
    """The page of a study, finished or not."""
    filters: dict[str, Callable[..., Any]] = {"count": numbers.count, "yaml": coloured}
    return render(Path(__file__).parent.parent / "study.html.j2", context(table), filters)


def context(table: Table) -> dict[str, Any]:
    """Everything that the template says."""
    return {
        "name": table.study.name,
        "scale": table.study.scale or "",
        "question": table.study.question,
        "status": str(table.state.get("status", "unknown")),
        "verdict": words.sentences(table),
        "tiles": _tiles(table),
        "warnings": table.warnings,
        "widest": min(MOST_LETTERS, max((len(row.arm) for row in table.rows), default=0)),
        "means": _means(table),
        "margin": _margin(table),
        "paired": table.study.paired,
        "within": ""
        if table.study.compare in ("baseline", "all")
        else short_name(table.study.compare),
        "pictures": _pictures(table),
        "matrix": _matrix(table),
        "points": numbers.is_fraction(table.study.metric),
        "compared": _compared(table),
        "claims": _claims(table) if table.claims else None,
        "checked": checked.verdicts(table),
        "cells": _cells(table),
        "machine": _machine(table),
        "commands": _commands(table),
        "recipe": store.read_bytes(store.join(table.folder.url, STUDY)).decode(errors="replace"),
    }


def _tiles(table: Table) -> list[Tile]:
    listed = []
    if best := table.best:
        score = words.mean(table, best).partition(" (")[0]
        others = sum(bool(row.mean) for row in table.rows) - 1
        who = f"Best: {best.arm}" if others else f"Only {best.arm} has a score"
        listed.append(Tile(who, score, named(table.study.metric), "main"))
        many = f"of {numbers.count(others)} other arm{'s' if others != 1 else ''} with a score"
        if table.untested:
            many += f", {numbers.count(len(table.untested))} untested"
        if others:
            listed.append(Tile("Ties with the best", numbers.count(len(table.ties)), many))
    results = [each for row in table.rows for each in row.results]
    left = sum(not each.counts for each in results)
    counting = f"{left} do{'es' if left == 1 else ''} not count" if left else "all count"
    first = firsts.of(table.folder, table.state)
    if first:
        counting += f"; {numbers.count(len(first))} more before them"
    listed.append(Tile("Runs", numbers.count(len(results)), counting))
    spent = sum(row.seconds for row in table.rows) + sum(each.seconds for each in first)
    samples = sum(row.samples for row in table.rows) + sum(each.samples for each in first)
    seen = f"{numbers.short(samples)} images" if samples else ""
    listed.append(Tile("Training", numbers.seconds(spent), seen))
    return listed


def _means(table: Table) -> Sheet:
    """A row an arm, whose numbers line up and sort as such."""
    metric = table.study.metric
    headings, rows = writing.lines(table)
    said = [titled(heading.replace(metric, named(metric))) for heading in headings]
    if numbers.is_fraction(metric):  # said once, above the column
        said[4] += ", points"
        rows = [[text.replace(" points", "") for text in line] for line in rows]
    lines = []
    for row, texts in zip(table.rows, rows, strict=True):
        mean, versus = row.mean, table.versus(row.arm)
        orders = {
            1: float(mean.n if mean else 0),
            2: mean.mean if mean else None,
            3: mean.low if mean else None,
            4: _known(versus.gap.mean) if versus else None,
            5: _known(versus.adjusted) if versus else None,
            8: row.seconds,
            9: float(row.samples),
        }
        lines.append([Cell(text, orders.get(place)) for place, text in enumerate(texts)])
    return Sheet(said, lines)


def _known(value: float) -> float | None:
    return value if value == value else None


def _claims(table: Table) -> Sheet:
    headings, rows = writing.claimed(table)
    lines = []
    for each, (who, printed, ours, verdict, source) in zip(table.claims, rows, strict=True):
        both = [Cell(printed, each.claim.value), Cell(ours)]
        lines.append([Cell(who), *both, Cell(verdict), Cell(source)])
    return Sheet([titled(heading) for heading in headings], lines)


def _pictures(table: Table) -> list[Picture]:
    from search import canvas
    from search.studies import curves, figures

    score, factor = titled(named(table.study.metric)), short_name(figures.numeric(table) or "")
    drawn = curves.read(table)
    shown = [
        (_of_dots(table, figures.MOST_ARMS), figures.dots(table)),
        (f"{score} against {factor}, with 95 % intervals{_lost(table)}", figures.against(table)),
        *zip(_of_curves(table, drawn), map(figures.curve, drawn), strict=True),
    ]
    return [
        # What is taller than two others stands beside both.
        Picture(caption, Markup(canvas.svg(figure)), True, figure.get_figheight() > TALL)
        for caption, figure in shown
        if figure is not None
    ]


def _of_dots(table: Table, most: int) -> str:
    results = [each for row in table.rows for each in row.results]
    said = "Every run a dot, an arm's mean a stroke"
    if any(row.mean and row.mean.low is not None for row in table.rows):
        said += ", its 95 % interval over seeds a bar"
    if any(each.score is not None and not each.counts for each in results):
        said += "; crosses do not count"
    if table.study.best_possible is not None:
        said += "; dashed: the declared ceiling"
    many = len(table.rows)
    return f"{said} (the first {most} of {many} arms)" if many > most else said


def _of_curves(table: Table, drawn: Sequence[Curve]) -> list[str]:
    """What stands over each; what the lines are is said once."""
    said = [each.title for each in drawn]
    if said:
        arms = [row for row, _ in drawn[0].arms]
        said[0] += ": mean over seeds"
        if any(len(row.results) > 1 for row in arms):
            said[0] += ", in a band from the least to the most"
        if not all(row.mean for row in arms):
            said[0] += "; dotted: no run counts"
        if len(arms) < len(table.rows):
            said[0] += f" (the {len(arms)} best arms)"
    return said


def _lost(table: Table) -> str:
    none = any(row.results and not row.mean for row in table.rows)
    return "; a cross on the axis: no run counts" if none else ""


def _margin(table: Table) -> str:
    """The difference that is of no interest, "" where there is none."""
    if not table.study.margin:
        return ""
    unit = " points" if numbers.is_fraction(table.study.metric) else ""
    return f"{words.plain_points(table.study.metric, table.study.margin)}{unit}"


def _matrix(table: Table) -> Sheet | None:
    """Every arm against every other one, the best first; None where not all are compared or there are many."""
    if table.study.compare != "all" or not 2 < len(table.rows) <= MOST_BESIDE:
        return None
    sign = -1 if table.study.upwards else 1
    ranked = sorted(table.rows, key=lambda row: sign * row.mean.mean if row.mean else float("inf"))
    gaps = {}
    for each in table.compared:
        gaps[each.arm, each.other] = each, each.gap.mean
        gaps[each.other, each.arm] = each, -each.gap.mean
    widest = max((abs(gap) for each, gap in gaps.values() if each.verdict in SURE), default=0.0)
    rows = []
    for place, row in enumerate(ranked, start=1):
        line = [Cell(f"{place} · {row.arm}", float(place))]
        for other in ranked:
            if row is other:
                line.append(Cell(""))
                continue
            each, gap = gaps[row.arm, other.arm]
            if each.verdict not in SURE:
                line.append(Cell("tie" if each.verdict == "tie" else "–", _known(gap)))
                continue
            worse = (gap < 0) == table.study.upwards
            heat = round(WORST * abs(gap) / widest, 3) if worse else 0.0
            text = points(table.study.metric, gap).removesuffix(" points")
            line.append(Cell(text, gap, heat))
        rows.append(line)
    return Sheet(["Arm", *(str(place) for place in range(1, len(ranked) + 1))], rows)


def _beside_all(table: Table) -> str:
    """The arm that all others are held against, where it is one and its name is short enough for a heading."""
    others = {each.other for each in table.compared}
    (name,) = others if len(others) == 1 else ("",)
    return name if len(name) <= MOST_LETTERS else ""


def _compared(table: Table) -> Sheet | None:
    """Every comparison with all that is known of it."""
    if not any(each.gap.n for each in table.compared):
        return None
    metric = table.study.metric
    headings = ["Arm", "Beside", "Seeds", "Difference", "Verdict", "Over seeds"]
    headings += ["Over seeds and rows", "p", "p, Holm", "Test", "Detectable"]
    rows = []
    for each in table.compared:
        gap = each.gap
        over = both = found = "–"
        if gap.low is not None and gap.high is not None:
            over = span(metric, gap.low, gap.high, "")
        if gap.rows_low is not None and gap.rows_high is not None:
            both = span(metric, gap.rows_low, gap.rows_high, "")
        if each.detectable is not None:
            found = words.plain_points(metric, each.detectable)
        rows.append(
            [
                Cell(each.arm),
                Cell(each.other),
                Cell(str(gap.n), float(gap.n)),
                Cell(points(metric, gap.mean).removesuffix(" points"), _known(gap.mean)),
                Cell(each.verdict),
                Cell(over, gap.low),
                Cell(both, gap.rows_low),
                Cell(words.p_value(gap.p), _known(gap.p)),
                Cell(words.p_value(each.adjusted), _known(each.adjusted)),
                Cell(": ".join(filter(None, (gap.test, each.rows)))),
                Cell(found, each.detectable),
            ]
        )
    told = [n for n in range(len(headings)) if any(row[n].text not in ("", "–") for row in rows)]
    if beside := _beside_all(table):
        told.remove(1)
        headings[3] = f"Difference to {beside}"
    if numbers.is_fraction(metric):  # said once, above the column
        headings[3] += ", points"
    return Sheet([headings[n] for n in told], [[row[n] for n in told] for row in rows])


def _cells(table: Table) -> Sheet:
    """Where every number comes from."""
    metric = table.study.metric
    headings = ["Arm", "Seed", "State", titled(named(metric)), "Seconds", "Run", "Commit", "Data"]
    rows = []
    for row in table.rows:
        for each in row.results:
            rows.append(
                [
                    Cell(row.arm),
                    Cell(str(each.entry.seed), float(each.entry.seed)),
                    Cell(each.state),
                    Cell(numbers.score(metric, each.score), each.score),
                    Cell(numbers.number(round(each.seconds, 1)), each.seconds),
                    Cell(each.entry.run),
                    Cell(each.commit[:8]),
                    Cell(each.entry.digest[:8]),
                    Cell(each.why),
                ]
            )
    for first in firsts.of(table.folder, table.state):
        seed = Cell("–") if first.seed is None else Cell(str(first.seed), float(first.seed))
        seconds = Cell(numbers.number(round(first.seconds, 1)), first.seconds)
        who = [Cell(f"before: {first.name}"), seed, Cell(first.state), Cell("–"), seconds]
        rows.append(
            [*who, Cell(first.run), Cell(first.commit[:8]), Cell(first.digest[:8]), Cell("")]
        )
    if any(row[-1].text for row in rows):
        return Sheet([*headings, "Why"], rows)
    return Sheet(headings, [row[:-1] for row in rows])


def _machine(table: Table) -> list[tuple[str, str]]:
    from cluster.run import Run

    for row in table.rows:
        for each in row.results:
            if each.entry.run and (env := Run(table.folder.run_url(each.entry)).json("env.json")):
                return [
                    pair for pair in facts.environment(env) if pair[0] not in ("Command", "Started")
                ]
    return []


def _commands(table: Table) -> list[tuple[str, str]]:
    """(what it is for, lines to paste)."""
    quoted = shlex.quote(table.folder.url)
    return [
        ("More seeds", f"python launch.py study {quoted} --more-seeds 2"),
        ("The table for a paper", f"python launch.py study {quoted} table --as latex"),
        ("All runs as a table", f"python launch.py study {quoted} table --as csv > runs.csv"),
        (
            "In a notebook",
            "from search.studies import writing\nfrom search.studies.folder import Folder\n"
            f"from search.studies.table import read\n\ntable = read(Folder.open({table.folder.url!r}))\n"
            "writing.frame(table)",
        ),
    ]
