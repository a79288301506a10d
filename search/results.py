"""Runs as tidy tables: list them, choose among them, put them side by side."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import yaml

from cluster.run import Run
from datasets import store
from datasets.refusal import Refusal, nearest
from search import cautions, numbers, verdict
from search.evidence import Evidence

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = [
    *("run", "name", "model", "task", "status", "started", "seed", "batch", "workers"),
    *("steps", "seconds", "images_per_second"),
]
MINUTES = {"m": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}
ABSENT = object()
SHOWN = "`python launch.py results --json` shows the columns, a run's recipe.yaml the paths"


def runs(out: str) -> list[Run]:
    """The runs of a folder, local or remote, by name; of a run's own folder, that run."""
    out = str(out).rstrip("/")
    if store.exists(store.join(out, "recipe.yaml")):
        return [Run(out)]
    folders = (store.join(out, name) for name in store.names(out))
    return [Run(url) for url in folders if store.exists(store.join(url, "recipe.yaml"))]


def tree(run: Run) -> dict[str, Any]:
    """The recipe of a run as plain dicts and lists, every default written out."""
    # Not through Recipe: a run of an older schema no longer validates, but belongs in the list.
    try:
        plain = yaml.safe_load(store.read_bytes(store.join(run.url, "recipe.yaml")))
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return plain if isinstance(plain, dict) else {}


def flatten(tree: Any, path: str = "") -> dict[str, Any]:
    """Dotted path -> leaf; list items by their index, empty containers are leaves."""
    items: Any = ()
    if isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    leaves: dict[str, Any] = {}
    for key, value in items:
        leaves |= flatten(value, f"{path}.{key}" if path else str(key))
    return leaves if leaves or not path else {path: tree}


def part(value: Any) -> Any:
    """The name of a part, whether it is written `resnet18` or `{name: resnet18, ...}`."""
    return value["name"] if isinstance(value, Mapping) and "name" in value else value


def row(run: Run) -> dict[str, Any]:
    """What one line of the table says of a run."""
    try:
        recipe, summary = tree(run), run.summary
        started = run.json("env.json").get("started")
    except Refusal as refusal:  # one damaged folder hides no other
        return {"run": run.name, "status": f"unreadable: {refusal.path.rsplit('/', 1)[-1]}"}
    data, place = recipe.get("data") or {}, summary.get("place") or {}
    tasks = [part(phase.get("task")) for phase in recipe.get("phases") or []]
    scale = recipe.get("scale") or {}
    return {
        "run": run.name,
        "name": recipe.get("name"),
        "model": part(recipe.get("model")),
        "task": " > ".join(str(task) for task in tasks),
        "status": summary.get("status", "unknown"),
        "started": started,
        "seed": recipe.get("seed"),
        "batch": data.get("batch"),
        "workers": place.get("workers", scale.get("workers")),
        "steps": summary.get("steps"),
        "seconds": summary.get("seconds"),
        "images_per_second": summary.get("images_per_second"),
        **(summary.get("scores") or {}),
    }


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run and one column a score; the index holds the runs' urls."""
    import pandas as pd

    rows = [row(run) for run in runs]
    scores = sorted({key for line in rows for key in line} - set(COLUMNS))
    index = pd.Index([run.url for run in runs], name="url", dtype=object)
    table = pd.DataFrame(rows, index=index, columns=[*COLUMNS, *scores])
    table["started"] = pd.to_datetime(table["started"], utc=True, errors="coerce", format="ISO8601")
    return table


def select(
    runs: Sequence[Run],
    *,
    since: str | None = None,
    where: Sequence[str] = (),
    sort: str | None = None,
) -> pd.DataFrame:
    """The frame of the runs that meet every condition, in order.

    `since` is an age (`30m`, `12h`, `7d`, `2w`) or an ISO date (UTC unless it says otherwise).
    `where` are `dotted.path=value` on the recipe (`model=resnet18` compares a part's name) or on a
    column of the frame (`status=finished`). `sort` is a column: numbers come best first (losses,
    errors and seconds ascending, all else descending), dates newest first, text from a to z;
    a leading `-` reverses that. Runs that lack the column come last.
    """
    table = frame(runs)
    if since:
        table = table[table["started"] >= moment(since)]
    kept = {run.url: run for run in runs if run.url in table.index}
    trees = {url: tree(run) for url, run in kept.items()} if where else {}
    for condition in where:
        table = table.loc[_meets(table, trees, condition)]
    return _sorted(table, sort) if sort and len(table) else table


