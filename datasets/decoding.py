"""Pictures in files: boxes are drawn, and only what they show is decoded and resized; or all of it, once, to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datasets.frames import Frame
from datasets.packed.columns import Array, ColumnType
from datasets.packed.records import Column, Ragged
from datasets.pictures.decode import Channels, Undecodable, cut, decode, show
from datasets.refusal import Refusal
from datasets.shards import Dataset


class Decoding:
    """A split's encoded pictures, each shown by its frame's box, `size` pixels a side.

    With `decoded_bytes` whole pictures stay in memory once they are decoded, where all of the split's fit.
    """

    def __init__(
        self, dataset: Dataset, split: str, *, frame: Frame, size: int, decoded_bytes: int = 0
    ) -> None:
        self.shelf, self.frame = dataset.shelf(split), frame
        self.channels: Channels = 1 if dataset.manifest.shape[2] == 1 else 3
        self.shape: tuple[int, ...] = (size, size, self.channels)
        types = {name: ColumnType.parse(words) for name, words in dataset.manifest.columns.items()}
        self.names = [name for name, kind in types.items() if kind is not None and kind.numeric]
        self.kept = dataset.decoded(split, decoded_bytes)
        # What is kept needs no shard any more: its other columns come from the index.
        self.index = None if self.kept is None else dataset.columns(split)

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        if self.kept is not None:
            rows = np.array([row for row in rows.tolist() if row not in self.kept], np.int64)
        self.shelf.prefetch(dict.fromkeys(self.shelf.locate(rows)[0].tolist()))

    def hold(self, rows: NDArray[np.int64]) -> None:
        for number in dict.fromkeys(self.shelf.locate(rows)[0].tolist()):
            self.shelf.open(number)

    def take(
        self, rows: NDArray[np.int64], frames: Sequence[int], out: Sequence[Tensor]
    ) -> dict[str, Array]:
        """Write each row's picture into its place of every view in `out`, (B, S, S, C) uint8; the other columns.

        Raises Refusal, naming the sample, for a picture that does not decode.
        """
        numbers, places = self.shelf.locate(rows)
        # What is kept decoded needs no shard; of the others each record batch is opened once, and held while it is shown.
        opened = (
            {} if self.index is not None else {n: self.shelf.open(n) for n in set(numbers.tolist())}
        )
        found = list(zip(numbers.tolist(), places.tolist(), strict=True))
        small = self._small(rows, found, opened)
        height, width, ids = small["height"], small["width"], small["id"]
        boxes = [self.frame(height, width, ids, key).tolist() for key in frames]
        images = [image.unbind() for image in out]  # half the time of an index each
        for at, (row, (number, place)) in enumerate(zip(rows.tolist(), found, strict=True)):
            shown = [(drawn[at], image[at]) for drawn, image in zip(boxes, images, strict=True)]
            try:
                self._show(row, opened.get(number) or number, place, shown)
            except Undecodable as error:
                raise Refusal(
                    f"the picture with id {int(ids[at])} {error}",
                    path=self.shelf.url,
                    remedy="pack the data set again, leaving out what does not decode",
                ) from error
        return small

    def interrupt(self) -> None:
        self.shelf.interrupt()

    def close(self) -> None:
        self.shelf.close()

    def _small(
        self,
        rows: NDArray[np.int64],
        found: Sequence[tuple[int, int]],
        opened: Mapping[int, dict[str, Column]],
    ) -> dict[str, Array]:
        """The columns that make tensors, one value a row."""
        if self.index is not None:
            return {name: self.index[name].take(rows, axis=0) for name in self.names}
        # Not np.stack, which looks at each value for a microsecond.
        return {
            name: np.array([opened[number][name][place] for number, place in found])
            for name in self.names
        }

    def _show(
        self,
        row: int,
        shelved: dict[str, Column] | int,
        place: int,
        shown: Sequence[tuple[list[int], Tensor]],
    ) -> None:
        """One picture into each of its views; its bytes are found once, in a record batch or by the number of one."""
        whole = None if self.kept is None else self.kept.get(row)
        if whole is None:
            columns = self.shelf.open(shelved) if isinstance(shelved, int) else shelved
            pictures, tilings = columns["image"], columns["tiles"]
            assert isinstance(pictures, Ragged) and isinstance(tilings, Ragged)
            data, tiles = pictures[place].data, tilings[place]
            if self.kept is None and (len(tiles) or len(shown) == 1):
                height, width = int(columns["height"][place]), int(columns["width"][place])
                for (top, left, tall, wide, mirror), out in shown:
                    box, flip = (top, left, tall, wide), bool(mirror)
                    show(data, box, out, height=height, width=width, tiles=tiles, mirror=flip)
                return
            whole = decode(data, self.channels)
            if self.kept is not None:
                self.kept[row] = whole
        for (top, left, tall, wide, mirror), out in shown:
            cut(whole, (top, left, tall, wide), out, mirror=bool(mirror))
