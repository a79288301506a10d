"""report.html: a run on one page, from its folder alone, readable without a network."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from cluster.run import Run
from datasets import store
from datasets.page import render
from search import facts, growth, numbers, sheets, verdict
from search.evidence import Evidence

if TYPE_CHECKING:
    import pandas as pd

PARTS = {
    "recipe.yaml": "the recipe",
    "summary.json": "the summary (scores, timings, the chosen checkpoint)",
    "metrics.jsonl": "the metrics, so there are no curves",
    "model.json": "the description of the model",
    "data.json": "the data card",
    "env.json": "the environment",
}
LARGEST = 4_000_000  # bytes of one picture
MOST_FIGURES = 24


@dataclass(frozen=True)
class Picture:
    """An image with its caption; `source` is a data: URL or inline SVG."""

    caption: str
    source: Markup
    inline: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Split:
    """What the evaluators found on one split."""

    name: str
    confusion: Picture | None
    per_class: sheets.Sheet | None
    others: list[tuple[str, sheets.Sheet]]


def write(run_url: str) -> str:
    """Draw report.html into a run folder; its path or URL."""
    run = Run.open(run_url)
    url = store.join(run.url, "report.html")
    store.write_bytes(url, html(run).encode())
    return url


def html(run: Run) -> str:
    """The page of a run, finished or not."""
    filters: dict[str, Callable[..., Any]] = {
        "count": numbers.count,
        "yaml": coloured,
        "sized": sheets.size,
    }
    return render(Path(__file__).with_name("report.html.j2"), context(Evidence(run)), filters)


def context(found: Evidence) -> dict[str, Any]:
    """Everything that the template says."""
    from search import timeline

    splits, examples = _splits(found), _png(found, "data_examples", "Training examples")
    page = {
        "name": str(found.recipe.get("name") or found.run.name),
        "run": found.run.name,
        "status": str(found.summary.get("status", "unknown")),
        "started": facts.date(found.env.get("started")),
        "verdict": verdict.sentence(found),
        "tiles": verdict.tiles(found),
        "curves": _curves(found),
        "events": timeline.sheet(timeline.events(found.summary)),
        "scores": sheets.scores(found.summary),
        "splits": splits,
        "pictures": _pictures(found, splits),
        "strips": growth.strips(found),
        "examples": examples,
        "facts_of_data": facts.data(found.card) + facts.fetched(found.summary),
        "counts": sheets.counts(found),
        "model_facts": facts.model(found.model),
        "modules": sheets.modules(found.model),
        "blocks": sheets.blocks(found.model),
        "recipe": found.recipe_text,
        "environment": facts.environment(found.env),
        "commands": _commands(found),
    }
    return page | {"notes": _notes(found)}  # last: reading the rest may have met damage


def _notes(found: Evidence) -> list[str]:
    notes = [str(note) for note in found.summary.get("notes", ())]
    if error := found.summary.get("error"):
        notes.insert(0, f"It ended with: {error}")
    opened = found.summary.get("opened") or {}
    if opened.get("test", 0) > 1:
        notes.append(
            f"The test split was opened {opened['test']} times: its score is no longer that of "
            "unseen data."
        )
    notes += _left_out(found.card.get("packed"))
    if found.env.get("dirty"):
        notes.append(
            "The checkout had uncommitted changes: the commit alone does not rebuild this run."
        )
    missing = [said for name, said in PARTS.items() if found.bytes(name) is None]
    if missing:
        notes.append(f"Not in the folder: {'; '.join(missing)}.")
    return [*notes, *dict.fromkeys(found.problems)]


def _left_out(packed: Any) -> list[str]:
    names = packed.get("left_out") if isinstance(packed, dict) else None
    if not isinstance(names, list) or not names:
        return []
    named = ", ".join(str(name).rpartition("/")[2] for name in names[:3])
    many = "s that do not decode were" if len(names) > 1 else " that does not decode was"
    return [f"{len(names)} picture{many} left out: {named}."]


def _curves(found: Evidence) -> list[Picture]:
    from search import canvas, plots, timeline

    over_the_clock = timeline.panel(timeline.events(found.summary))
    went = [over_the_clock] if over_the_clock else []
    return [
        Picture(panel.title, Markup(canvas.svg(canvas.single(panel))), inline=True)
        for panel in [*plots.panels(found.metrics, found.summary), *went]
    ]


def _splits(found: Evidence) -> list[Split]:
    """Findings by split: the test split first, it is what the verdict is about."""
    by_split: dict[str, dict[str, pd.DataFrame]] = {}
    for name, table in found.tables.items():
        split, _, rest = name.partition("_")
        by_split.setdefault(split, {})[rest] = table
    order = sorted(by_split, key=lambda split: (split != "test", split))
    return [_split(found, split, by_split[split]) for split in order]


def _split(found: Evidence, split: str, tables: Mapping[str, pd.DataFrame]) -> Split:
    confusion, per_class, others = None, None, []
    for name, table in tables.items():
        if "confusion" in name and (square := sheets.confusion(table)) is not None:
            confusion = _confusion(split, square)
        elif "class" in name and len(table):
            per_class = sheets.per_class(table)
        elif len(table):
            others.append((f"{sheets.heading(name)}, {split}", sheets.plain(table)))
    if confusion is None:
        drawn = [n for n in found.names("figures", ".png") if n == f"{split}_confusion"]
        confusion = _png(found, drawn[0], f"Confusion matrix, {split} split") if drawn else None
    return Split(split, confusion, per_class, others)


def _confusion(split: str, table: pd.DataFrame) -> Picture:
    from search import canvas, plots

    total, right = table.to_numpy().sum(), table.to_numpy().diagonal().sum()
    caption = (
        f"Confusion matrix, {split} split: {numbers.count(total - right)} of "
        f"{numbers.count(total)} rows off the diagonal. Shade is the share of the true class."
    )
    return Picture(caption, Markup(canvas.svg(plots.confusion(table))), inline=True)


def _pictures(found: Evidence, splits: list[Split]) -> list[Picture]:
    drawn = {f"{split.name}_confusion" for split in splits if split.confusion}
    names = [
        name
        for name in found.names("figures", ".png")
        if name != "data_examples" and name not in drawn and not name.endswith("_confusion_matrix")
    ]
    if len(names) > MOST_FIGURES:
        left = len(names) - MOST_FIGURES
        found.problems.append(f"{left} more pictures are in figures/, not on this page.")
    listed = []
    for name in names[:MOST_FIGURES]:
        split, _, rest = name.partition("_")
        known = split in ("train", "val", "test")
        said = f"{sheets.heading(rest)}, {split} split" if known and rest else sheets.heading(name)
        listed.append(_png(found, name, said))
    return [picture for picture in listed if picture]


def _png(found: Evidence, name: str, caption: str) -> Picture | None:
    data = found.bytes("figures", f"{name}.png")
    if not data:
        return None
    if len(data) > LARGEST or not data.startswith(b"\x89PNG"):
        found.problems.append(f"figures/{name}.png is too large or no PNG, and was left out.")
        return None
    return embedded(data, caption)


def embedded(data: bytes, caption: str) -> Picture:
    """A PNG within the page."""
    # Width over height, from the header: a strip of examples wants the whole line.
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    source = Markup("data:image/png;base64,") + base64.b64encode(data).decode()
    return Picture(caption, source, wide=width > 1.8 * max(1, height))


def _commands(found: Evidence) -> list[tuple[str, str]]:
    """(what it is for, lines to paste)."""
    url, load = found.run.url, found.model.get("load")
    commit = found.env.get("commit")
    again = f"python launch.py train {store.join(url, 'recipe.yaml')} --fresh"
    commands = [
        (
            "Load it with Manta, from the checkout",
            f'from cluster.run import Run\n\nrun = Run.open("{url}")\nmodel = run.best.model()',
        ),
        ("Run it again", f"git checkout {commit[:12]}\n{again}" if commit else again),
    ]
    if load:
        lines = "\n".join(map(str, load))
        if chosen := re.search(r"step-\d+", str(found.summary.get("weights") or "")):
            # The lines were written before the first step, when no checkpoint was chosen.
            lines = lines.replace("step-XXXXXXXX", chosen[0])
        commands.insert(1, ("Load it with torch alone", lines))
    return commands


def coloured(text: str) -> Markup:
    """YAML with its keys and comments marked for the stylesheet."""
    lines = []
    for line in text.rstrip().splitlines():
        safe = str(escape(line))
        if line.lstrip().startswith("#"):
            lines.append(f'<span class="comment">{safe}</span>')
        else:
            lines.append(re.sub(r"^([\s-]*)([\w./-]+)(:)(?=\s|$)", r"\1<b>\2</b>\3", safe))
    return Markup("\n".join(lines))
