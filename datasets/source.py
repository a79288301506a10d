"""What a source hands to `pack`: columns in memory, pictures perhaps in files, and which rows belong to which split.

A source is one file in `datasets/sources/` whose door is `build(*, ...) -> Source`: keyword-only
arguments with plain annotations (builtins, Literal, tuple[...], None) and literal defaults, since
they are also read without importing the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets.packed.columns import Array, Kind, allowed, type_of
from datasets.refusal import Refusal

Columns: TypeAlias = Mapping[str, Array]


class Pictures(Protocol):
    """The encoded pictures (JPEG, PNG, ...) of a source, one a row, read when they are packed.

    Small and picklable, and read by several threads at once. `read` raises OSError or Refusal; what the bytes hold is
    the packer's to find out.
    """

    def __len__(self) -> int: ...

    def read(self, row: int) -> bytes:
        """The bytes of a row's file."""
        ...

    def name(self, row: int) -> str:
        """What a person looks for when it does not decode: its path, or archive and member."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """N rows, checked when they are made.

    `columns` has `id` (N,) int64, unique, not negative and stable between releases of the source; perhaps `label` (N,)
    int64, an index into `classes`; perhaps others of float32 or int64 (N, ...) or text (a box, parts, a caption).
    Pictures of one shape (H, W, C) are its column `image` (N, H, W, C) uint8; those in files are `pictures`, with
    `shape` (0, 0, C): C is 3, or 1 where all are gray. `splits` maps an official split to its row numbers, and is None
    where the source has none.

    Raises Refusal where the columns do not keep to this.
    """

    name: str
    kind: Kind
    columns: Columns
    shape: tuple[int, ...] = ()
    pictures: Pictures | None = None
    classes: tuple[str, ...] = ()
    splits: Mapping[str, NDArray[np.int64]] | None = None

    def __post_init__(self) -> None:
        for name, values in self.columns.items():
            found = type_of(name, values)
            fits = found is not None and allowed(name, self.kind, found)
            self._check(fits, f"column '{name}' is {values.dtype}, not {_wanted(name, self.kind)}")
            inner = self.shape if name == "image" else values.shape[1:]
            self._check(
                values.shape == (self.num_rows, *inner),
                f"column '{name}' has shape {values.shape}, not {(self.num_rows, *inner)}",
            )
        ids = self.columns["id"]
        self._check(len(np.unique(ids)) == len(ids), "ids are not unique")
        self._check(len(ids) == 0 or int(ids.min()) >= 0, "an id is negative")
        if self.pictures is not None:
            self._check("image" not in self.columns, "pictures are in memory or in files, not both")
            self._check(len(self.pictures) == len(ids), "there are not as many pictures as ids")
            self._check(
                self.shape in ((0, 0, 1), (0, 0, 3)), "pictures in files have shape (0, 0, C)"
            )
        held = "image" in self.columns or self.pictures is not None
        self._check(self.kind == "table" or held, "images need a column 'image'")
        if "label" in self.columns and self.num_rows:
            labels = self.columns["label"]
            low, high = int(labels.min()), int(labels.max())
            self._check(
                low >= 0 and high < len(self.classes),
                f"labels {low} .. {high} do not fit {len(self.classes)} classes",
            )
        if self.splits is not None:
            self._check("train" in self.splits, "there is no split 'train'")
            rows = np.concatenate([np.asarray(rows) for rows in self.splits.values()])
            self._check(len(np.unique(rows)) == len(rows), "a row is in two splits")
            for row in (rows.min(initial=0), rows.max(initial=0)):
                self._check(0 <= row < self.num_rows, f"a split has row {row} of {self.num_rows}")

    @property
    def num_rows(self) -> int:
        if "id" not in self.columns:
            self._check(False, "there is no column 'id'")
        return len(self.columns["id"])

    def _check(self, holds: bool, error: str) -> None:
        if not holds:
            raise Refusal(error, path=f"datasets/sources/{self.name}.py", remedy="mend its build()")


def _wanted(name: str, kind: Kind) -> str:
    others = "float32 or text" if kind == "table" else "float32, int64 or text"
    return {"id": "int64", "label": "int64", "image": "uint8"}.get(name, others)
