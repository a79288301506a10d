"""Parquet files with a column of encoded pictures, as on the Hugging Face Hub: local, s3:// or hf://datasets/..."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from datasets import store
from datasets.formats import files, row_groups, rows
from datasets.formats.row_groups import ParquetPictures
from datasets.refusal import Refusal
from datasets.remote import redact
from datasets.source import Source

_CLIENTS = ("httpcore", "httpx", "httpx2", "huggingface_hub", "requests")


def build(
    *, path: str = "", image: str = "image", label: str = "label", caption: str = ""
) -> Source:
    """`path` is a file, a folder or a pattern; of s3:// and hf:// the files are copied to the cache folder first.

    `image` is a column of bytes, or of structs with them, `label` one of integers or words ('' for none; integers are
    named by a ClassLabel of the Hugging Face schema), `caption` one of words to keep under that name. Files named after
    train, validation or test are official splits. The column `path` is the file's name and the row in it.

    Raises Refusal for an unknown column or one of another type, and for rows without picture or label.
    """
    with _hub(path):
        folder, names = files.parts_of(path, "parquet", (".parquet",))
        paths = [row_groups.local_copy(store.join(folder, name)) for name in names]
    roles = {"image": image, "label": label, "caption": caption}
    where, wanted = redact(folder), [column for column in (label, caption) if column]
    tables: list[pa.Table] = []
    places: list[tuple[int, int, int]] = []
    for number, name in enumerate(names):
        with row_groups.readable(f"{where}/{name}"):
            opened = row_groups.opened(paths[number])
            schema = opened.schema_arrow
            _check_schema(schema, roles, f"{where}/{name}")
            tables.append(opened.read(columns=wanted))
            places += row_groups.places(opened, number, name)
    inner = f"{image}.bytes" if pa.types.is_struct(schema.field(image).type) else image
    labels, classes = _labels(tables, label, schema, where) if label else (None, ())
    words = {"caption": _words(tables, caption, where)} if caption else {}
    of_file = rows.splits_of(names)
    found = [f"{names[file]}/{row}" for file, row in _numbered(places)]
    return rows.picture_source(
        "parquet",
        ParquetPictures(
            paths, inner, places, np.array([f"{where}/{row}" for row in found], dtype=object)
        ),
        found,
        labels=labels,
        classes=classes,
        splits=[of_file[file] for file, _, _ in places] if of_file else None,
        more={name: np.array(values, dtype=object) for name, values in words.items()},
    )


def _numbered(places: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """(file, row in the file) of each row."""
    seen: dict[int, int] = {}
    for file, _, _ in places:
        seen[file] = seen.get(file, -1) + 1
        yield file, seen[file]


def _check_schema(schema: pa.Schema, roles: Mapping[str, str], where: str) -> None:
    for role, column in roles.items():
        if column and schema.get_field_index(column) < 0:
            raise rows.no_column(role, column, schema.names, where)
    image = roles["image"]
    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise Refusal(
            f"column '{image}' is {schema.field(image).type}, not bytes of pictures",
            path=where,
            value=image,
            remedy=f"name another with data.source.image; known: {', '.join(schema.names)}",
        )


def _labels(
    tables: Sequence[pa.Table], column: str, schema: pa.Schema, where: str
) -> tuple[list[int], tuple[str, ...]]:
    values = _values(tables, column, where)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return values, rows.named(values, _class_label(schema, column), where)
    if not all(isinstance(value, str) for value in values):
        raise Refusal(
            f"column '{column}' is {schema.field(column).type}, neither integers nor words",
            path=where,
            value=column,
            remedy="name another with data.source.label, or '' for none",
        )
    classes, labels = rows.numbered(values)
    return labels, classes


def _words(tables: Sequence[pa.Table], column: str, where: str) -> list[str]:
    values = _values(tables, column, where)
    if not all(isinstance(value, str) for value in values):
        raise Refusal(
            f"column '{column}' holds no words",
            path=where,
            value=column,
            remedy="name another with data.source.caption",
        )
    return values


def _values(tables: Sequence[pa.Table], column: str, where: str) -> list[Any]:
    values = [value for table in tables for value in table.column(column).to_pylist()]
    if None in values:
        raise Refusal(
            f"row {values.index(None)} has no '{column}'",
            path=where,
            value=None,
            remedy="remove it, or name another column",
        )
    return values


def _class_label(schema: pa.Schema, column: str) -> list[str]:
    """The names of classes that the Hugging Face metadata gives a column of numbers; [] for none."""
    try:
        held = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = held["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


@contextmanager
def _hub(path: str) -> Iterator[None]:
    """Turns what the Hub's client raises into a Refusal of its own: its errors share no class with those of files."""
    try:
        yield
    except Exception as error:
        met = error.__cause__ if isinstance(error, Refusal) else error
        client = type(met).__module__.partition(".")[0] in _CLIENTS
        network = isinstance(error, Refusal) and isinstance(met, ConnectionError)
        if not path.startswith("hf://") or not (client or network):
            raise
        raise Refusal(
            f"cannot be had from the Hub: {error.error if isinstance(error, Refusal) else error}",
            path=path,
            value=path,
            remedy="check the name, the network and HF_TOKEN, or copy the files and name their folder",
        ) from error
