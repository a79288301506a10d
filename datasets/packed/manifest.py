"""What a packed data set says about itself: manifest.json, which is written last and read by reading.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from datasets.packed.columns import Kind
from datasets.refusal import Refusal, nearest

FORMAT = 1
NAME = "manifest.json"

# raw: uint8 pixels of one shape; encoded: picture files of any size (shape (0, 0, C)), of which tiled JPEGs have an index
Codec = Literal["raw", "encoded"]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Bytes offset .. offset+length-1 of a shard: one Arrow message, what is fetched and summed."""

    offset: int
    length: int
    rows: int
    checksum: str  # xxh3_64 of the bytes, 16 hexadecimal digits


@dataclass(frozen=True, slots=True)
class Shard:
    """One Arrow IPC file; `path` is relative to the manifest's folder."""

    path: str
    rows: int
    bytes: int
    batches: tuple[RecordBatch, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """`content` is a hash of the columns' bytes in row order, however they are cut into shards.

    `index` holds the columns of all rows but pictures: who needs only labels reads no picture. Raw sets have none;
    a packed split has one shard of it, and a view that joins splits (folds.py) has one of each.
    """

    rows: int
    content: str
    shards: tuple[Shard, ...]
    index: tuple[Shard, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is known of a data set without reading a shard.

    `columns` maps each column to its numpy type; `mean` and `std` are those of the train split (of
    all folds together), per channel, of pixels in [0, 1]; `packed` tells from what and how the set
    was made. `digest` is the SHA-256 of what determines the content, so it moves with the data and
    not with the URL.
    """

    name: str
    kind: Kind
    codec: Codec
    shape: tuple[int, ...]
    columns: Mapping[str, str]
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    packed: Mapping[str, Json]
    digest: str

    @property
    def stored(self) -> str:
        """The digest of the set as it lies there, which this may be a view of: what caches know it by."""
        return str(self.packed.get("stored", self.digest))

    def split(self, name: str, said: str = "") -> Split:
        """Raises Refusal, with the nearest known one, for an unknown split; `said` is where a recipe names it."""
        if name not in self.splits:
            raise Refusal(
                f"'{self.name}' has no split '{name}'",
                path=said or f"data.splits.{name}",
                value=name,
                remedy=nearest(name, self.splits),
            )
        return self.splits[name]

    def to_json(self) -> bytes:
        tree = asdict(self)
        for split in tree["splits"].values():
            index = split.pop("index")
            assert len(index) <= 1, "views are never written"
            if index:
                split["index"] = index[0]
        return json.dumps({"format": FORMAT, **tree}, indent=1).encode()


def digest(
    kind: str,
    codec: str,
    shape: Sequence[int],
    columns: Mapping[str, str],
    classes: Sequence[str],
    splits: Mapping[str, Split],
    mean: Sequence[float],
    std: Sequence[float],
) -> str:
    """SHA-256 over canonical JSON; the cutting into shards, names, times and places are left out."""
    content = {
        "format": FORMAT,
        "kind": kind,
        "codec": codec,
        "shape": list(shape),
        "columns": dict(columns),
        "classes": list(classes),
        "splits": {name: [split.rows, split.content] for name, split in splits.items()},
        "mean": list(mean),
        "std": list(std),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
