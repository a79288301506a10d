"""report.html of an explanation: one page that needs no network, no server and no other file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.page import Tile, render
from search import numbers
from search.explanation import hardest, pictures
from search.explanation.drawing import COLOURS
from search.explanation.gather import Explained, Shown
from search.sheets import WORST, Cell, Sheet

SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Card:
    """A picture of a sheet with its maps, each a data: URL and what it is of."""

    title: str
    more: str
    pictures: list[tuple[str, str]]


def html(said: Explained) -> str:
    filters: dict[str, Callable[..., Any]] = {
        "count": numbers.count,
        "percent": numbers.percent,
    }
    return render(Path(__file__).parent.parent / "explain.html.j2", context(said), filters)


def context(said: Explained) -> dict[str, Any]:
    """Everything that the template says."""
    wanted, classes = said.wanted, said.classes
    split = SPLITS.get(wanted.on, wanted.on)
    return {
        "name": said.subject.recipe.name,
        "run": said.subject.run.name,
        "split": split,
        "verdict": _verdict(said, split),
        "tiles": _tiles(said),
        "notes": _notes(said),
        "wrong": [_card(said, each) for each in said.wrong],
        "num_wrong": said.num_wrong,
        "right": [_card(said, each) for each in said.right],
        "matrix": _matrix(said),
        "names": [classes[label] for label in said.matrix],
        "wordy": any(len(classes[label]) > 3 for label in said.matrix),
        "left_out": len(set(said.chosen) - set(said.matrix)),
        "pairs": [pair.words(classes) for pair in said.pairs],
        "pointed": said.pointed,
        "parts": _parts(said),
        "pointing": _pointing(said),
        "misses": [
            (pictures.url(picture), f"{classes[said.found.labels[row]]}, id {said.found.ids[row]}")
            for row, picture in said.misses
        ],
        "embedded": said.embedded,
        "hard": _hard(said),
        "facts": _facts(said),
        "data": _data(said),
    }


def _verdict(said: Explained, split: str) -> str:
    own = np.isin(said.found.labels, said.chosen)
    rows, right = int(own.sum()), int((own & (said.found.labels == said.found.classes)).sum())
    of = "" if len(said.chosen) == len(said.classes) else " of the chosen classes"
    told = f"{numbers.count(right)} of {numbers.count(rows)} {split} pictures{of} are classified correctly."
    if not said.pairs:
        return f"{told} No two classes are taken for each other."
    return f"{told} Most confused: {said.pairs[0].words(said.classes)}."


def _tiles(said: Explained) -> list[Tile]:
    own = np.isin(said.found.labels, said.chosen)
    rows, right = int(own.sum()), int((own & (said.found.labels == said.found.classes)).sum())
    low, high = numbers.wilson(right / max(1, rows), rows)
    between = f"95 %: {numbers.percent(low)} to {numbers.percent(high)}"
    listed = [Tile("Accuracy", numbers.percent(right / max(1, rows)), between, "main")]
    listed.append(
        Tile("Mistakes", numbers.count(rows - right), f"of {numbers.count(rows)} pictures")
    )
    if said.wrong:
        first = said.wrong[0]
        named = f"{said.classes[first.true]} taken for {said.classes[first.told]}"
        listed.append(Tile("Surest mistake", numbers.percent(first.confidence), named, "bad"))
    if pointed := said.pointed:
        score = pointed.hits / max(1, pointed.rows)
        by_chance = f"{numbers.percent(pointed.chance)} by chance"
        listed.append(Tile("Looks into the box", numbers.percent(score), by_chance))
    if said.hard:
        forgot = int((said.hard.table["forgotten"] > 0).sum())
        listed.append(
            Tile(
                "Forgotten once or more",
                numbers.count(forgot),
                f"of {numbers.count(len(said.hard.table))} learnt from",
            )
        )
    return listed


def _notes(said: Explained) -> list[str]:
    opened = said.subject.run.summary.get("opened") or {}
    notes = []
    if said.wanted.on == "test":
        times = opened.get("test", 1)
        notes.append(
            f"This looks at the test split, which has been opened {times} times. What is chosen after looking "
            "here is chosen by the test."
        )
    if said.layer.side < 4:
        notes.append(
            f"The maps have {said.layer.side} × {said.layer.side} places: they tell halves of a picture apart, "
            "not parts. An earlier --layer shows more."
        )
    return notes


def _card(said: Explained, each: Shown) -> Card:
    true, told = said.classes[each.true], said.classes[each.told]
    shown = [(pictures.url(each.picture), "seen")]
    shown.append((pictures.url(each.told_map), f"for {told}"))
    if each.true_map is None:
        return Card(true, f"{numbers.percent(each.confidence)} · id {each.id}", shown)
    shown.append((pictures.url(each.true_map), f"for {true}"))
    more = f"{numbers.percent(each.confidence)} against {numbers.percent(each.true_probability)} · id {each.id}"
    return Card(f"{true}, taken for {told}", more, shown)


def _matrix(said: Explained) -> list[list[tuple[int, float, bool]]]:
    """(count, share of the true class, whether it has pictures) of each cell."""
    rows = []
    for true in said.matrix:
        whole = max(1, int(said.counts[true].sum()))
        rows.append(
            [
                (
                    int(said.counts[true, told]),
                    float(said.counts[true, told] / whole),
                    bool(said.cells.get((true, told))),
                )
                for told in said.matrix
            ]
        )
    return rows


def _pointing(said: Explained) -> str:
    pointed = said.pointed
    if not pointed or not pointed.rows:
        return ""
    score = pointed.hits / pointed.rows
    low, high = numbers.wilson(score, pointed.rows)
    flat = (
        f" {pointed.flat} maps are nothing anywhere, and count as misses." if pointed.flat else ""
    )
    return (
        f"In {numbers.count(pointed.hits)} of {numbers.count(pointed.rows)} pictures "
        f"({numbers.percent(score)}; 95 %: {numbers.percent(low)} to {numbers.percent(high)}) the maximum of the map for "
        f"the true class lies in the box, or beside it by no more than 15 pixels of 224. A point anywhere would in "
        f"{numbers.percent(pointed.chance)}.{flat}"
    )


def _parts(said: Explained) -> Sheet | None:
    pointed = said.pointed
    if not pointed or not pointed.parts:
        return None
    whole = max(1, sum(part.hits for part in pointed.parts))
    rows = []
    for part in pointed.parts:
        if not part.hits and not part.chance:
            continue  # never visible, or always behind another
        share = part.hits / whole
        rows.append(
            [
                Cell(part.name),
                Cell(numbers.count(part.hits), part.hits),
                Cell(numbers.percent(share), share, round(WORST * share, 3)),
                Cell(numbers.percent(part.chance), part.chance),
                Cell(
                    f"{share / part.chance:.1f} ×" if part.chance else "–",
                    share / max(part.chance, 1e-9),
                ),
            ]
        )
    return Sheet(["Nearest part", "Maxima", "Share", "By chance", "Against chance"], rows)


def _hard(said: Explained) -> dict[str, Any] | None:
    hard = said.hard
    if not hard:
        return None

    def listed(some: list[tuple[int, pd.Series]]) -> list[tuple[str, str, str]]:
        shown = []
        for row, line in some:
            source = said.album.thumbs[said.album.number["train", row]]
            times = (
                f"forgotten {line['forgotten']:.0f} ×"
                if line["forgotten"]
                else ("never right" if not line["right"] else "never forgotten")
            )
            told = f"loss {line['loss']:.2f} · {times}"
            shown.append(
                (source, said.classes[int(line["label"])], f"{told} · id {line['id']:.0f}")
            )
        return shown

    return {
        "sentence": hardest.sentence(hard.table),
        "hardest": listed(hard.hardest),
        "forgotten": listed(hard.forgotten),
    }


def _facts(said: Explained) -> list[tuple[str, str]]:
    layer, wanted = said.layer, said.wanted
    places = f"{layer.side} × {layer.side} places"
    tokens = ", each a token" if layer.kind == "tokens" else ""
    command = (
        f"python launch.py explain {said.subject.run.url} --on {wanted.on} --method {wanted.method}"
    )
    if wanted.layer:
        command += f" --layer {wanted.layer}"
    if wanted.classes:
        command += f" --classes '{','.join(wanted.classes)}'"
    return [
        ("Method", f"{wanted.method}, by the library grad-cam"),
        ("Layer", f"{layer.name}: {places}{tokens}"),
        ("Checkpoint", said.subject.saved.url.rsplit("/", 1)[-1]),
        ("Split", f"{wanted.on}, {numbers.count(len(said.found.ids))} pictures"),
        ("Classes", ", ".join(said.classes[label] for label in said.chosen[:30])),
        ("Command", command),
    ]


def _data(said: Explained) -> dict[str, Any]:
    """What the page's script draws from: small pictures, the rows of cells, points."""
    found, album = said.found, said.album
    rows = []
    for split, row in album.rows:
        if split == said.wanted.on:
            told, sure = int(found.classes[row]), round(float(found.confidence[row]), 3)
            rows.append([split, int(found.ids[row]), int(found.labels[row]), told, sure])
        else:
            rows.append([split, int(said.train_ids[row]), int(said.train_labels[row]), -1, 0])
    on = said.wanted.on
    cells = {
        f"{said.matrix.index(true)},{said.matrix.index(told)}": [
            album.number[on, row] for row in own
        ]
        for (true, told), own in said.cells.items()
    }
    planes: list[dict[str, Any]] = []
    which: list[int] = []
    labels: list[int] = []
    if embedded := said.embedded:
        which = [album.number["train", row] for row in embedded.train.tolist()]
        which += [album.number[on, row] for row in embedded.other.tolist()]
        labels = embedded.classes
        for plane in embedded.planes:
            points = np.concatenate([plane.train, plane.other])
            span = np.ptp(points, axis=0).max() or 1.0
            placed = (points - points.min(0)) / span
            planes.append({"name": plane.name, "points": placed.round(4).tolist()})
    return {
        "classes": list(said.classes),
        "matrix": said.matrix,
        "thumbs": album.thumbs,
        "rows": rows,
        "cells": cells,
        "planes": planes,
        "which": which,
        "labels": labels,
        "colours": len(COLOURS),
    }
