"""All that an explanation shows of a run, computed: maps of mistakes, confusion, where it looks, features, what was hard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cluster.explain import Predicted, Subject, pixels
from datasets import order
from search.explanation import features, hardest, mistakes, pictures, pointing
from search.explanation.features import Plane
from search.explanation.mistakes import Pair
from search.explanation.pictures import Pixels
from search.explanation.pointing import Pointed
from search.explanation.wanted import Wanted
from trainers import summary
from trainers.explaining.layers import Layer

MOST_CLASSES = 30  # of a matrix on a page
MOST_COLOURS = 10  # classes in a projection where nobody names some
MOST_PAIRS = 10
MOST_OF_CELL, MOST_RIGHT_OF_CELL, MOST_IN_CELLS = 24, 6, 900
MOST_HARD = 24
MOST_MISSES = 12

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Shown:
    """A picture with its heat: for the class that it was told as, and for its own where that is another one."""

    row: int
    id: int
    true: int
    told: int
    confidence: float
    true_probability: float
    picture: Pixels
    told_map: Pixels
    true_map: Pixels | None


@dataclass
class Album:
    """Small pictures of rows, each once; `number` is a row's place among them."""

    thumbs: list[str] = field(default_factory=list)
    rows: list[tuple[str, int]] = field(default_factory=list)
    number: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(self, subject: Subject, split: str, rows: Sequence[int]) -> None:
        new = [row for row in dict.fromkeys(rows) if (split, row) not in self.number]
        for row, picture in zip(new, subject.pictures(split, np.array(new, np.int64)), strict=True):
            self.number[split, row] = len(self.thumbs)
            self.thumbs.append(pictures.thumb(picture))
            self.rows.append((split, row))


@dataclass(frozen=True)
class Embedded:
    """Projections of the same rows of train and of the split that is explained."""

    classes: list[int]
    train: Rows
    other: Rows
    planes: list[Plane]
    cut: bool  # whether there were more rows


@dataclass(frozen=True)
class Hard:
    """What a ledger tells; `table` a row a sample, and the rows of train of those that are shown."""

    table: pd.DataFrame
    hardest: list[tuple[int, pd.Series]]
    forgotten: list[tuple[int, pd.Series]]


@dataclass
class Explained:
    """All of it."""

    subject: Subject
    wanted: Wanted
    layer: Layer
    chosen: list[int]
    found: Predicted
    counts: Rows
    pairs: list[Pair]
    wrong: list[Shown]
    num_wrong: int
    right: list[Shown]
    matrix: list[int]  # classes of the matrix
    cells: dict[tuple[int, int], list[int]]
    album: Album
    train_labels: Rows
    train_ids: Rows
    pointed: Pointed | None = None
    pointed_rows: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    misses: list[tuple[int, Pixels]] = field(default_factory=list)
    embedded: Embedded | None = None
    hard: Hard | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.subject.shape.classes


def gathered(subject: Subject, wanted: Wanted, chosen: list[int]) -> Explained:
    """Everything in turn; the test split is counted as opened once the model and its layer are known to be there."""
    split = wanted.on
    subject.dataset.manifest.split(split)
    layer = subject.layer(wanted.layer)
    if split == "test":
        summary.count_opening(subject.run.url, split)
    found = subject.predicted(split)
    counts = mistakes.confusion(found, len(subject.shape.classes))
    wrong = mistakes.wrong(found, chosen)
    right = mistakes.right(found, chosen, wanted.images)
    pairs = mistakes.pairs(counts, chosen, MOST_PAIRS)
    matrix = _matrix(counts, chosen, pairs)
    train = subject.dataset.columns("train")
    said = Explained(
        subject=subject,
        wanted=wanted,
        layer=layer,
        chosen=chosen,
        found=found,
        counts=counts,
        pairs=pairs,
        wrong=_shown(subject, wanted, layer, found, wrong[: wanted.images]),
        num_wrong=len(wrong),
        right=_shown(subject, wanted, layer, found, right),
        matrix=matrix,
        cells=_cells(found, counts, matrix),
        album=Album(),
        train_labels=train["label"],
        train_ids=train["id"],
    )
    said.album.add(subject, split, [row for rows in said.cells.values() for row in rows])
    _point(said)
    _embed(said)
    _hard(said)
    return said


def _matrix(counts: Rows, chosen: list[int], pairs: list[Pair]) -> list[int]:
    """The chosen classes and those that they are taken for; of many the most mistaken."""
    if len(chosen) > MOST_CLASSES:
        return mistakes.most_mistaken(counts, chosen, MOST_CLASSES)
    found = dict.fromkeys(chosen)
    for pair in pairs:
        if len(found | {pair.one: None, pair.two: None}) <= MOST_CLASSES:
            found |= {pair.one: None, pair.two: None}
    return sorted(found)


