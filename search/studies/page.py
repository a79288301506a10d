"""report.html of a study: one page from its folder and its runs alone, readable without a network."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from datasets import store
from datasets.page import Tile, render
from search import facts, numbers
from search.report import Picture, coloured
from search.sheets import Cell, Sheet
from search.studies import table as tables
from search.studies import words, writing
from search.studies.folder import STUDY, Folder
from search.studies.table import Table


def write(folder: Folder) -> str:
    """Draw report.html into a study's folder; its path or URL."""
    return refreshed(tables.read(folder), anew=True)


def refreshed(table: Table, *, anew: bool = False) -> str:
    """The report, drawn where it is not of this very table already; its path or URL."""
    page, told = store.join(table.folder.url, "report.html"), writing.tree(table)
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
        "means": _sheet(*writing.lines(table)),
        "margin": table.study.margin,
        "pictures": _pictures(table),
        "compared": _compared(table),
        "claims": _sheet(*writing.claimed(table)) if table.claims else None,
        "cells": _cells(table),
        "machine": _machine(table),
        "commands": _commands(table),
        "recipe": store.read_bytes(store.join(table.folder.url, STUDY)).decode(errors="replace"),
    }


def _tiles(table: Table) -> list[Tile]:
    listed = []
    if best := table.best:
        listed.append(
            Tile(f"Best: {best.arm}", words.mean(table, best).partition(" (")[0], "", "main")
        )
    results = [each for row in table.rows for each in row.results]
    done = sum(each.counts for each in results)
    left = len(results) - done
    listed.append(
        Tile("Runs", numbers.count(len(results)), f"{left} do not count" if left else "all count")
    )
    ties = words.tied_with_best(table)
    listed.append(
        Tile("Ties with the best", numbers.count(len(ties)), f"of {len(table.rows) - 1} other arms")
    )
    spent = sum(row.seconds for row in table.rows)
    samples = sum(row.samples for row in table.rows)
    listed.append(Tile("Training", numbers.seconds(spent), f"{numbers.short(samples)} images"))
    return listed


def _sheet(headings: list[str], rows: list[list[str]]) -> Sheet:
    named = [f"{heading[:1].upper()}{heading[1:]}" for heading in headings]
    return Sheet(named, [[_cell(text) for text in row] for row in rows])


def _cell(text: str) -> Cell:
    """A number sorts as one."""
    try:
        return Cell(text, float(text.replace(",", "")))
    except ValueError:
        return Cell(text)


def _pictures(table: Table) -> list[Picture]:
    from search import canvas
    from search.studies import figures

    metric = table.study.metric
    drawn = [
        (f"Every run a dot; mean and 95 % interval over seeds ({metric})", figures.dots(table)),
        (f"{metric} against the factor, with 95 % intervals", figures.against(table)),
        ("Validation score while training: mean and range over seeds", figures.curves(table)),
    ]
    return [
        Picture(caption, Markup(canvas.svg(figure)), inline=True)
        for caption, figure in drawn
        if figure is not None
    ]


def _compared(table: Table) -> Sheet | None:
    """Every comparison with all that is known of it."""
    if not table.compared:
        return None
    metric = table.study.metric
    headings = ["Arm", "Beside", "Seeds", "Difference", "Over seeds", "Over seeds and rows"]
    headings += ["p", "p, Holm", "Test", "Found four times in five", "Verdict"]
    rows = []
    for each in table.compared:
        gap = each.gap
        over = both = "–"
        if gap.low is not None and gap.high is not None:
            over = tables.span(metric, gap.low, gap.high)
        if gap.rows_low is not None and gap.rows_high is not None:
            both = tables.span(metric, gap.rows_low, gap.rows_high)
        found = words.plain_points(metric, each.detectable) if each.detectable is not None else "–"
        rows.append(
            [
                Cell(each.arm),
                Cell(each.other),
                Cell(str(gap.n), float(gap.n)),
                Cell(tables.points(metric, gap.mean), gap.mean if gap.n else None),
                Cell(over),
                Cell(both if not each.rows else each.rows),
                Cell(words.p_value(gap.p), gap.p if gap.p == gap.p else None),
                Cell(
                    words.p_value(each.adjusted),
                    each.adjusted if each.adjusted == each.adjusted else None,
                ),
                Cell(gap.test or "–"),
                Cell(found),
                Cell(each.verdict),
            ]
        )
    return Sheet(headings, rows)


def _cells(table: Table) -> Sheet:
    """Where every number comes from."""
    headings = [
        "Arm",
        "Seed",
        "State",
        table.study.metric,
        "Seconds",
        "Run",
        "Commit",
        "Data",
        "Why",
    ]
    rows = []
    for row in table.rows:
        for each in row.results:
            score = Cell("–")
            if each.score is not None:
                score = Cell(numbers.score(table.study.metric, each.score), each.score)
            rows.append(
                [
                    Cell(row.arm),
                    Cell(str(each.entry.seed), float(each.entry.seed)),
                    Cell(each.state),
                    score,
                    Cell(numbers.number(round(each.seconds, 1)), each.seconds),
                    Cell(each.entry.run or "–"),
                    Cell(each.commit[:8] or "–"),
                    Cell(each.entry.digest[:8]),
                    Cell(each.why),
                ]
            )
    return Sheet(headings, rows)


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
