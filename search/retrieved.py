"""What `launch.py retrieve` prints: what was found, and how good an index is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from trainers.retrieval.answers import Answer
    from trainers.retrieval.index import Index

MOST_CLASSES = 40  # lines of the table by class


def found(index: Index, answers: Sequence[Answer]) -> list[RenderableType]:
    """A table for each query: rank, id, split, class, distance."""
    from rich.text import Text

    drawn: list[RenderableType] = []
    for answer in answers:
        told = answer.told(index)
        table = _table()
        names = ["", "id", "split", "class", "distance"]
        names += ["path"] if any("path" in row for row in told["results"]) else []
        for name in names:
            right = name in ("", "id", "distance")
            table.add_column(name, justify="right" if right else "left", overflow="fold")
        for row in told["results"]:
            named, path = row.get("class", "–"), row.get("path", "")
            cells = (row["rank"], row["id"], row["split"], named, f"{row['distance']:.4f}", path)
            table.add_row(*(Text(str(cell)) for cell in cells[: len(names)]))
        drawn += [f"{answer.name}, by {index.metric} distance", table]
        if answer.itself:
            first = told["results"][0]
            drawn.append(f"The first is the query itself: it is in the index (id {first['id']}).")
    return drawn


def scored(told: Mapping[str, Any]) -> list[RenderableType]:
    """The scores with their 95 % intervals, then by class, the worst first."""
    table = _table()
    for name in ("score", "mean", "95 %"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for name, value in told["scores"].items():
        table.add_row(name, f"{value:.4f}", f"± {told['interval'][name]:.4f}")
    chance = f"Precision of a random order: {told['chance']:.4f}."
    asked = f"{told['queries']:,} queries against {told['gallery']:,} pictures"
    drawn: list[RenderableType] = [asked, table, chance]
    if told["without_match"]:
        drawn.append(
            f"{told['without_match']} queries have no other picture of their class, and are left out."
        )
    if len(told["classes"]) > 1:
        drawn += ["", "By class", by_class(told["classes"])]
    if len(told["classes"]) > MOST_CLASSES:
        drawn.append(f"The {MOST_CLASSES} worst of {len(told['classes'])}; --json has all.")
    return drawn


def by_class(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Precision at each k and mean average precision of each class."""
    names = [name for name in rows[0] if name.startswith("precision@") or name == "map"]
    table = _table()
    table.add_column("class", overflow="fold")
    for name in ("queries", *names):
        table.add_column(name, justify="right")
    for row in sorted(rows, key=lambda row: row["map"])[:MOST_CLASSES]:
        cells = (f"{row[name]:.4f}" for name in names)
        table.add_row(str(row["class"]), str(row["queries"]), *cells)
    return table


def _table() -> Table:
    from rich.table import Table

    return Table(box=None, header_style="bold", pad_edge=False)
