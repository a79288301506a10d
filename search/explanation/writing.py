"""What an explanation leaves behind: the page, its pictures as PNG, its numbers as CSV and JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from datasets import figures, store
from search import canvas
from search.explanation import drawing, page
from search.explanation.gather import Explained, Shown
from search.numbers import wilson

FOLDER = "explain"
# All that may be written: an older one's is removed, so that the folder is of one explanation.
FILES = (
    *("report.html", "explain.json", "wrong.png", "right.png", "pca.png", "tsne.png"),
    *("confusion.csv", "pairs.csv", "shown.csv", "points.csv", "pointing.csv", "hardest.csv"),
)


def write(said: Explained) -> dict[str, Any]:
    """Into `--out`, or the run's explain/: what was found, and the paths of what was written."""
    folder = said.wanted.out or store.join(said.subject.run.url, FOLDER)
    files = {"report.html": page.html(said).encode(), **_pictures(said), **_tables(said)}
    told = summary(said)
    files["explain.json"] = json.dumps(told, indent=1).encode()
    for name in FILES:
        url = store.join(folder, name)
        if name in files:
            store.write_bytes(url, files[name])
        elif store.exists(url):
            store.remove(url)
    written = {name: store.join(folder, name) for name in FILES if name in files}
    return {**told, "report": written["report.html"], "files": list(written.values())}


def summary(said: Explained) -> dict[str, Any]:
    """The numbers, and what they are of."""
    wanted, pointed, classes = said.wanted, said.pointed, said.classes
    told: dict[str, Any] = {
        "run": said.subject.run.url,
        "checkpoint": said.subject.saved.url,
        "split": wanted.on,
        "rows": len(said.found.ids),
        "wrong": int((said.found.classes != said.found.labels).sum()),
        "method": wanted.method,
        "layer": said.layer.name,
        "classes": [classes[number] for number in said.chosen],
        "pairs": [pair.words(classes) for pair in said.pairs],
    }
    if pointed:
        low, high = wilson(pointed.hits / max(1, pointed.rows), pointed.rows)
        told["pointing"] = {
            "score": pointed.hits / max(1, pointed.rows),
            "interval": [low, high],
            "rows": pointed.rows,
            "chance": pointed.chance,
            "flat": pointed.flat,
            "parts": {
                part.name: {"maxima": part.hits, "chance": part.chance} for part in pointed.parts
            },
        }
    if said.embedded:
        told["planes"] = {plane.name: plane.note for plane in said.embedded.planes}
    if said.hard:
        told["forgotten"] = int((said.hard.table["forgotten"] > 0).sum())
    return told


def _tables(said: Explained) -> dict[str, bytes]:
    names = np.array(said.classes)
    confusion = pd.DataFrame(said.counts, columns=names)
    confusion.insert(0, "true", names)
    tables = {"confusion.csv": confusion, "shown.csv": _listed(said)}
    tables["pairs.csv"] = pd.DataFrame(
        {
            "one": [names[pair.one] for pair in said.pairs],
            "two": [names[pair.two] for pair in said.pairs],
            "one_as_two": [pair.one_as_two for pair in said.pairs],
            "of_one": [pair.of_one for pair in said.pairs],
            "two_as_one": [pair.two_as_one for pair in said.pairs],
            "of_two": [pair.of_two for pair in said.pairs],
        }
    )
    if said.embedded:
        tables["points.csv"] = _points(said)
    if said.pointed:
        rows, pointed = said.pointed_rows, said.pointed
        tables["pointing.csv"] = pd.DataFrame(
            {
                "id": said.found.ids[rows],
                "true": names[said.found.labels[rows]],
                "x": pointed.at[:, 0],
                "y": pointed.at[:, 1],
                "seen": pointed.seen,
                "inside": pointed.inside,
                "nearest_part": list(pointed.nearest) or [""] * len(rows),
            }
        )
    if said.hard:
        table = said.hard.table.assign(true=names[said.hard.table["label"]])
        tables["hardest.csv"] = table.drop(columns=["row", "label"]).sort_values(
            ["loss", "id"], ascending=[False, True]
        )
    return {name: table.to_csv(index=False).encode() for name, table in tables.items()}


def _listed(said: Explained) -> pd.DataFrame:
    names = said.classes
    return pd.DataFrame(
        [
            {
                "sheet": sheet,
                "split": said.wanted.on,
                "id": each.id,
                "true": names[each.true],
                "predicted": names[each.told],
                "confidence": each.confidence,
                "true_probability": each.true_probability,
            }
            for sheet, shown in (("wrong", said.wrong), ("right", said.right))
            for each in shown
        ],
        columns=["sheet", "split", "id", "true", "predicted", "confidence", "true_probability"],
    )


def _points(said: Explained) -> pd.DataFrame:
    embedded = said.embedded
    assert embedded is not None
    names, parts = np.array(said.classes), []
    for split, rows in (("train", embedded.train), (said.wanted.on, embedded.other)):
        train = rows is embedded.train
        ids = said.train_ids if train else said.found.ids
        labels = said.train_labels if train else said.found.labels
        columns: dict[str, Any] = {"split": split, "id": ids[rows], "true": names[labels[rows]]}
        for plane in embedded.planes:
            points = plane.train if train else plane.other
            columns |= {f"{plane.name}_x": points[:, 0], f"{plane.name}_y": points[:, 1]}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _pictures(said: Explained) -> dict[str, bytes]:
    """Sheets of right and wrong, and the projections."""
    found = {}
    with canvas.style():
        for name, shown in (("wrong", said.wrong), ("right", said.right)):
            if shown:
                found[f"{name}.png"] = figures.png(_sheet(said, shown), dpi=100)
    for plane in said.embedded.planes if said.embedded else ():
        found[f"{plane.name}.png"] = figures.png(drawing.scattered(said, plane), dpi=150)
    return found


def _sheet(said: Explained, shown: list[Shown]) -> Any:
    """A picture, its heat for what it was told as and, of mistakes, its heat for what it is: side by side."""
    names = said.classes
    tiles, titles = [], []
    for each in shown:
        tiles += [each.picture, each.told_map]
        titles += [
            f"{names[each.true]}\nid {each.id}",
            f"for {names[each.told]}\n{100 * each.confidence:.0f} %",
        ]
        if each.true_map is not None:
            tiles.append(each.true_map)
            titles.append(f"for {names[each.true]}\n{100 * each.true_probability:.0f} %")
    wide = 6
    return figures.sheet(
        tiles, [_cut(title) for title in titles], wide=wide, cell=(1.3, 1.6), fontsize=7
    )


def _cut(title: str) -> str:
    return "\n".join(line if len(line) <= 22 else f"{line[:21]}…" for line in title.split("\n"))
