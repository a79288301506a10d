"""Two arms of a study beside each other, `study STUDY diff A B`: their scores, what can be said of them, how their recipes differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.run import Run
from datasets import store
from datasets.refusal import Refusal, nearest
from search import numbers, results, terminal
from search.studies import arms as arms_of
from search.studies import narrow, words
from search.studies.amounts import points, span
from search.studies.comparing import difference
from search.studies.rows import Row, Table

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType


def drawn(table: Table, arm: str, other: str) -> list[RenderableType]:
    """For a terminal. Raises Refusal for an arm that there is not."""
    rows = {row.arm: row for row in table.rows}
    for name in (arm, other):
        if name not in rows:
            raise Refusal(
                f"there is no arm '{name}'", path="diff", value=name, remedy=nearest(name, rows)
            )
    if arm == other:
        raise Refusal(
            "an arm beside itself", path="diff", value=arm, remedy=f"two of {', '.join(rows)}"
        )
    pair = (rows[arm], rows[other])
    listed = _paired(table, *pair) if table.study.paired else _apart(table, *pair)
    shown: list[RenderableType] = [*listed, "", *_said(table, arm, other)]
    differ = _recipes(table, *pair)
    if differ.empty:
        return [*shown, "their recipes do not differ"]
    heading = "What differs in the recipes"
    return [*shown, "", terminal.table(differ, heading, width=terminal.line())]


def _paired(table: Table, one: Row, other: Row) -> list[RenderableType]:
    """Seed by seed, with what lies between."""
    metric, lines = table.study.metric, []
    for seed in sorted({each.entry.seed for each in (*one.results, *other.results)}):
        ours, theirs = one.scores.get(seed), other.scores.get(seed)
        both = ours is not None and theirs is not None
        gap = points(metric, ours - theirs) if both else "–"  # type: ignore[operator]
        lines.append([str(seed), _score(metric, ours), _score(metric, theirs), gap])
    return narrow.blocks(["seed", one.arm, other.arm, "difference"], lines)


def _apart(table: Table, *rows: Row) -> list[RenderableType]:
    """Arms of seeds of their own: no run has another one beside it."""
    metric, study = table.study.metric, table.study
    places = {row.arm: place for place, row in enumerate(table.rows)}
    lines = [
        [row.arm, str(arms_of.own_seed(study, seed, places[row.arm])), _score(metric, score)]
        for row in rows
        for seed in sorted(each.entry.seed for each in row.results)
        for score in [row.scores.get(seed)]
    ]
    return narrow.blocks(["arm", "seed", metric], lines)


def _score(metric: str, score: float | None) -> str:
    return "–" if score is None else numbers.score(metric, score)


def _said(table: Table, arm: str, other: str) -> list[str]:
    found, metric = difference(table, arm, other), table.study.metric
    said = [f"{arm} beside {other}: {words.gap(table, found)}, {found.verdict}"]
    if found.gap.test:
        said.append(f"p = {words.p_value(found.gap.p)} ({found.gap.test}, this comparison alone)")
    if found.gap.rows_low is not None and found.gap.rows_high is not None:
        interval = span(metric, found.gap.rows_low, found.gap.rows_high)
        said.append(f"95 % interval over seeds and rows: {interval}")
    return [*said, found.rows] if found.rows else said


def _recipes(table: Table, *rows: Row) -> pd.DataFrame:
    """Dotted path x arm: of runs of the same seed where both have one, else of what the study would run."""
    by_seed = [{each.entry.seed: each for each in row.results if each.entry.run} for row in rows]
    common = [seed for seed in by_seed[0] if seed in by_seed[1]]
    for seed in common:
        runs = [Run(table.folder.run_url(found[seed].entry)) for found in by_seed]
        if all(store.exists(store.join(run.url, "recipe.yaml")) for run in runs):
            trees = map(results.tree, runs)
            return results.differences({row.arm: next(trees) for row in rows})
    plain: dict[str, Any] = {each.label: each.recipe.plain() for each in arms_of.arms(table.study)}
    return results.differences({row.arm: plain.get(row.arm, {}) for row in rows})
