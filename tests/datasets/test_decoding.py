"""Pictures that stay decoded: the same batches to the bit, and no shard is needed any more."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from datasets import frames, shards
from datasets.frames import Frame
from datasets.order import Plan
from datasets.packed.shelf import Shelf
from datasets.packing import encoded
from datasets.pictures import prepare
from datasets.pictures.decode import Bytes, Channels, Pixels, decode
from datasets.pictures.prepare import Options
from datasets.shards import Dataset
from datasets.stream import EvalStream, View
from tests.datasets.photographs import source as photographs
from tests.datasets.streaming import shuffled

NUM, ENOUGH = 60, 10**8


@pytest.fixture(scope="module", params=["tiled", "plain"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "tiled" and prepare.jpegtran() is None:
        pytest.skip("jpegtran (libjpeg-turbo-progs) is missing")
    folder = tmp_path_factory.mktemp("decoded")
    source, url = photographs(folder / "photographs", NUM), str(folder / "set")
    rows, options = {"train": np.arange(NUM)}, Options(tile=request.param == "tiled")
    encoded.write(url, source, rows, name="decoded", options=options, packed={}, seed=0)
    return url


def epochs(dataset: Dataset, view: View, num: int = 2) -> list[dict[str, torch.Tensor]]:
    stream = shuffled(dataset, Plan(NUM, 20, 20), seed=1, view=view)
    return [dict(batch.columns) for epoch in range(num) for batch in stream.epoch(0, epoch)]


@pytest.mark.parametrize(
    "frame",
    [frames.random_resized_crop(mirror=0.5), frames.center(), frames.whole()],
    ids=["random_resized_crop", "center", "whole"],
)
@pytest.mark.parametrize("views", [1, 2])
def test_batches_are_equal_to_the_bit(url: str, frame: Frame, views: int) -> None:
    dataset = shards.open_dataset(url)
    anew = epochs(dataset, View(frame, 24, views=views, threads=2))
    kept = epochs(dataset, View(frame, 24, views=views, threads=2, decoded_bytes=ENOUGH))
    for one, other in zip(anew, kept, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_decoded_needs_no_shard(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the next epoch nor another stream of the same data opens one."""
    dataset = shards.open_dataset(url)
    view = View(frames.random_resized_crop(), 24, threads=2, decoded_bytes=ENOUGH)
    expected = epochs(dataset, view)
    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "open", None)
        assert all(
            torch.equal(one["image"], other["image"])
            for one, other in zip(expected, epochs(dataset, view), strict=True)
        )
        evaluated = EvalStream(dataset, "train", batch=32, view=view)
        assert sum(len(batch) for batch in evaluated) == NUM


def test_too_many_bytes_are_said_once_and_none_are_kept(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = shards.open_dataset(url)
    columns = dataset.columns("train")
    needed = int((columns["height"] * columns["width"]).sum()) * 3
    view = View(frames.center(), 24, threads=1, decoded_bytes=needed - 1)
    with caplog.at_level(logging.WARNING):
        kept = epochs(dataset, view) + epochs(dataset, view)
    assert dataset.decoded("train", needed - 1) is None
    assert [r.getMessage() for r in caplog.records] == [
        f"decoded, the pictures of split 'train' have {needed} bytes, more than "
        f"scale.decoded_bytes={needed - 1}: none are kept"
    ]
    anew = epochs(dataset, View(frames.center(), 24, threads=1))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(anew, kept, strict=False))
    assert shards.open_dataset(url).decoded("train", needed) == {}


def test_a_picture_without_tiles_is_decoded_once_for_all_views(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(data: Bytes, channels: Channels) -> Pixels:
        calls.append(1)
        return decode(data, channels)

    monkeypatch.setattr("datasets.decoding.decode", counted)
    dataset = shards.open_dataset(url)
    epochs(dataset, View(frames.random_resized_crop(), 24, views=2, threads=1), num=1)
    tilings = dataset.shelf("train").open(0)["tiles"]  # all rows are one record batch
    assert len(tilings) == NUM
    assert len(calls) == sum(len(tilings[row]) == 0 for row in range(NUM))
