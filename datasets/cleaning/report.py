"""What was found of a set's labels: figures for programs, and one page for people that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.card import pictures
from datasets.card.pictures import Shown
from datasets.cleaning import detect
from datasets.cleaning.detect import Found
from datasets.cleaning.lists import Labels
from datasets.order import Integers
from datasets.page import Tile, render
from datasets.shards import Dataset

MOST_PICTURES = 48
MOST_CLASSES = 24  # of which a matrix is drawn
WAYS = {
    "kfold": "confident learning on the probabilities of models that had not learnt from the sample",
    "loss": "the probabilities that it was given over the epochs (their geometric mean); two Gaussians fitted to the losses say from where on it seems wrong",
    "neighbours": "confident learning on the votes of the nearest pictures",
}
DONE = {"drop": "dropped", "relabel": "relabelled", "downweight": "weighed down"}


@dataclass(frozen=True)
class Suspect:
    """A picture whose label is called wrong."""

    shown: Shown
    number: int  # its id
    given: str
    suggested: str
    score: float
    truth: str  # "", or whether it was wrong indeed


def told(
    dataset: Dataset, labels: Labels, found: Found, truly: NDArray[np.bool_] | None
) -> dict[str, Any]:
    """The figures of N labels as JSON types. `truly` (N,) says which are wrong, if it is known."""
    classes, wrong = dataset.manifest.classes, found.wrong
    num, count = len(labels.ids), int(wrong.sum())
    detector = None
    if truly is not None:
        detector = {**detect.precision_recall(wrong, truly), "wrong": int(truly.sum())}
    action = str(labels.made.get("action", "drop"))
    verdict = f"{count:,} of {num:,} labels ({count / num:.1%}) seem wrong, and are {DONE[action]}"
    if detector:
        verdict += (
            f"; of the {detector['wrong']:,} that noise has made wrong {detector['recall']:.1%} are among them, "
            f"and {detector['precision']:.1%} of them are wrong"
        )
    return {
        "verdict": verdict,
        "data": dataset.manifest.name,
        "rows": num,
        "wrong": count,
        "changed": int(labels.changed.sum()),
        "by": labels.made.get("by"),
        "action": action,
        "detector": detector,
        "classes": [
            _of_class(number, name, labels, wrong, classes) for number, name in enumerate(classes)
        ],
        "joint": None if found.joint is None else found.joint.round(1).tolist(),
        "made": dict(labels.made),
        "suspects": labels.ids[_suspicious(labels, wrong)][:MOST_PICTURES].tolist(),
    }


def _of_class(
    number: int, name: str, labels: Labels, wrong: NDArray[np.bool_], classes: tuple[str, ...]
) -> dict[str, Any]:
    own = labels.given == number
    hit = own & wrong
    others = labels.suggested[hit & (labels.suggested != number)]
    counts = np.bincount(others, minlength=len(classes))
    return {
        "class": name,
        "given": int(own.sum()),
        "wrong": int(hit.sum()),
        "suggested": classes[int(counts.argmax())] if len(others) else None,
        "suggested_rows": int(counts.max()) if len(others) else 0,
    }


def _suspicious(labels: Labels, wrong: NDArray[np.bool_]) -> Integers:
    """Labels that are called wrong, the lowest score first."""
    order = np.lexsort((labels.ids, labels.scores))
    return np.asarray(order[wrong[order]])


def html(
    dataset: Dataset,
    labels: Labels,
    found: Found,
    figures: Mapping[str, Any],
    *,
    rows: Integers,
    truly: NDArray[np.bool_] | None,
) -> str:
    """The page of what `told` found; `rows` (N,) are those of train that the labels belong to."""
    names = dataset.manifest.classes
    suspects = []
    if dataset.manifest.kind == "image":
        for place in _suspicious(labels, found.wrong)[:MOST_PICTURES].tolist():
            truth = "" if truly is None else "wrong" if truly[place] else "right"
            suspects.append(
                Suspect(
                    pictures.shown(dataset, "train", int(rows[place])),
                    int(labels.ids[place]),
                    names[labels.given[place]],
                    names[labels.suggested[place]],
                    float(labels.scores[place]),
                    truth,
                )
            )
    drawn = figures["joint"] is not None and len(names) <= MOST_CLASSES
    said = {
        "told": figures,
        "way": WAYS[str(figures["by"])],
        "done": DONE[str(figures["action"])],
        "suspects": suspects,
        "tiles": _tiles(figures),
        "matrix": _matrix(found.joint) if drawn else [],
        "names": names,
        "facts": [
            (name, _fact(value)) for name, value in figures["made"].items() if value is not None
        ],
        "relabelled": figures["by"] != "loss",
    }
    return render(Path(__file__).with_name("page.html.j2"), said, {"count": lambda n: f"{n:,}"})


def _fact(value: Any) -> str:
    """`symmetric, rate 0.1` of noise."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(each if key == "name" else f"{key} {each}" for key, each in value.items())


def _tiles(figures: Mapping[str, Any]) -> list[Tile]:
    num, wrong, detector = figures["rows"], figures["wrong"], figures["detector"]
    tiles = [
        Tile("labels to learn from", f"{num:,}"),
        Tile("seem wrong", f"{wrong:,}", f"{wrong / num:.1%}", "main"),
    ]
    if detector:
        told = "the noise is the recipe's own"
        tiles += [
            Tile("are wrong", f"{detector['wrong']:,}", told),
            Tile("precision", f"{detector['precision']:.3f}", "of those that seem wrong, are"),
            Tile("recall", f"{detector['recall']:.3f}", "of those that are wrong, seem so"),
            Tile("F1", f"{detector['f1']:.3f}"),
        ]
    return tiles


def _matrix(joint: NDArray[np.float64] | None) -> list[list[tuple[float, float]]]:
    """(count, share of its row) of each cell: rows are given labels, columns likely true ones."""
    assert joint is not None
    sums = np.maximum(joint.sum(1, keepdims=True), 1e-12)
    shares = joint / sums
    return [
        [(float(n), float(s)) for n, s in zip(row, own, strict=True)]
        for row, own in zip(joint, shares, strict=True)
    ]
