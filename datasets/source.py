"""What a source hands to `pack`: columns in memory, and which rows belong to which split.

A source is one file in `datasets/sources/` whose door is `build(*, ...) -> Source`: keyword-only
arguments with plain annotations (builtins, Literal, tuple[...], None) and literal defaults, since
they are also read without importing the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets.refusal import Refusal

Kind = Literal["image", "table"]
Array: TypeAlias = NDArray[Any]  # of the type that `column_type` says, checked at run time
Columns: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Source:
    """N rows, checked when they are made.

    `columns` has `id` (N,) int64, unique and stable between releases of the source; perhaps
    `label` (N,) int64, an index into `classes`; of images `image` (N, *shape) uint8 with shape
    (H, W, C); of a table any (N,) float32 columns. `splits` maps an official split to its row
    numbers, and is None where the source has none.

    Raises Refusal where the columns do not keep to this.
    """

    name: str
    kind: Kind
    columns: Columns
    shape: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    splits: Mapping[str, NDArray[np.int64]] | None = None

    def __post_init__(self) -> None:
        for name, values in self.columns.items():
            expected = column_type(name, self.kind)
            self._check(
                values.dtype == expected, f"column '{name}' is {values.dtype}, not {expected}"
            )
            inner = self.shape if name == "image" else ()
            self._check(
                values.shape == (self.num_rows, *inner),
                f"column '{name}' has shape {values.shape}, not {(self.num_rows, *inner)}",
            )
        ids = self.columns["id"]
        self._check(len(np.unique(ids)) == len(ids), "ids are not unique")
        self._check(self.kind == "table" or "image" in self.columns, "images need a column 'image'")
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


def column_type(name: str, kind: Kind) -> np.dtype[np.generic]:
    """The one type a column may have, by its name."""
    if name in ("id", "label"):
        return np.dtype(np.int64)
    return np.dtype(np.uint8) if (kind, name) == ("image", "image") else np.dtype(np.float32)
