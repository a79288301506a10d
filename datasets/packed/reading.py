"""A manifest, read strictly: from bytes that nobody vouches for.

A manifest is written by the computer, but it travels, so nothing in it is believed: types, counts,
byte ranges, paths and the digest are checked, and a Refusal names the manifest and the value.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar, get_args

from datasets import store
from datasets.packed.columns import ColumnType, Kind, allowed
from datasets.packed.manifest import (
    FORMAT,
    NAME,
    Codec,
    Manifest,
    RecordBatch,
    Shard,
    Split,
    digest,
)
from datasets.refusal import Refusal

# Of a record batch, which is fetched into memory whole; those that are packed have 8 MiB.
MOST_BYTES = 2**30
REPACK = "the manifest is damaged: pack the data set again with launch.py pack"
T = TypeVar("T")


def read(url: str) -> Manifest:
    """The manifest of the data set at `url`; Refusal where there is none or it is not true."""
    path = store.join(url, NAME)
    if not store.exists(path):
        store.check_bucket(url)
        raise Refusal(
            f"no {NAME}: not a packed data set, or pack was interrupted",
            path=url,
            value=url,
            remedy="run launch.py pack",
        )
    return parsed(store.read_bytes(path), path)


def parsed(data: bytes, path: str) -> Manifest:
    """Raises Refusal naming `path` and the value where the bytes are not a true manifest."""
    return _Reader(path).manifest(data)


class _Reader:
    """Takes a manifest apart; `path` is named in every Refusal."""

    def __init__(self, path: str) -> None:
        self.path = path

    def check(self, holds: bool, error: str, value: object) -> None:
        if not holds:
            raise Refusal(error, path=self.path, value=value, remedy=REPACK)

    def typed(self, value: object, kind: type[T], where: str) -> T:
        # In Python True is an int; in a manifest it is a mistake.
        wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
        self.check(not wrong, f"{where} is {value!r:.60}, not {_words(kind)}", value)
        return value  # type: ignore[return-value]

    def record(
        self, value: object, keys: Sequence[str], where: str, optional: Sequence[str] = ()
    ) -> dict[str, object]:
        found = self.typed(value, dict, where)
        for key in keys:
            self.check(key in found, f"{where} has no '{key}'", sorted(found))
        for key in found:
            self.check(key in (*keys, *optional), f"{where} has an unknown '{key}'", key)
        return found

    def count(self, value: object, where: str, least: int = 0) -> int:
        number = self.typed(value, int, where)
        self.check(number >= least, f"{where} is {number}, less than {least}", number)
        return number

    def text(self, value: object, where: str) -> str:
        text = self.typed(value, str, where)
        self.check(text != "", f"{where} is empty", text)
        return text

    def list(self, value: object, kind: type[T], where: str) -> tuple[T, ...]:
        return tuple(self.typed(item, kind, where) for item in self.typed(value, list, where))

    def manifest(self, data: bytes) -> Manifest:
        try:
            found = json.loads(data)
        except ValueError as error:
            raise Refusal(f"is not JSON: {error}", path=self.path, remedy=REPACK) from error
        version = found.get("format") if isinstance(found, dict) else None
        self.check(version == FORMAT, f"has format {version!r}, this Manta reads {FORMAT}", version)
        del found["format"]
        keys = list(Manifest.__dataclass_fields__)
        record = self.record(found, keys, "the manifest")
        kind, codec = self.text(record["kind"], "kind"), self.text(record["codec"], "codec")
        self.check(kind in get_args(Kind), f"kind '{kind}' is not one of {get_args(Kind)}", kind)
        self.check(
            codec in get_args(Codec), f"codec '{codec}' is not one of {get_args(Codec)}", codec
        )
        splits = {
            self.text(name, "the name of a split"): self.split(split, f"split '{name}'")
            for name, split in self.typed(record["splits"], dict, "splits").items()
        }
        manifest = Manifest(
            name=self.text(record["name"], "name"),
            kind=kind,  # type: ignore[arg-type]
            codec=codec,  # type: ignore[arg-type]
            shape=self.list(record["shape"], int, "shape"),
            columns=self.typed(record["columns"], dict, "columns"),
            classes=self.list(record["classes"], str, "classes"),
            splits=splits,
            mean=self.list(record["mean"], float, "mean"),
            std=self.list(record["std"], float, "std"),
            packed=self.typed(record["packed"], dict, "packed"),
            digest=self.text(record["digest"], "digest"),
        )
        self.check_whole(manifest)
        return manifest

    def split(self, value: object, where: str) -> Split:
        record = self.record(value, ("rows", "content", "shards"), where, ("index",))
        shards = tuple(
            self.shard(shard, f"{where} shard {number}")
            for number, shard in enumerate(self.typed(record["shards"], list, f"{where} shards"))
        )
        rows = self.count(record["rows"], f"{where} rows")
        total = sum(shard.rows for shard in shards)
        self.check(rows == total, f"{where} says {rows} rows, its shards {total}", rows)
        index = (self.shard(record["index"], f"{where} index"),) if "index" in record else ()
        held = sum(shard.rows for shard in index) if index else rows
        self.check(rows == held, f"{where} says {rows} rows, its index {held}", rows)
        return Split(rows, self.text(record["content"], f"{where} content"), shards, index)

    def shard(self, value: object, where: str) -> Shard:
        record = self.record(value, ("path", "rows", "bytes", "batches"), where)
        path = self.text(record["path"], f"{where} path")
        inside = all(part not in ("", ".", "..") for part in path.split("/"))
        self.check(inside and "\\" not in path, f"{where} path '{path}' leaves the folder", path)
        size = self.count(record["bytes"], f"{where} bytes", 1)
        batches = tuple(
            self.batch(batch, size, f"{where} batch {number}")
            for number, batch in enumerate(self.typed(record["batches"], list, f"{where} batches"))
        )
        for one, two in pairwise(batches):
            self.check(
                one.offset + one.length <= two.offset, f"{where} batches overlap", two.offset
            )
        rows = self.count(record["rows"], f"{where} rows", 1)
        total = sum(batch.rows for batch in batches)
        self.check(rows == total, f"{where} says {rows} rows, its batches {total}", rows)
        return Shard(path, rows, size, batches)

    def batch(self, value: object, size: int, where: str) -> RecordBatch:
        record = self.record(value, ("offset", "length", "rows", "checksum"), where)
        offset = self.count(record["offset"], f"{where} offset")
        length = self.count(record["length"], f"{where} length", 1)
        end = offset + length
        self.check(end <= size, f"{where} ends at byte {end} of a shard of {size}", end)
        checksum = self.text(record["checksum"], f"{where} checksum")
        hexadecimal = len(checksum) == 16 and set(checksum) <= set("0123456789abcdef")
        self.check(hexadecimal, f"{where} checksum '{checksum}' is not 16 digits", checksum)
        return RecordBatch(offset, length, self.count(record["rows"], f"{where} rows", 1), checksum)

    def check_whole(self, manifest: Manifest) -> None:
        """What must hold between the fields."""
        image = manifest.kind == "image"
        shape, columns, classes = manifest.shape, manifest.columns, manifest.classes
        if manifest.codec == "encoded":
            fits = image and shape in ((0, 0, 1), (0, 0, 3))
        else:
            fits = len(shape) == 3 and min(shape) > 0 if image else shape == ()
        self.check(fits, f"shape {list(shape)} is not that of a {manifest.kind}", shape)
        self.check("id" in columns, "there is no column 'id'", sorted(columns))
        self.check(not image or "image" in columns, "there is no column 'image'", sorted(columns))
        for name, kind in columns.items():
            column = ColumnType.parse(kind)
            fits = column is not None and allowed(name, manifest.kind, column)
            self.check(fits, f"column '{name}' is {kind!r}, which it cannot be", kind)
        if image:
            pixels = "encoded" if manifest.codec == "encoded" else "uint8"
            stored = columns["image"]
            self.check(stored == pixels, f"column 'image' is {stored!r}, not {pixels}", stored)
        wanted = {"height", "width", "tiles"} if manifest.codec == "encoded" else set()
        missing = sorted(wanted - set(columns))
        self.check(not missing, f"there is no column {missing}", sorted(columns))
        self.check(len(set(classes)) == len(classes), "two classes have one name", classes)
        channels = shape[-1] if image else 0
        for name, values in (("mean", manifest.mean), ("std", manifest.std)):
            right = len(values) == channels and all(map(math.isfinite, values))
            self.check(right, f"{name} {list(values)} does not fit {channels} channels", values)
        splits = manifest.splits.values()
        paths = [shard.path for split in splits for shard in split.shards]
        paths += [shard.path for split in splits for shard in split.index]
        for path, times in Counter(paths).items():
            self.check(times == 1, f"shard '{path}' is listed twice", path)
        self.check(bool(manifest.splits), "there are no splits", None)
        self.check_sizes(manifest)
        actual = digest(
            manifest.kind,
            manifest.codec,
            shape,
            columns,
            classes,
            manifest.splits,
            manifest.mean,
            manifest.std,
        )
        self.check(
            actual == manifest.digest,
            f"digest {manifest.digest:.12} is not that of its "
            f"content, {actual:.12}: it was changed after packing",
            manifest.digest,
        )

    def check_sizes(self, manifest: Manifest) -> None:
        """Rows fit into their record batches, and these into memory: asked before any is taken for them."""
        types = {name: ColumnType.parse(words) for name, words in manifest.columns.items()}
        row = sum(kind.least_bytes(name, manifest.shape) for name, kind in types.items() if kind)
        self.check(row <= MOST_BYTES, f"a row of these columns has {row} bytes at least", row)
        splits = manifest.splits.values()
        parts = [(shard, row) for split in splits for shard in split.shards]
        parts += [(shard, 8) for split in splits for shard in split.index]  # at least ids
        for shard, least in parts:
            for batch in shard.batches:
                where = f"a record batch of '{shard.path}'"
                size, needed = batch.length, batch.rows * least
                self.check(size <= MOST_BYTES, f"{where} has {size} bytes", size)
                fits = f"{where} has {batch.rows} rows, at least {needed} bytes, in {size}"
                self.check(needed <= size, fits, batch.rows)


def _words(kind: type) -> str:
    return {
        dict: "an object",
        list: "a list",
        str: "a text",
        int: "a whole number",
        float: "a number with a point",
    }.get(kind, kind.__name__)
