"""Caltech-UCSD Birds-200-2011: 11,788 photographs of 200 species, with boxes and parts (Wah et al. 2011)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.formats import downloads, files, rows
from datasets.formats.downloads import Published
from datasets.formats.trees import Tree
from datasets.refusal import Refusal
from datasets.source import Source

ARCHIVE = Published(
    url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
    checksum="md5:97eceeb196236b17998738112f37df78",
    name="CUB_200_2011.tgz",
)
# Of the column `parts`, in the order of parts/parts.txt.
PART_NAMES = (
    "back",
    "beak",
    "belly",
    "breast",
    "crown",
    "forehead",
    "left eye",
    "left leg",
    "left wing",
    "nape",
    "right eye",
    "right leg",
    "right wing",
    "tail",
    "throat",
)
PARTS = len(PART_NAMES)


def build(*, path: str = "") -> Source:
    """`path` is the folder CUB_200_2011 or its .tgz; without one, it is downloaded (1.1 GB).

    The split is the official one and the id the official number of the picture. Classes are in the official order,
    called "Black footed Albatross". Columns: `box` float32 (N, 4) left, top, width, height and `parts` float32
    (N, 15, 3) x, y, visible (0 or 1), all in pixels of the original picture.

    Raises Refusal where a text file is absent or does not fit the others.
    """
    tree = files.open_tree(path or downloads.fetch(ARCHIVE), "cub200").rooted("images.txt")
    names = _by_number(tree, "images.txt")
    classes = _by_number(tree, "classes.txt")
    labels = _of_each(tree, "image_class_labels.txt", names)
    train = _of_each(tree, "train_test_split.txt", names)
    for image, flag in zip(names, train, strict=True):
        _check(
            tree, "train_test_split.txt", flag in ("0", "1"), f"has '{flag}' for picture {image}"
        )
    paths = [f"images/{name}" for name in names.values()]
    for file in paths:
        _check(tree, "images.txt", file in tree, f"names '{file}', which is not there")
    number = {class_id: place for place, class_id in enumerate(sorted(classes, key=int))}
    for label in labels:
        _check(
            tree,
            "image_class_labels.txt",
            label in number,
            f"has class {label}, which classes.txt has not",
        )
    return rows.picture_source(
        "cub200",
        tree.pictures(paths),
        paths,
        labels=[number[label] for label in labels],
        classes=[_readable(classes[class_id]) for class_id in number],
        splits=["train" if flag == "1" else "test" for flag in train],
        more={
            "id": np.array([_integer(tree, name) for name in names], dtype=np.int64),
            "box": _boxes(tree, list(names)),
            "parts": _parts(tree, list(names)),
        },
    )


def _readable(folder: str) -> str:
    return folder.partition(".")[2].replace("_", " ") or folder


def _rows(tree: Tree, file: str, num_fields: int) -> list[list[str]]:
    """Fields of each line, the last one taking the rest of it."""
    fields = [line.split(maxsplit=num_fields - 1) for line in tree.lines(file)]
    for number, row in enumerate(fields, start=1):
        fits = len(row) == num_fields and row[0].isascii() and row[0].isdigit()
        _check(tree, file, fits, f"line {number} is not a number and {num_fields - 1} more fields")
    return fields


def _by_number(tree: Tree, file: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, value in _rows(tree, file, 2):
        _check(tree, file, number not in found, f"has two lines for {number}")
        found[number] = value.strip()
    return found


def _integer(tree: Tree, word: str) -> int:
    _check(tree, "images.txt", len(word) <= 18, f"has the number {word}")
    return int(word)


def _of_each(tree: Tree, file: str, names: dict[str, str]) -> list[str]:
    """The second field for each picture, in the order of images.txt."""
    found = _by_number(tree, file)
    for image in names:
        _check(tree, file, image in found, f"has no line for picture {image}")
    return [found[image] for image in names]


def _boxes(tree: Tree, images: list[str]) -> NDArray[np.float32]:
    numbers = _numbers(tree, "bounding_boxes.txt", _rows(tree, "bounding_boxes.txt", 5))
    found = {int(row[0]): row[1:] for row in numbers}
    for image in images:
        _check(tree, "bounding_boxes.txt", int(image) in found, f"has no line for picture {image}")
    return np.array([found[int(image)] for image in images], dtype=np.float32).reshape(-1, 4)


def _parts(tree: Tree, images: list[str]) -> NDArray[np.float32]:
    file = "parts/part_locs.txt"
    numbers = _numbers(tree, file, _rows(tree, file, 5))
    row_of = {int(image): row for row, image in enumerate(images)}
    parts = np.full((len(images), PARTS, 3), np.nan, np.float32)
    for image, part, *values in numbers:
        _check(tree, file, 1 <= part <= PARTS, f"has part {part:g} of picture {image:g}")
        if image in row_of:
            parts[row_of[int(image)], int(part) - 1] = values
    missing = np.flatnonzero(np.isnan(parts).any((1, 2)))
    _check(tree, file, not len(missing), f"has not all {PARTS} parts of {len(missing)} pictures")
    return parts


def _numbers(tree: Tree, file: str, fields: list[list[str]]) -> NDArray[np.float64]:
    try:
        numbers = np.array(fields, dtype=np.float64)
    except ValueError as error:
        raise _refusal(tree, file, f"has a field that is no number: {error}") from error
    _check(tree, file, bool(np.isfinite(numbers).all()), "has a number that is not finite")
    return numbers


def _check(tree: Tree, file: str, holds: bool, error: str) -> None:
    if not holds:
        raise _refusal(tree, file, error)


def _refusal(tree: Tree, file: str, error: str) -> Refusal:
    return Refusal(error, path=tree.path(file), remedy=f"get it again from {ARCHIVE.url}")