def moment(since: str) -> datetime:
    """The instant that `7d`, `12h` or an ISO date means, in UTC."""
    text = since.strip()
    if age := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhdw])", text):
        return datetime.now(UTC) - timedelta(minutes=float(age[1]) * MINUTES[age[2]])
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(
            "neither an age nor a date",
            path="since",
            value=since,
            remedy=f"'{since}' is unclear: say 12h, 7d, 2w or 2026-11-30",
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _meets(table: pd.DataFrame, trees: Mapping[str, Any], condition: str) -> np.ndarray:
    import numpy as np

    path, sign, text = condition.partition("=")
    path = path.strip()
    if not sign or not path:
        raise Refusal(
            f"'{condition}' is no condition",
            path="where",
            value=condition,
            remedy="write dotted.path=value, as in model=resnet18 or status=finished",
        )
    wanted = _typed(text)
    found = {url: _at(trees[url], path) for url in table.index}
    if all(value is ABSENT for value in found.values()) and len(table):
        if path not in table.columns:
            known = {*table.columns, *(p for url in table.index for p in flatten(trees[url]))}
            raise Refusal(
                "no such path or column", path=path, value=path, remedy=nearest(path, known, SHOWN)
            )
        found = dict(zip(table.index, table[path], strict=True))
    return np.array([_same(found[url], wanted) for url in table.index], dtype=bool)


def _typed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        if isinstance(tree, Mapping) and key in tree:
            tree = tree[key]
        elif isinstance(tree, list) and key.isdecimal() and int(key) < len(tree):
            tree = tree[int(key)]
        else:
            return ABSENT
    return tree


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, Mapping) and not isinstance(wanted, Mapping):
        found = part(found)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    try:
        # Through float, because PyYAML reads 3e-4 as a string and 64 is 64.0.
        return math.isclose(float(found), float(wanted), rel_tol=1e-9)
    except (TypeError, ValueError):
        return bool(found == wanted)


def _sorted(table: pd.DataFrame, sort: str) -> pd.DataFrame:
    from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype

    column, reverse = sort.removeprefix("-"), sort.startswith("-")
    if column not in table.columns:
        remedy = nearest(column, table.columns, SHOWN)
        raise Refusal(f"there is no column '{column}'", path="sort", value=column, remedy=remedy)
    values = table[column]
    ranked = is_numeric_dtype(values) or is_datetime64_any_dtype(values)
    ascending = not ranked or column == "seconds" or numbers.lower_is_better(column)
    return table.sort_values(
        column, ascending=ascending != reverse, na_position="last", kind="stable"
    )


@dataclass(frozen=True)
class Comparison:
    """Runs side by side: what differs in their recipes, what came of it, what to beware of."""

    runs: list[Run]
    differences: pd.DataFrame  # dotted path x run; NA where a recipe has no such path
    scores: pd.DataFrame  # metric x run
    warnings: list[str]

    @property
    def readable(self) -> pd.DataFrame:
        """The scores as people read them, shares of rows with their 95 % interval (Wilson): metric x run."""
        import pandas as pd

        told = {}
        for name, run in zip(labels(self.runs), self.runs, strict=True):
            found = Evidence(run)
            told[name] = {
                metric: f"{numbers.score(metric, value)} ({doubt})"
                if (doubt := verdict.interval(found, metric))
                else numbers.score(metric, value)
                for metric, value in run.scores.items()
            }
        return pd.DataFrame(told).reindex(self.scores.index).fillna("–")

    def figure(self) -> Figure:
        """The curves of all runs in one picture."""
        from search.plots import compare_curves

        return compare_curves(self.runs)


def compare(runs: Sequence[Run]) -> Comparison:
    """Two or more runs side by side."""
    import pandas as pd

    if len(runs) < 2:
        raise Refusal("one run alone compares with nothing", path="runs", remedy="name two or more")
    named = dict(zip(labels(runs), runs, strict=True))
    trees = {name: tree(run) for name, run in named.items()}
    scores = pd.DataFrame({name: run.scores for name, run in named.items()})
    facts = {name: cautions.Facts.of(run, trees[name]) for name, run in named.items()}
    return Comparison(
        runs=list(runs),
        differences=differences(trees),
        scores=scores.sort_index().rename_axis("metric"),
        warnings=cautions.among(facts),
    )


def differences(trees: Mapping[str, Any]) -> pd.DataFrame:
    """Where recipes, plain trees by name, differ: dotted path x name; NA where one has no such path."""
    import pandas as pd

    leaves = {name: flatten(plain) for name, plain in trees.items()}
    paths = list(dict.fromkeys(path for flat in leaves.values() for path in flat))
    cells = {path: [flat.get(path, pd.NA) for flat in leaves.values()] for path in paths}
    differ = {path: line for path, line in cells.items() if len({*map(_key, line)}) > 1}
    found = pd.DataFrame.from_dict(differ, orient="index", columns=[*trees], dtype=object)
    return found.rename_axis("path")


def labels(runs: Sequence[Run]) -> Iterator[str]:
    """A short name for each run: the folder's, or the url where two folders share one."""
    names = [run.name for run in runs]
    for run in runs:
        yield run.name if names.count(run.name) == 1 else run.url


def _key(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)