def _shown(
    subject: Subject, wanted: Wanted, layer: Layer, found: Predicted, rows: Rows
) -> list[Shown]:
    """Of rows that are all right, or all wrong."""
    told, true = found.classes[rows], found.labels[rows]
    batches = list(subject.batches(wanted.on, rows))
    told_maps = subject.maps(batches, told.tolist(), layer=layer, method=wanted.method)
    true_maps: NDArray[np.float32] | None = None
    if (told != true).any():
        true_maps = subject.maps(batches, true.tolist(), layer=layer, method=wanted.method)
    seen = pixels(batches)
    return [
        Shown(
            row=row,
            id=int(found.ids[row]),
            true=int(true[place]),
            told=int(told[place]),
            confidence=float(found.confidence[row]),
            true_probability=float(found.probabilities[row, true[place]]),
            picture=pictures.large(seen[place]),
            told_map=pictures.heated(seen[place], told_maps[place]),
            true_map=None if true_maps is None else pictures.heated(seen[place], true_maps[place]),
        )
        for place, row in enumerate(rows.tolist())
    ]


def _cells(found: Predicted, counts: Rows, matrix: list[int]) -> dict[tuple[int, int], list[int]]:
    """Rows of each cell, the most confident first; mistakes before what is right where there is no room for all."""
    places = [(true, told) for true in matrix for told in matrix if counts[true, told]]
    cells, left = {}, MOST_IN_CELLS
    for true, told in sorted(places, key=lambda cell: (cell[0] == cell[1], -counts[cell])):
        rows = np.flatnonzero((found.labels == true) & (found.classes == told))
        rows = rows[np.argsort(-found.confidence[rows], kind="stable")]
        most = min(left, MOST_RIGHT_OF_CELL if true == told else MOST_OF_CELL)
        cells[true, told] = rows[:most].tolist()
        left -= len(cells[true, told])
    return cells


def _point(said: Explained) -> None:
    """The pointing game over some rows of the chosen classes, where the data have boxes."""
    subject, wanted, found = said.subject, said.wanted, said.found
    if not wanted.pointing:
        return
    seed = subject.recipe.seed
    rows = features.chosen(found.labels, found.ids, said.chosen, wanted.pointing, seed)
    places = subject.places(wanted.on, rows)
    if places is None or not len(rows):
        return
    batches = list(subject.batches(wanted.on, rows))
    labels = found.labels[rows].tolist()
    maps = subject.maps(batches, labels, layer=said.layer, method=wanted.method)
    said.pointed, said.pointed_rows = pointing.play(maps, places), rows
    missed = np.flatnonzero(said.pointed.seen & ~said.pointed.inside)[:MOST_MISSES]
    seen = pixels(batches)
    for place in missed:
        drawn = pictures.heated(seen[place], maps[place])
        box, at, side = places.boxes[place], said.pointed.at[place], maps.shape[1]
        said.misses.append((int(rows[place]), pictures.marked(drawn, box / side, at / side)))


def _embed(said: Explained) -> None:
    """Features of train and of the split, in one projection each."""
    subject, wanted, found = said.subject, said.wanted, said.found
    if not wanted.embed:
        return
    seed, classes = subject.recipe.seed, said.chosen
    if len(classes) > MOST_COLOURS and not wanted.classes:
        classes = mistakes.most_mistaken(said.counts, classes, MOST_COLOURS)
    train = features.chosen(said.train_labels, said.train_ids, classes, wanted.points, seed)
    other = np.zeros(0, np.int64)
    if wanted.on != "train":
        other = features.chosen(found.labels, found.ids, classes, wanted.points, seed)
    if len(train) < features.FEWEST:
        return
    of_train = subject.features("train", train)
    of_other = subject.features(wanted.on, other) if len(other) else of_train[:0]
    planes = [
        features.PLANES[name](of_train, of_other, order.key(seed, name) % 2**31)
        for name in wanted.embed
    ]
    said.album.add(subject, "train", train.tolist())
    said.album.add(subject, wanted.on, other.tolist())
    there = np.isin(said.train_labels, classes).sum()
    if wanted.on != "train":
        there = max(there, np.isin(found.labels, classes).sum())
    said.embedded = Embedded(classes, train, other, planes, cut=bool(there > wanted.points))


def _hard(said: Explained) -> None:
    """The hardest and the most forgotten of the chosen classes, where there is a ledger."""
    table = hardest.told(said.subject.run)
    if table is None:
        return
    row_of = {own: row for row, own in enumerate(said.train_ids.tolist())}
    table = table[[own in row_of for own in table["id"]]]
    rows = np.array([row_of[own] for own in table["id"]], np.int64)
    table = table.assign(row=rows, label=said.train_labels[rows])
    table = table[table["label"].isin(said.chosen)]
    if not len(table):
        return

    def listed(some: pd.DataFrame) -> list[tuple[int, pd.Series]]:
        said.album.add(said.subject, "train", some["row"].tolist())
        return [(int(line["row"]), line) for _, line in some.iterrows()]

    hard = listed(hardest.hardest(table, MOST_HARD))
    said.hard = Hard(table, hard, listed(hardest.forgotten(table, MOST_HARD)))
