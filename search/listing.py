"""What `launch.py results` and `describe` print: lists, comparisons and layers, for a terminal or as JSON."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.run import Run
from datasets import figures, store
from datasets.refusal import Refusal
from search import results
from search.terminal import table

if TYPE_CHECKING:
    from rich.console import RenderableType


def listed(
    *, out: str | None, since: str | None, sort: str | None, where: Sequence[str], width: int
) -> tuple[list[dict[str, Any]], RenderableType]:
    """The runs of a folder, filtered and sorted: as plain rows, and drawn."""
    folder = out or os.environ.get("MANTA_OUT") or "runs"
    frame = results.select(results.runs(folder), since=since, where=list(where), sort=sort)
    if frame.empty:
        return [], f"no runs in {folder}" + (" that match" if since or where else "")
    rows = json.loads(frame.reset_index().to_json(orient="records", date_format="iso"))
    return rows, table(frame, width=width, keep=[sort.lstrip("-")] if sort else [])


def compared(
    urls: Sequence[str], *, width: int, save: str | None = None
) -> tuple[dict[str, Any], list[RenderableType]]:
    """Runs side by side: differences of their recipes, scores, warnings, and where the curves were drawn (`save`, a PNG)."""
    if len(urls) < 2:
        raise Refusal(
            "this is no search, and a comparison takes two runs or more",
            path="results",
            value=urls[0],
            remedy="name a search's folder, another run, or none to list all runs",
        )
    found = results.compare([Run.open(url) for url in urls])
    picture = save or str(Path(tempfile.mkdtemp(prefix="manta-compare-"), "curves.png"))
    store.write_bytes(picture, figures.png(found.figure()))
    tree = {
        "differences": json.loads(found.differences.to_json(orient="index")),
        "scores": json.loads(found.scores.to_json(orient="index")),
        "warnings": found.warnings,
        "figure": picture,
    }
    drawn: list[RenderableType] = [
        table(found.differences, "What differs in the recipes", width=width),
        table(found.scores, "Scores", width=width),
        *(f"warning: {warning}" for warning in found.warnings),
        f"curves: {picture}",
    ]
    return tree, drawn
