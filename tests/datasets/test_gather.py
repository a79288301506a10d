"""Encoded pictures as batches: the same pixels as Pillow's, the same batches for any threads, ranks, place and step."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import frames, shards, store, transforms
from datasets.gather import Ahead, Order
from datasets.order import Plan
from datasets.packing import encoded
from datasets.pictures import prepare
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.source import Source
from datasets.stream import EvalStream, View
from tests.datasets.photographs import source as photographs
from tests.datasets.streaming import same, shuffled

NUM, SIZE = 150, 24
CROPS = View(frames.random_resized_crop(mirror=0.3), SIZE, [transforms.flip()], threads=2)
CENTER = View(frames.center(), SIZE, threads=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return photographs(tmp_path_factory.mktemp("photographs"), NUM)


@pytest.fixture(scope="module")
def pictures(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """All photographs as one split, in several shards."""
    url = str(tmp_path_factory.mktemp("packed") / "set")
    write(source, url)
    return shards.open_dataset(url)


def write(source: Source, url: str, *, tile: bool = False) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.packing.writing.SMALL_SHARD_BYTES", 100_000)
        splits = {"train": np.arange(NUM)}
        options = Options(tile=tile)
        encoded.write(url, source, splits, name="photographs", options=options, packed={}, seed=0)


def train(
    dataset: Dataset,
    view: View = CROPS,
    *,
    rank: int = 0,
    world: int = 1,
    epoch: int = 0,
    start: int = 0,
) -> list[dict[str, torch.Tensor]]:
    plan = Plan(NUM, 32, 32, "keep")
    stream = shuffled(dataset, plan, seed=3, rank=rank, world=world, view=view)
    return [dict(batch.columns) for batch in stream.epoch(0, epoch, start)]


def test_an_epoch_shows_each_picture_once(pictures: Dataset) -> None:
    batches = train(pictures)
    assert [tuple(batch["image"].shape) for batch in batches[:4]] == [(32, SIZE, SIZE, 3)] * 4
    ids = torch.cat([batch["id"] for batch in batches])
    assert sorted(ids.tolist()) == [row * 10 for row in range(NUM)]
    for batch in batches:
        assert torch.equal(batch["label"], batch["id"] // 10 % 2)
        assert torch.equal(batch["box"][:, 0], (batch["id"] // 10).float())
        assert batch["image"].dtype == torch.uint8


def test_pixels_are_pillows(pictures: Dataset, source: Source) -> None:
    """The middle of each picture, decoded and resized by other means: within a gray level or two."""
    assert source.pictures is not None
    for batch in EvalStream(pictures, "train", batch=50, view=CENTER):
        for own, image in zip(batch["id"].tolist(), batch["image"], strict=True):
            picture = Image.open(io.BytesIO(source.pictures.read(own // 10))).convert("RGB")
            sizes = np.array([picture.height]), np.array([picture.width])
            top, left, tall, wide = frames.center()(*sizes, np.array([own]), 0)[0, :4].tolist()
            cut = picture.crop((left, top, left + wide, top + tall))
            expected = np.asarray(cut.resize((SIZE, SIZE), Image.Resampling.BILINEAR), int)
            assert np.abs(image.numpy().astype(int) - expected).max() <= 2


def test_a_mirrored_picture_is_the_flipped_one(pictures: Dataset) -> None:
    plain = train(pictures, View(frames.random_resized_crop(), SIZE, threads=1))
    flipped = train(pictures, View(frames.random_resized_crop(mirror=1.0), SIZE, threads=1))
    for one, two in zip(plain, flipped, strict=True):
        difference = one["image"].flip(2).int() - two["image"].int()
        assert difference.abs().max() <= 1  # the kernel rounds from the left


def test_threads_do_not_change_a_pixel(pictures: Dataset) -> None:
    one = train(pictures, View(frames.random_resized_crop(), SIZE, threads=1))
    five = train(pictures, View(frames.random_resized_crop(), SIZE, threads=5))
    assert same(one, five)


@pytest.mark.skipif(prepare.jpegtran() is None, reason="jpegtran (libjpeg-turbo-progs) is missing")
def test_tiles_do_not_change_a_pixel(pictures: Dataset, source: Source, tmp_path: Path) -> None:
    write(source, str(tmp_path / "tiled"), tile=True)
    assert same(train(pictures), train(shards.open_dataset(str(tmp_path / "tiled"))))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_global_batches_are_the_same_for_any_world(pictures: Dataset, world: int) -> None:
    whole = train(pictures)
    ranks = [train(pictures, rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(whole):
        parts = [rank[step] for rank in ranks]
        for name, column in batch.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), column)


@pytest.mark.parametrize("start", [1, 3, 4])
def test_a_resumed_epoch_goes_on_to_the_bit(pictures: Dataset, start: int) -> None:
    assert same(train(pictures, epoch=2, start=start), train(pictures, epoch=2)[start:])


def test_epochs_differ_in_order_and_in_crops(pictures: Dataset) -> None:
    one, two = train(pictures, epoch=0), train(pictures, epoch=1)
    assert not torch.equal(one[0]["id"], two[0]["id"])
    by_id = [
        dict(
            zip(
                torch.cat([b["id"] for b in e]).tolist(),
                torch.cat([b["image"] for b in e]),
                strict=True,
            )
        )
        for e in (one, two)
    ]
    assert sum(not torch.equal(by_id[0][own], by_id[1][own]) for own in by_id[0]) > NUM * 0.9


def test_a_remote_set_gives_the_same_batches(pictures: Dataset, bucket: str) -> None:
    store.upload(pictures.url, f"{bucket}/set")
    remote = shards.open_dataset(f"{bucket}/set")
    assert same(train(remote), train(pictures))
    # Nothing is fetched twice: the second epoch needs no server.
    for split in remote.manifest.splits.values():
        for shard in split.shards:
            store.remove(f"{bucket}/set/{shard.path}")
    assert same(train(remote, epoch=1), train(pictures, epoch=1))


def test_leaving_an_epoch_stops_its_threads(pictures: Dataset) -> None:
    before = set(threading.enumerate())
    stream = shuffled(pictures, Plan(NUM, 8, 8), seed=0, view=CROPS)
    batches = stream.epoch(0, 0)
    next(batches)
    assert set(threading.enumerate()) - before
    batches.close()  # type: ignore[attr-defined]
    assert not set(threading.enumerate()) - before


def test_a_damaged_picture_is_named(source: Source, tmp_path: Path) -> None:
    """Bytes that carry the right checksum and still do not decode: packed so by somebody else."""
    url = str(tmp_path / "set")
    with pytest.MonkeyPatch.context() as patch:
        real = prepare.prepare

        def spoilt(
            data: bytes, options: Options, channels: int = 3, **how: bool
        ) -> prepare.Prepared:
            found = real(data, options, channels, **how)  # type: ignore[arg-type]
            return prepare.Prepared(b"\xff\xd8" + found.data[:20], *astuple(found)[1:])

        patch.setattr("datasets.packing.jobs.prepare", spoilt)
        write(source, url)
    with pytest.raises(Refusal, match="the picture with id"):
        train(shards.open_dataset(url))


def astuple(found: prepare.Prepared) -> tuple[object, ...]:
    return (found.data, found.height, found.width, found.tiles, found.sums)


def test_pictures_of_many_sizes_need_one(pictures: Dataset) -> None:
    with pytest.raises(Refusal) as caught:
        EvalStream(pictures, "train", batch=4)
    assert caught.value.path == "data.size"


def test_a_batch_does_not_change_when_the_next_is_made(pictures: Dataset) -> None:
    stream = shuffled(pictures, Plan(NUM, 16, 16), seed=0, view=CROPS)
    kept = [(batch, batch["image"].clone()) for batch in stream.epoch(0, 0)]
    assert all(torch.equal(batch["image"], image) for batch, image in kept)


def test_a_set_too_large_to_be_permuted_whole(
    pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same claims under the order of large sets: once each, any world, any step."""
    plain = train(pictures)
    monkeypatch.setattr("datasets.order.WHOLE_BYTES", 1000)
    whole = train(pictures)
    assert not torch.equal(plain[0]["id"], whole[0]["id"]), "another order"
    ids = torch.cat([batch["id"] for batch in whole])
    assert sorted(ids.tolist()) == [row * 10 for row in range(NUM)]
    ranks = [train(pictures, rank=rank, world=3) for rank in range(3)]
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([rank[step]["image"] for rank in ranks]), batch["image"])
    assert same(train(pictures, start=2), whole[2:])


class OneIsBad:
    """Rows of which the first is bad, and the others come when nobody is interested any more."""

    shape = (4, 4, 3)

    def __init__(self) -> None:
        self.waiting, self.interrupted = threading.Barrier(2), threading.Event()

    def prefetch(self, rows: np.ndarray) -> None:
        pass

    def take(self, rows: np.ndarray, frames: Sequence[int], out: Sequence[torch.Tensor]) -> dict:
        self.waiting.wait(30)
        if 0 in rows:
            raise Refusal("it is bad", path="row 0")
        assert self.interrupted.wait(30), "waited for to its end"
        return {"id": rows}

    def interrupt(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        assert self.interrupted.is_set()


def test_after_a_refusal_nobody_waits_for_the_other_threads_rows() -> None:
    orders = [Order(np.arange(start, start + 8), [], 0, 0) for start in (0, 8)]
    with pytest.raises(Refusal, match="it is bad"):
        list(Ahead(OneIsBad(), threads=2).batches(orders))
