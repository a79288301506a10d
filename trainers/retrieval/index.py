"""An index: one Arrow file of features with ids, labels and thumbnails; its schema says how a picture is embedded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datasets import store
from datasets.refusal import Refusal
from datasets.remote import explained
from trainers.build import Shape
from trainers.retrieval.embedder import Features, Metric
from trainers.retrieval.jobs import Piece

FORMAT = 1
NAME = "index.arrow"
KEY = b"manta"
COLUMNS = ("id", "split", "label", "path", "thumbnail", "feature")


@dataclass(frozen=True)
class Index:
    """An index, opened. Raises Refusal where it is none, or not whole."""

    url: str
    about: Mapping[str, Any]  # metric, recipe, shape, codec, weights, data, classes, approximate
    table: pa.Table

    @classmethod
    def open(cls, url: str) -> Index:
        """Of a folder, or of its file."""
        folder = url.rstrip("/").removesuffix(f"/{NAME}")
        file = store.join(folder, NAME)
        if not store.exists(file):
            raise Refusal(
                f"no index here (no {NAME})",
                path=url,
                value=url,
                remedy="make one: `python launch.py retrieve index --help`",
            )
        try:
            table = pa.ipc.open_file(_buffer(file)).read_all()
            about = json.loads((table.schema.metadata or {})[KEY])
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise Refusal(
                f"is no index, or not a whole one: {' '.join(str(error).split())[:200]}",
                path=file,
                remedy="make it again, or copy it again",
            ) from None
        if about.get("format") != FORMAT or tuple(table.column_names) != COLUMNS:
            raise Refusal(
                f"is an index of format {about.get('format')} with {', '.join(table.column_names)}; "
                f"this Manta reads format {FORMAT} with {', '.join(COLUMNS)}",
                path=file,
                value=about.get("format"),
                remedy="make it again",
            )
        return cls(folder, about, table)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def metric(self) -> Metric:
        found: Metric = self.about["metric"]
        return found

    @property
    def classes(self) -> list[str]:
        return list(self.about["classes"])

    @property
    def identity(self) -> str:
        return identity(self.about)

    @property
    def shape(self) -> Shape:
        """What the model is built for, and how it is shown its pictures."""
        tree: dict[str, Any] = self.about["shape"]
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in tree.items()}
        return Shape(**given)

    @cached_property
    def features(self) -> Features:
        """(N, D) float32, in the order of the file."""
        width = self.table.schema.field("feature").type.list_size
        chunks = [chunk.flatten().to_numpy() for chunk in self.table["feature"].chunks]
        whole = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        return whole.reshape(-1, width)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.table["id"].to_numpy()
        return found

    @cached_property
    def splits(self) -> NDArray[np.object_]:
        """The name of each row's split."""
        return np.asarray(self.table["split"].to_pylist(), object)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class of each row, -1 where it has none."""
        found: NDArray[np.int64] = self.table["label"].fill_null(-1).to_numpy()
        return found

    def thumbnail(self, row: int) -> bytes:
        """What the model saw, reduced: a PNG or a JPEG."""
        return bytes(self.table["thumbnail"][row].as_py())

    def told(self, row: int) -> dict[str, Any]:
        """`{id, split, label, class, path}` of a row; without what it has not."""
        found: dict[str, Any] = {"id": int(self.ids[row]), "split": str(self.splits[row])}
        label, path = int(self.labels[row]), self.table["path"][row].as_py()
        if label >= 0:
            found |= {"label": label, "class": self.classes[label]}
        return found if path is None else {**found, "path": path}

    def row_of(self, picture: int, split: str | None = None) -> int:
        """The row of an id. Raises Refusal where there is none, or there are several."""
        rows = np.flatnonzero((self.ids == picture) & (split is None or self.splits == split))
        if len(rows) != 1:
            raise Refusal(
                f"{'no picture' if not len(rows) else f'{len(rows)} pictures'} of the index "
                f"{'has' if not len(rows) else 'have'} this id",
                path="--id",
                value=picture,
                remedy=f"its ids go from {self.ids.min()} to {self.ids.max()}",
            )
        return int(rows[0])


def identity(about: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits: equal for indexes of the same features of the same pictures, wherever they were made."""
    content = {key: about[key] for key in ("format", "metric", "shape", "codec", "data", "classes")}
    frame = about["recipe"]["data"]["eval"]
    told = {**content, "eval": frame, "weights": about["weights"]["digest"]}
    text = json.dumps({**told, "approximate": about["approximate"]}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write(url: str, about: Mapping[str, Any], pieces: Iterator[Piece]) -> None:
    """Write an index into a folder, whole or not at all, as the pieces come."""
    with _without_a_trace(url), store.placing(store.join(url, NAME)) as path:
        first = next(pieces)
        metadata = {KEY: json.dumps(about, sort_keys=True).encode()}
        schema = _schema(first.features.shape[1]).with_metadata(metadata)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_batch(_batch(first, schema))
            for piece in pieces:
                writer.write_batch(_batch(piece, schema))


@contextmanager
def _without_a_trace(url: str) -> Iterator[None]:
    """A folder that is made for what fails is taken away again; in object storage there are none."""
    begun = store.exists(url)
    try:
        yield
    except BaseException:
        if not begun and not store.is_remote(url):
            with suppress(OSError):
                store.path_of(url).rmdir()
        raise


def _schema(width: int) -> pa.Schema:
    kinds = (pa.int64(), pa.string(), pa.int64(), pa.string(), pa.binary())
    all_kinds = (*kinds, pa.list_(pa.float32(), width))
    return pa.schema([pa.field(name, kind) for name, kind in zip(COLUMNS, all_kinds, strict=True)])


def _batch(piece: Piece, schema: pa.Schema) -> pa.RecordBatch:
    rows, width = piece.features.shape
    labels = pa.nulls(rows, pa.int64()) if piece.labels is None else pa.array(piece.labels)
    flat = pa.array(np.ascontiguousarray(piece.features).reshape(-1))
    columns = [
        pa.array(piece.ids),
        pa.array([piece.job.split] * rows, pa.string()),
        labels,
        pa.nulls(rows, pa.string()) if piece.paths is None else pa.array(piece.paths, pa.string()),
        pa.array(piece.thumbnails, pa.binary()),
        pa.FixedSizeListArray.from_arrays(flat, width),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _buffer(file: str) -> Any:
    if store.is_remote(file):
        return pa.BufferReader(store.read_bytes(file))
    with explained("read", file):
        return pa.memory_map(str(store.path_of(file)))
