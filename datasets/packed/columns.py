"""The types a column may have, in words that a manifest holds: `int64`, `float32[15,3]`, `string`, `encoded`, `tiles`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Kind = Literal["image", "table"]

_WORDS = re.compile(r"^(int64|float32|uint8|string|encoded|tiles)(?:\[(\d{1,6}(?:,\d{1,6})*)\])?$")


@dataclass(frozen=True, slots=True)
class ColumnType:
    """`kind` of the values, and their shape beyond the row.

    string: text; encoded: a picture file's bytes; tiles: numbers of `datasets.pictures.tiles.index`, as many as there are.
    """

    kind: str
    inner: tuple[int, ...] = ()

    @classmethod
    def parse(cls, words: object) -> ColumnType | None:
        """The type that the words name, or None."""
        match = _WORDS.match(words) if isinstance(words, str) else None
        if not match:
            return None
        inner = tuple(int(n) for n in match[2].split(",")) if match[2] else ()
        numbers = match[1] in ("int64", "float32", "uint8")
        return cls(match[1], inner) if numbers or not inner else None

    def __str__(self) -> str:
        return f"{self.kind}[{','.join(map(str, self.inner))}]" if self.inner else self.kind

    @property
    def numeric(self) -> bool:
        """Whether its values make a tensor."""
        return self.kind in ("int64", "float32", "uint8")

    def least_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        """What a row takes in a shard at least; `shape` is that of raw pictures."""
        if not self.numeric:
            return 8  # where it ends, if nothing else
        inner = shape if name == "image" else self.inner
        return np.dtype(self.kind).itemsize * math.prod(inner)

    def arrow(self, name: str, shape: tuple[int, ...]) -> pa.DataType:
        """How it lies in a shard; `shape` is that of raw pictures."""
        if (name, self.kind) == ("image", "uint8"):
            return pa.binary(int(np.prod(shape)))
        if self.kind == "string":
            return pa.large_string()
        if self.kind == "encoded":
            return pa.large_binary()
        if self.kind == "tiles":
            return pa.large_list(pa.field("item", pa.uint32(), nullable=False))
        plain = pa.from_numpy_dtype(np.dtype(self.kind))
        return (
            pa.list_(pa.field("item", plain, nullable=False), int(np.prod(self.inner)))
            if self.inner
            else plain
        )


def type_of(name: str, values: Array) -> ColumnType | None:
    """The type of a column held in memory; None where there is none for it."""
    if values.dtype.kind == "U":
        return ColumnType("string")
    if values.dtype.kind == "O":
        return ColumnType("string") if all(isinstance(value, str) for value in values) else None
    if name == "image":
        return ColumnType("uint8") if values.dtype == np.uint8 else None
    kind = values.dtype.name
    return ColumnType(kind, values.shape[1:]) if kind in ("int64", "float32") else None


def allowed(name: str, kind: Kind, column: ColumnType) -> bool:
    """Whether a column of this name may have this type."""
    if name in ("id", "label"):
        return column == ColumnType("int64")
    if name == "image":
        return kind == "image" and column in (ColumnType("uint8"), ColumnType("encoded"))
    if name == "tiles":
        return kind == "image" and column.kind == "tiles"
    if name in ("height", "width") and kind == "image":
        return column == ColumnType("int64")
    return column.kind in ("float32", "string") or (column.kind == "int64" and kind == "image")
