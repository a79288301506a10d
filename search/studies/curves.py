"""What a study's arms told while they trained: scores, losses and rates over steps, of an arm the mean over its seeds in a band."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cluster.run import Run
from search import numbers, plots
from search.sheets import named, titled
from search.studies.rows import Row, Table

if TYPE_CHECKING:
    import pandas as pd

    Told = dict[int, pd.DataFrame]  # seed -> the run's metrics.jsonl

MOST_ARMS = 6  # a colour each
DECADES = 20.0  # arms that lie further apart stand on a logarithm


class Curve(NamedTuple):
    """A column of metrics.jsonl by arm, step x seed, the arms in the order of the study.

    `steep` is what a linear axis would hide most of: it is drawn, smoothed and averaged on a logarithm.
    """

    column: str
    title: str
    arms: list[tuple[Row, pd.DataFrame]]
    steep: bool


def read(table: Table) -> list[Curve]:
    """The score on validation, losses, the score and accuracies on training batches, and rates that change or differ.

    Of the best arms that were judged while they trained, or of the best arms where none was. What no arm told twice is no
    curve. A run's metrics are read once.
    """
    score = table.study.metric.rpartition("/")[2]
    told = _told(table, f"val/{score}")
    curves = []
    for split, column, title in _wanted(score, told):
        arms = [(row, _by_seed(seeds, split, column)) for row, seeds in told]
        arms = [(row, found) for row, found in arms if len(found)]
        if max((len(found) for _, found in arms), default=0) < 2:
            continue
        if _is_rate(column) and len({value for _, f in arms for value in f.stack()}) < 2:
            continue
        steep = _steep(column, [found for _, found in arms])
        if split == "train" and not _is_rate(column):
            arms = [(row, _smooth(found, steep=steep)) for row, found in arms]
            title += ", smoothed"
        arms = [(row, plots.thin(found)) for row, found in arms]
        curves.append(Curve(column, title, arms, steep))
    return curves


def _told(table: Table, column: str) -> list[tuple[Row, Told]]:
    """The arms that are drawn, in the order of the study: of those with the column, or else of all, the best."""
    sign = -1 if table.study.upwards else 1
    ranked = sorted(table.rows, key=lambda row: sign * row.mean.mean if row.mean else float("inf"))
    judged: dict[str, Told] = {}
    others: dict[str, Told] = {}
    for row in ranked:
        seeds = _metrics(table, row)
        if any(column in metrics for metrics in seeds.values()):
            judged[row.arm] = seeds
        elif seeds and len(others) < MOST_ARMS:
            others[row.arm] = seeds
        if len(judged) == MOST_ARMS:
            break
    chosen = judged or others
    return [(row, chosen[row.arm]) for row in table.rows if row.arm in chosen]


def _metrics(table: Table, row: Row) -> Told:
    """Of the runs that count, or of all where none does."""
    found = {}
    for each in row.results:
        shown = each.counts if row.mean else each.state not in ("missing", "running")
        if each.entry.run and shown:
            metrics = Run(table.folder.run_url(each.entry)).metrics()
            if len(metrics):
                found[each.entry.seed] = metrics
    return found


def _wanted(score: str, told: list[tuple[Row, Told]]) -> Iterator[tuple[str, str, str]]:
    """(split, column, title) of what may be drawn."""
    columns = dict.fromkeys(str(c) for _, seeds in told for each in seeds.values() for c in each)
    judged = f"val/{score}"
    yield "val", judged, f"{titled(named(judged))} while training"
    if judged != "val/loss":
        yield "val", "val/loss", "Validation loss"
    learnt = [c for c in columns if "/" not in c]
    for name in dict.fromkeys(("loss", score, "accuracy")):
        for column in learnt:
            if column == name or column.endswith(f"_{name}"):
                yield "train", column, titled(f"training {named(column)}")
    for column in columns:
        if _is_rate(column):
            name = column.removesuffix("lr").removesuffix("_").replace("_", " ")
            yield "train", column, f"Learning rate{f' of the {name}' if name else ''}"


def _by_seed(seeds: Mapping[int, pd.DataFrame], split: str, column: str) -> pd.DataFrame:
    """Step x seed."""
    import pandas as pd

    found = {}
    for seed, metrics in seeds.items():
        series = plots.series_of(metrics, split, column)
        if len(series):
            found[seed] = series[~series.index.duplicated()]
    return pd.DataFrame(found).sort_index()


def _steep(column: str, arms: Sequence[pd.DataFrame]) -> bool:
    """Whether a linear axis would show the first steps, or one arm, and nothing else."""
    if numbers.is_fraction(column) or any(bool((found <= 0).any(axis=None)) for found in arms):
        return False
    middles = [float(found.median(axis=1).median()) for found in arms]
    apart = max(middles) > DECADES * min(middles)
    return apart or any(plots.steep(found[seed].dropna()) for found in arms for seed in found)


def _smooth(found: pd.DataFrame, *, steep: bool) -> pd.DataFrame:
    by_seed = {seed: plots.smooth(found[seed].dropna(), steep=steep) for seed in found}
    return type(found)(by_seed).sort_index()


def _is_rate(column: str) -> bool:
    return column == "lr" or column.endswith("_lr")
