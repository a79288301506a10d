"""report.html of a protocol: one page from its folder in a run's `evaluations/` alone, readable without a network."""

from __future__ import annotations

import importlib.util
import io
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cluster import protocol
from datasets import figures, store
from datasets.page import Tile, render
from search import numbers, sheets
from search.report import Picture, coloured, embedded
from trainers.grammar import pairs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WIDE = 4.0  # inches; a picture taller than this has a line of its own


@dataclass(frozen=True)
class Shown:
    """A figure of a page; its name is that of its file."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Found:
    """The folder of what a protocol found, read."""

    url: str
    told: dict[str, Any]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float]:
        """Without the protocol's name before them."""
        known = {k.partition("/")[2]: v for k, v in self.told.get("scores", {}).items()}
        return {name: value for name, value in known.items() if value is not None}


def read(url: str) -> Found:
    """A folder that `evaluate --protocol` wrote; a `Refusal` where it is none."""
    import pandas as pd

    tables = {}
    for name in store.names(store.join(url, "tables")):
        data = store.read_bytes(store.join(url, "tables", name))
        tables[name.removesuffix(".csv")] = pd.read_csv(io.BytesIO(data))
    return Found(url, protocol.read(url), tables)


def write(url: str) -> str:
    """Draw figures/ and report.html into a protocol's folder; the page's path or URL."""
    found = read(url)
    drawn = _drawn(found)
    for each in drawn:
        store.write_bytes(store.join(url, "figures", f"{each.name}.png"), figures.png(each.figure))
    page = store.join(url, "report.html")
    store.write_bytes(page, html(found, drawn).encode())
    return page


def html(found: Found, drawn: list[Shown]) -> str:
    """The page."""
    filters: dict[str, Callable[..., Any]] = {"count": numbers.count, "yaml": coloured}
    told = found.told
    said = {
        "name": sheets.heading(str(told.get("protocol", ""))),
        "run": str(told.get("run", "")),
        "split": str(told.get("split", "")),
        "date": str(told.get("date", ""))[:10],
        "sentences": [str(each) for each in told.get("sentences", ())],
        "tiles": _tiles(found),
        "plots": _plots(drawn),
        "pictures": _pictures(found, drawn),
        "tables": [
            (sheets.heading(name), sheets.plain(table))
            for name, table in found.tables.items()
            if len(table)
        ],
        "scores": _scores(found),
        "facts": [
            ("Checkpoint", str(told.get("checkpoint", ""))),
            ("Seconds", numbers.seconds(float(told.get("seconds", 0.0)))),
        ],
        "arguments": _arguments(told),
        "command": _command(found),
    }
    return render(Path(__file__).parent.parent / "protocol.html.j2", said, filters)


def _module(found: Found) -> Any:
    """search/protocols/<protocol>.py: tiles and figures of a protocol that has its own; None where it has none."""
    name = f"search.protocols.{found.told.get('protocol', '')}"
    if importlib.util.find_spec(name) is None:
        return None
    return importlib.import_module(name)


def _tiles(found: Found) -> list[Tile]:
    module = _module(found)
    if module:
        listed: list[Tile] = module.tiles(found)
        return listed
    named = [name for name in found.scores if not name.endswith(("_low", "_high"))]
    return [
        Tile(
            sheets.heading(name),
            numbers.score(name, found.scores[name]),
            _interval(found.scores, name),
            "" if place else "main",
        )
        for place, name in enumerate(named[:6])
    ]


def _interval(scores: dict[str, float], name: str) -> str:
    ends = [scores.get(f"{name}_{end}") for end in ("low", "high")]
    known = [numbers.score(name, end) for end in ends if end is not None]
    return f"{known[0]} to {known[1]}" if len(known) == 2 else ""


def _drawn(found: Found) -> list[Shown]:
    module = _module(found)
    drawn: list[Shown] = module.figures(found) if module else []
    return drawn


def _plots(drawn: list[Shown]) -> list[Picture]:
    from search import canvas

    return [
        Picture(each.caption, Markup(canvas.svg(each.figure)), True, _is_wide(each.figure))
        for each in drawn
    ]


def _pictures(found: Found, drawn: list[Shown]) -> list[Picture]:
    """Those that the protocol itself has left."""
    module, names = _module(found), {f"{each.name}.png" for each in drawn}
    captions: dict[str, str] = module.CAPTIONS if module else {}
    shown = []
    for name in store.names(store.join(found.url, "figures")):
        if name not in names and name.endswith(".png"):
            stem = name.removesuffix(".png")
            data = store.read_bytes(store.join(found.url, "figures", name))
            shown.append(embedded(data, captions.get(stem, sheets.heading(stem))))
    return shown


def _is_wide(figure: Figure) -> bool:
    return bool(figure.get_figheight() > WIDE)


def _scores(found: Found) -> sheets.Sheet:
    rows = [
        [sheets.Cell(sheets.heading(name)), sheets.Cell(numbers.score(name, value), value)]
        for name, value in found.scores.items()
    ]
    return sheets.Sheet(["Score", "Value"], rows)


def _arguments(told: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {json.dumps(v)}" for name, v in told.get("arguments", {}).items())


def _command(found: Found) -> str:
    """What finds it again, of the run that the folder is in."""
    told = found.told
    run = found.url.rstrip("/").rsplit("/evaluations/", 1)[0]
    words = ["evaluate", run, "--protocol", str(told.get("protocol")), "--on", str(told["split"])]
    if told.get("which", "best") != "best":
        words += ["--checkpoint", str(told["which"])]
    words += [_word(name, value) for name, value in told.get("said", {}).items()]
    return " ".join(["python launch.py", *map(shlex.quote, words)])


def _word(name: str, value: Any) -> str:
    """`name=value` as the command line reads it."""
    plain = f"{name}={value}"
    if isinstance(value, str) and dict(pairs([plain])) == {name: value}:
        return plain
    return f"{name}={json.dumps(value)}"
