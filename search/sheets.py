"""The tables of a report: cells as text, with what they sort by and how warmly they are shaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search import numbers

if TYPE_CHECKING:
    import pandas as pd

    from search.evidence import Evidence

WORST = 0.55  # shade of the worst cell
MOST_ROWS = 500  # of any table; the whole one is in the run folder
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Cell:
    """`heat` from 0 to 1 shades, `order` is what the column sorts by (a number, else the text)."""

    text: str
    order: float | None = None
    heat: float = 0.0


@dataclass(frozen=True)
class Sheet:
    """A table of a page; `more` says how many rows were left out."""

    headings: list[str]
    rows: list[list[Cell]]
    more: int = 0

    def left(self, column: int) -> bool:
        """Whether a column holds words, which line up on the left."""
        cells = [row[column] for row in self.rows]
        return column == 0 or all(cell.order is None and cell.text != "–" for cell in cells)


def plain(table: pd.DataFrame) -> Sheet:
    """A finding as it is, numbers made readable."""
    shown = table.head(MOST_ROWS)
    rows = [
        [_cell(str(name), value) for name, value in zip(shown.columns, line, strict=True)]
        for line in shown.itertuples(index=False)
    ]
    return Sheet([heading(str(name)) for name in table.columns], rows, len(table) - len(shown))


def per_class(table: pd.DataFrame) -> Sheet:
    """Precision, recall and F1 of each class; the weaker a share, the warmer its cell."""
    shares = [name for name in table.columns if numbers.is_fraction(str(name))]
    lacking = [1 - float(v) for name in shares for v in table[name] if _is_number(v) and v == v]
    # Against at least a tenth, so that a table of near-perfect classes does not glow.
    span = max([0.1, *lacking])
    sheet = plain(table)
    at = [list(table.columns).index(name) for name in shares]
    for line in sheet.rows:
        for column in at:
            cell = line[column]
            if cell.order is not None:
                heat = WORST * max(0.0, 1 - cell.order) / span
                line[column] = Cell(numbers.percent(cell.order), cell.order, round(heat, 3))
    return sheet


def scores(summary: Mapping[str, Any]) -> Sheet | None:
    """One row a metric and one column a split."""
    found = summary.get("scores")
    if not found:
        return None
    parted = {key: key.partition("/")[::2] if "/" in key else ("", key) for key in found}
    splits = sorted({split for split, _ in parted.values()}, key=_place)
    metrics = dict.fromkeys(metric for _, metric in parted.values())
    rows = []
    for metric in sorted(metrics, key=lambda m: (m != "accuracy", list(metrics).index(m))):
        line = [Cell(heading(metric))]
        for split in splits:
            value = found.get(f"{split}/{metric}" if split else metric)
            order = float(value) if _is_number(value) else None
            line.append(Cell(numbers.score(metric, value), order))
        rows.append(line)
    return Sheet(["Metric", *(split or "score" for split in splits)], rows)


def counts(found: Evidence) -> Sheet | None:
    """One row a class and one column a split of the data card; rarer than even is warmer."""
    known = found.counts
    splits = sorted(known, key=_place)
    names = dict.fromkeys(name for split in splits for name in known[split])
    listed = [str(name) for name in found.card.get("classes", ()) if str(name) in names]
    rows = []
    for name in [*listed, *(name for name in names if name not in listed)]:
        line = [Cell(name)]
        for split in splits:
            n = known[split].get(name, 0)
            even = sum(known[split].values()) / len(names)
            lack = max(0.0, 1 - n / even) if even else 0.0
            # A row or two below even is chance, not a rare class.
            line.append(Cell(numbers.count(n), n, round(WORST * lack, 3) if lack > 0.1 else 0.0))
        rows.append(line)
    more = max(0, len(rows) - MOST_ROWS)
    return Sheet(["Class", *splits], rows[:MOST_ROWS], more) if rows else None


def modules(model: Mapping[str, Any]) -> Sheet | None:
    """One row a module; its name, kind, parameters, how many of them learn, its output."""
    found = [m for m in model.get("modules") or [] if isinstance(m, Mapping)]
    if not found:
        return None
    rows = []
    for module in found[:MOST_ROWS]:
        parameters, trainable = (_amount(module.get(key)) for key in ("parameters", "trainable"))
        if module.get("trainable") is True:
            trainable = parameters
        learns = numbers.count(trainable) if trainable else "frozen"
        rows.append(
            [
                Cell(str(module.get("name") or "(whole)")),
                Cell(str(module.get("kind", ""))),
                Cell(numbers.count(parameters) if parameters else "–", parameters),
                Cell(learns if parameters else "–", trainable),
                Cell(size(module.get("output"))),
            ]
        )
    names = ["Module", "Kind", "Parameters", "Trainable", "Output"]
    return Sheet(names, rows, len(found) - len(rows))


def blocks(model: Mapping[str, Any]) -> Sheet | None:
    """The modules summed by the first word of their names."""
    sums: dict[str, list[float]] = {}
    for module in model.get("modules", ()):
        if isinstance(module, Mapping):
            line = sums.setdefault(str(module.get("name", "")).partition(".")[0], [0, 0])
            for place, key in enumerate(("parameters", "trainable")):
                line[place] += _amount(module.get(key))
    total = sum(parameters for parameters, _ in sums.values())
    rows = [
        [Cell(name), *(Cell(numbers.count(n), n) for n in both), Cell(_of(both[0], total), both[0])]
        for name, both in sums.items()
    ]
    return Sheet(["Block", "Parameters", "Trainable", "Share"], rows) if rows else None


def _of(part: float, total: float) -> str:
    return numbers.percent(part / total) if total else "–"


def _amount(value: Any) -> float:
    return value if _is_number(value) else 0


def size(shape: Any) -> str:
    """[32, 8, 8] -> '32 × 8 × 8'."""
    if isinstance(shape, Sequence) and not isinstance(shape, str):
        flat = all(isinstance(n, int) for n in shape)
        return " × ".join(map(str, shape)) if flat else ", ".join(size(s) for s in shape)
    return "" if shape is None else str(shape)


def heading(name: str) -> str:
    """images_per_second -> 'Images per second'; short names that are acronyms stay capitals."""
    capitals = {"ece", "rmse", "mae", "mse", "f1", "kid", "fid", "auroc", "nll"}
    name = name.replace("top5", "top-5").replace("top1", "top-1")
    own = {"mce": "mCE", **{word: word.upper() for word in capitals}}
    text = " ".join(own.get(word, word) for word in name.replace("_", " ").split())
    return text if text.startswith("mCE") else text[:1].upper() + text[1:]


def titled(words: str) -> str:
    """A heading or caption begins with a capital; a symbol such as n or p is none."""
    return words if len(words) == 1 else f"{words[:1].upper()}{words[1:]}"


def named(metric: str) -> str:
    """test/macro_f1 -> 'test macro F1': a score within a sentence."""
    split, _, name = metric.rpartition("/")
    where = {"val": "validation ", "test": "test "}.get(split, "")
    said = heading(name)
    return f"{where}{said if said.isupper() else said[:1].lower() + said[1:]}"


def confusion(table: pd.DataFrame) -> pd.DataFrame | None:
    """A square table of counts with classes as its index, or None where it is something else."""
    body = table
    if len(table.columns) == len(table) + 1:
        body = table.set_index(table.columns[0])
    if len(body) == 0 or len(body) != len(body.columns):
        return None
    if not all(_is_number(v) for v in body.to_numpy().ravel().tolist()):
        return None
    return body.set_axis(list(body.columns), axis=0) if body is table else body


def _cell(column: str, value: Any) -> Cell:
    if isinstance(value, bool) or not _is_number(value):
        return Cell(str(value))
    value = float(value)
    if column.lower() in ("class", "label", "id", "index", "prediction", "true"):
        return Cell(f"{value:g}", value)  # a name that happens to be a number
    if value != value:
        return Cell("–")
    return Cell(numbers.score(column, value), value)


def _is_number(value: Any) -> bool:
    import numbers as abstract

    return isinstance(value, abstract.Real) and not isinstance(value, bool)


def by_split(tree: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Items in the order of learning, choosing and testing."""
    return sorted(tree.items(), key=lambda item: _place(item[0]))


def _place(split: str) -> tuple[int, str]:
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)
