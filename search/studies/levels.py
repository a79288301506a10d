"""The factors of a study, each with its levels: what they change and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets.refusal import Refusal
from search.studies.fields import Changes
from search.studies.study import Study

_FOLDERS = ("init", "url", "path")  # whose values are files and folders


@dataclass(frozen=True)
class Level:
    """One value of a factor: what it is called, what it changes."""

    label: str
    value: Any
    changes: Changes


def factors_of(study: Study) -> dict[str, list[Level]]:
    """Name -> levels: recipes, arms, then the factors."""
    found: dict[str, list[Level]] = {}
    if isinstance(study.recipe, dict):
        found["recipe"] = [Level(label, label, {}) for label in study.recipe]
    if study.arms:
        found["arm"] = [Level(label, label, dict(said)) for label, said in study.arms.items()]
    for name, said in study.factors.items():
        if isinstance(said, dict):
            levels = [Level(label, label, dict(changes)) for label, changes in said.items()]
        else:
            labels = _labels(name, said)
            levels = [
                Level(label, value, {name: value})
                for label, value in zip(labels, said, strict=True)
            ]
        found[name] = levels
    for name, levels in found.items():
        _check_labels(name, levels)
    return found


def paths_of(study: Study, factor: str) -> list[str]:
    """The dotted paths that a factor of `factors_of` changes."""
    levels = factors_of(study)[factor]
    return list(dict.fromkeys(path for level in levels for path in level.changes))


def short_name(path: str) -> str:
    """`lr` of phases.0.optim.main.lr; of a part's name the part: `optim.name`."""
    *rest, last = path.split(".")
    if last == "name" and rest:
        return rest[-2] if rest[-1] == "main" and len(rest) > 1 else rest[-1]
    return last


def _check_labels(name: str, levels: list[Level]) -> None:
    place = {"recipe": "recipe", "arm": "arms"}.get(name, f"factors.{name}")
    if blank := [level.label for level in levels if not level.label.strip()]:
        raise Refusal(
            "a label is missing",
            path=place,
            value=blank[0],
            remedy="say {LABEL: {dotted.path: value}}" if place != "recipe" else "say LABEL: file",
        )


def _labels(path: str, values: list[Any]) -> list[str]:
    """What the values of a factor are called: `lr 0.1`, `no init`, of a folder its last name where that is one value's alone."""
    short, told = short_name(path), [_text(value) for value in values]
    if path.rpartition(".")[2] in _FOLDERS:
        last = [text.rstrip("/").rpartition("/")[2] for text in told]
        told = [
            name if name and last.count(name) == 1 else text
            for name, text in zip(last, told, strict=True)
        ]
    return [
        f"no {short}" if value is None else f"{short} {text}"
        for value, text in zip(values, told, strict=True)
    ]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        name = value.get("name")
        rest = [f"{key}={_text(item)}" for key, item in value.items() if key != "name"]
        return " ".join([*([str(name)] if name else []), *rest])
    return str(value)
