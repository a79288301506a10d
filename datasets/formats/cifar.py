"""CIFAR's two forms, python pickles and binary records (cs.toronto.edu/~kriz/cifar.html), of 32 x 32 colour pictures."""

from __future__ import annotations

import codecs
import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.formats import downloads, files
from datasets.formats.downloads import Published
from datasets.formats.trees import Tree
from datasets.refusal import Refusal
from datasets.source import Source

PIXELS = 3 * 32 * 32
# All that CIFAR's pickles name. Old ones say numpy.core, new ones numpy._core.
_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]
_KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}


@dataclass(frozen=True, slots=True)
class Form:
    """Where a release keeps what. Names are those below its folder; `labels` maps our columns to its keys.

    A binary record is one byte for each of `labels`, in reverse order, then the pixels.
    """

    train: tuple[str, ...]
    test: str
    names: Mapping[
        str, tuple[str, str]
    ]  # of each label: the file and, in a pickle, the key of its class names
    labels: Mapping[str, str]
    binary: bool


def build(
    name: str,
    path: str,
    published: Published,
    forms: tuple[Form, ...],
    class_counts: Mapping[str, int],
) -> Source:
    """The set below `path`, or the published one where it is empty. The id is the row, those of test after train's.

    Raises Refusal for a file that is absent or damaged, or that unpickles to anything but arrays, lists and words.
    """
    tree = files.open_tree(path or downloads.fetch(published), name)
    form = _form(tree, forms)
    tree = tree.rooted(form.test)
    parts = [_read(tree, file, form, class_counts) for file in (*form.train, form.test)]
    images = np.concatenate([images for images, _ in parts])
    ids = np.arange(len(images), dtype=np.int64)
    num_train = len(images) - len(parts[-1][0])
    labels = {
        column: np.concatenate([labels[column] for _, labels in parts]) for column in form.labels
    }
    return Source(
        name=name,
        kind="image",
        shape=(32, 32, 3),
        classes=_class_names(tree, form, class_counts["label"]),
        columns={"id": ids, "image": images, **labels},
        splits={"train": ids[:num_train], "test": ids[num_train:]},
    )


def _form(tree: Tree, forms: tuple[Form, ...]) -> Form:
    held = {name.rpartition("/")[2] for name in tree.names}
    for form in forms:
        if form.test in held and form.names["label"][0] in held:
            return form
    wanted = " nor ".join(form.test for form in forms)
    raise Refusal(
        f"has neither {wanted} with its names of classes",
        path=tree.path(),
        remedy="name the published archive, or the folder that it unpacks to",
    )


def _read(
    tree: Tree, file: str, form: Form, class_counts: Mapping[str, int]
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]]]:
    """images (N, 32, 32, 3) and each label (N,)."""
    where = tree.path(file)
    data, found = (_binary if form.binary else _pickled)(tree.read(file), where, form.labels)
    for column, labels in found.items():
        if len(labels) != len(data):
            raise _damaged(where, f"{len(data)} pictures have {len(labels)} labels")
        if len(labels) and not 0 <= labels.min() <= labels.max() < class_counts[column]:
            raise _damaged(
                where, f"labels {labels.min()} .. {labels.max()} of {class_counts[column]} classes"
            )
    # Rows are red, then green, then blue, each from top to bottom.
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), found


def _binary(
    data: bytes, where: str, labels: Mapping[str, str]
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]]]:
    record = len(labels) + PIXELS
    if len(data) % record or not data:
        raise _damaged(where, f"{len(data)} bytes are not records of {record}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    found = {
        column: rows[:, place].astype(np.int64) for place, column in enumerate(reversed([*labels]))
    }
    return rows[:, len(labels) :], found


def _pickled(
    data: bytes, where: str, labels: Mapping[str, str]
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]]]:
    held = unpickled(data, where)
    pixels = held.get("data")
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape[1:] != (PIXELS,)
    ):
        raise _damaged(where, f"'data' is no array of uint8 (N, {PIXELS})")
    found = {}
    for column, key in labels.items():
        values = held.get(key)
        if not isinstance(values, list) or not all(type(value) is int for value in values):
            raise _damaged(where, f"'{key}' is no list of integers")
        if any(abs(value) > 2**31 for value in values):
            raise _damaged(where, f"'{key}' has a value that is no label")
        found[column] = np.array(values, dtype=np.int64)
    return pixels, found


def _class_names(tree: Tree, form: Form, count: int) -> tuple[str, ...]:
    file, key = form.names["label"]
    where = tree.path(file)
    names: Any = tree.lines(file) if form.binary else unpickled(tree.read(file), where).get(key)
    fits = isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names)
    if not fits or len(set(names)) != count or len(names) != count:
        raise _damaged(where, f"there are not {count} names of classes")
    return tuple(name.strip() for name in names)


class _Unpickler(pickle.Unpickler):
    """Makes arrays, lists, dictionaries, numbers and words, and calls nothing else."""

    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")  # as Python 2 wrote them
        self.where = where

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise Refusal(
                f"the pickle asks for '{module}.{name}', which CIFAR has no use for",
                path=self.where,
                value=f"{module}.{name}",
                remedy="do not trust this file: get it again from its publisher",
            )
        return _KNOWN[module, name]


def unpickled(data: bytes, where: str) -> dict[str, Any]:
    """The dictionary of one of CIFAR's files. Raises Refusal for anything else, before it is run."""
    try:
        held = _Unpickler(data, where).load()
    except Refusal:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        MemoryError,
    ) as error:
        raise _damaged(where, f"{error or type(error).__name__}") from error
    if not isinstance(held, dict):
        raise _damaged(where, "it holds no dictionary")
    # bytes and not words, where it was written by Python 3 from what Python 2 wrote
    return {
        key.decode("latin1") if isinstance(key, bytes) else key: value
        for key, value in held.items()
    }


def _damaged(path: str, reason: str) -> Refusal:
    return Refusal(
        f"is cut short or damaged: {reason}", path=path, remedy="get it again from its publisher"
    )
