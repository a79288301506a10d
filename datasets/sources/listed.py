"""Pictures that a .csv, .tsv or .jsonl file lists with their labels."""

from __future__ import annotations

from datasets.formats import files, lists, rows
from datasets.formats.rows import SPLITS
from datasets.source import Source


def build(
    *, path: str = "", root: str = "", image: str = "image", label: str = "label", split: str = ""
) -> Source:
    """`path` is the list; `image`, `label` and `split` are its columns (`label` or `split` '' for none).

    Paths are relative to `root`, a folder or archive, or else to the folder of the list. Classes are sorted: as numbers
    where all labels are. A row's split may be any word; there is one called train.

    Raises Refusal for an unknown column, an empty field, and a path that is absent, twice there or outside.
    """
    url = files.place(path, "listed")
    roles = {"image": image, "label": label, "split": split}
    wanted = {role: column for role, column in roles.items() if column}
    found = lists.read(url, wanted)
    tree, paths = lists.pictures(url, root, found)
    columns = dict(zip(wanted, zip(*(row.values for row in found), strict=True), strict=True))
    classes, labels = rows.numbered(columns["label"]) if label else ((), None)
    splits = [SPLITS.get(word.lower(), word) for word in columns["split"]] if split else None
    return rows.picture_source(
        "listed", tree.pictures(paths), paths, labels=labels, classes=classes, splits=splits
    )
