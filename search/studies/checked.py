"""What the guards have looked at, each with its verdict: a reader of a clean report sees that it was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets.shards import Dataset
from search import numbers
from search.studies.arms import Arm
from search.studies.rows import Result, Table

UNKNOWN = "not written down: the same command does, without a run more"


def sets(arms: Sequence[Arm], datasets: Mapping[str, Dataset], most: int) -> dict[str, Any]:
    """What study.json keeps of the data that the guards saw, by digest; beyond `most` rows ids are not compared."""
    found: dict[str, Any] = {}
    for arm in arms:
        manifest = datasets[arm.label].manifest
        rows = sum(split.rows for split in manifest.splits.values())
        kept: dict[str, Any] = {
            "kind": manifest.kind,
            "rows": rows,
            "ids": rows <= most,
            "allowed": [],
        }
        kept = found.setdefault(manifest.digest, kept)
        kept["allowed"] = sorted({*kept["allowed"], *arm.recipe.data.allow_leaks})
    return found


def verdicts(table: Table) -> list[tuple[str, str]]:
    """(guard, what it found)."""
    results = [each for row in table.rows for each in row.results]
    confounds = table.state.get("confounds") or ()
    return [
        (
            "Confounds",
            f"allowed by name, and beside the table: {'; '.join(confounds)}"
            if confounds
            else "none: the arms' recipes, parameter counts and loss scales differ in what is compared alone",
        ),
        *_leaks(table),
        ("Test split", _opened(table, results)),
        ("Ceiling", _ceiling(table)),
        ("Collapse and divergence", _lost(results)),
    ]


def _leaks(table: Table) -> list[tuple[str, str]]:
    seen: Mapping[str, Any] | None = table.state.get("sets")
    if seen is None:
        return [("Leaks between splits", UNKNOWN)]
    rows = numbers.count(sum(each["rows"] for each in seen.values()))
    among = f"among {rows} rows of {len(seen)} sets" if len(seen) > 1 else f"among {rows} rows"
    allowed = sorted({pair for each in seen.values() for pair in each["allowed"]})
    none = f"none {among}"
    if allowed:
        none = f"none but between {', '.join(allowed)}, which data.allow_leaks permits, {among}"
    ids = none if all(each["ids"] for each in seen.values()) else "not looked at: too many rows"
    said = [("Rows in two splits, by id", ids)]
    pictures = [digest for digest, each in seen.items() if each["kind"] == "image"]
    if not pictures:
        return said
    said.append(("Pictures in two splits, by their bytes", none))
    looked = table.state.get("lookalikes") or {}
    pairs = [pair for digest in pictures for pair in looked.get(digest, ())]
    if any(digest not in looked for digest in pictures):
        alike = "not looked at in all sets: they are mixtures or folds, or too large"
    else:
        near = [f"{pair[3]:,} of {pair[0]} look like {pair[1]}" for pair in pairs if pair[3]]
        alike = f"{'; '.join(near) or none}, by pixels and perceptual hash"
    return [*said, ("Pictures that look alike", alike)]


def _opened(table: Table, results: Sequence[Result]) -> str:
    often = [each for each in results if each.opened > 1]
    once = sum(each.opened == 1 for each in results)
    said = f"opened once by {_runs(once)}, at its end, and by none to choose anything"
    if not once and not often:
        return "not opened yet"
    return f"{said}; more than once by {_runs(len(often))}" if often else said


def _ceiling(table: Table) -> str:
    ceiling, study = table.study.best_possible, table.study
    if ceiling is None:
        return "none is declared"
    sign = 1 if study.upwards else -1
    over = sum(sign * score > sign * ceiling for row in table.rows for score in row.scores.values())
    return f"{_runs(over) if over else 'no run'} beyond {numbers.score(study.metric, ceiling)}"


def _lost(results: Sequence[Result]) -> str:
    states = [each.state for each in results]
    found = [f"{states.count(name)} {name}" for name in ("collapsed", "diverged") if name in states]
    ended = sum(state in ("finished", "stale", "collapsed", "diverged") for state in states)
    return f"{', '.join(found) or 'none'} of {_runs(ended)} that came to an end"


def _runs(count: int) -> str:
    return f"{numbers.count(count)} run{'' if count == 1 else 's'}"
