"""Why two runs may not be comparable, in sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.run import Run


@dataclass(frozen=True)
class Facts:
    """What decides whether a run may be held against another one."""

    status: str
    digest: Any  # of the set as it is stored: folds are views of one
    fold: Any
    splits: Any  # data.splits of the recipe, its seed aside
    split_seed: Any
    rows: Mapping[str, int]
    handling: Mapping[str, Any]  # what else is done to the data: subset, noise
    evaluated: Mapping[str, Any]
    keep: Any
    opened: int
    metrics: frozenset[str]

    @classmethod
    def of(cls, run: Run, tree: Mapping[str, Any]) -> Facts:
        """Read from a run's summary and data card, and from its recipe as a plain tree."""
        summary, data = run.summary, tree.get("data") or {}
        card = run.json("data.json")
        packed = card.get("packed") or {}
        splits: Any = data.get("splits")
        seed = None
        if isinstance(splits, Mapping):
            splits = {key: value for key, value in splits.items() if key != "seed"}
            seed = data["splits"].get("seed")
        return cls(
            status=str(summary.get("status", "unknown")),
            digest=packed.get("stored") or summary.get("data") or card.get("digest"),
            fold=packed.get("fold"),
            splits=splits,
            split_seed=seed,
            rows=_rows(card),
            handling={key: data.get(key) for key in ("subset", "noise")},
            evaluated={
                name: eval_.get("on") if isinstance(eval_, Mapping) else None
                for name, eval_ in (tree.get("evals") or {}).items()
            },
            keep=(tree.get("keep") or {}).get("metric"),
            opened=int((summary.get("opened") or {}).get("test", 0)),
            metrics=frozenset(summary.get("scores") or {}),
        )


def _rows(card: Mapping[str, Any]) -> dict[str, int]:
    rows: Any = card.get("rows")
    if isinstance(rows, Mapping):
        return {str(split): int(n) for split, n in rows.items()}
    return {split: sum(counts.values()) for split, counts in (card.get("counts") or {}).items()}


def among(facts: Mapping[str, Facts]) -> list[str]:
    """Everything that a reader of the comparison must know, gravest first."""
    return [*_data(facts), *_judging(facts), *_state(facts)]


def _data(facts: Mapping[str, Facts]) -> list[str]:
    found = []
    if _differ([fact.digest for fact in facts.values() if fact.digest]):
        digests = {name: str(fact.digest)[:12] for name, fact in facts.items()}
        found.append(f"The data differ ({_list(digests)}): scores are not comparable.")
    folds = {name: fact.fold for name, fact in facts.items()}
    if _differ(list(folds.values())):
        found.append(
            f"They are judged on different folds ({_list(folds)}): only their mean counts."
        )
    if _differ([fact.splits for fact in facts.values()]):
        splits = {name: json.dumps(fact.splits) for name, fact in facts.items()}
        found.append(f"The splits differ ({_list(splits)}): scores are not comparable.")
    elif not _differ(list(folds.values())) and _differ(
        [fact.rows for fact in facts.values() if fact.rows]
    ):
        rows = {name: json.dumps(dict(fact.rows)) for name, fact in facts.items()}
        found.append(f"The sizes of the splits differ ({_list(rows)}).")
    if _differ([fact.split_seed for fact in facts.values()]):
        seeds = {name: fact.split_seed for name, fact in facts.items()}
        found.append(f"The seeds of the splits differ ({_list(seeds)}): the rows are not the same.")
    for key in ("subset", "noise"):
        values = {name: fact.handling[key] for name, fact in facts.items()}
        if _differ(list(values.values())):
            found.append(f"data.{key} differs ({_list(values)}): they learnt from different data.")
    return found


def _judging(facts: Mapping[str, Facts]) -> list[str]:
    found = []
    for evaluator in sorted({name for fact in facts.values() for name in fact.evaluated}):
        on = {name: f.evaluated[evaluator] for name, f in facts.items() if evaluator in f.evaluated}
        if _differ(list(on.values())):
            found.append(f"The evaluator {evaluator} looked at different splits ({_list(on)}).")
    keeps = {name: fact.keep for name, fact in facts.items()}
    if _differ(list(keeps.values())):
        found.append(f"The checkpoints were chosen by different metrics ({_list(keeps)}).")
    everywhere = frozenset.intersection(*(fact.metrics for fact in facts.values()))
    if not everywhere and any(fact.metrics for fact in facts.values()):
        found.append("No score was measured in all of them.")
    return found


def _state(facts: Mapping[str, Facts]) -> list[str]:
    found = []
    for name, fact in facts.items():
        if fact.status != "finished":
            found.append(f"{name} is {fact.status}, not finished: its scores may not be its last.")
        if fact.opened > 1:
            found.append(f"{name} opened the test split {fact.opened} times.")
    return found


def _differ(values: list[Any]) -> bool:
    return len({json.dumps(value, sort_keys=True, default=str) for value in values}) > 1


def _list(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
