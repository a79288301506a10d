"""Several views of each picture: the first as if it were the only one, the others by draws of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import frames, shards, transforms
from datasets.batch import Batch
from datasets.order import Plan
from datasets.packing import encoded
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.stream import View
from tests.datasets.photographs import source as photographs
from tests.datasets.streaming import shuffled

NUM = 60
PIPELINE = (transforms.flip(), transforms.brightness())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("views")
    source, url = photographs(folder / "photographs", NUM), str(folder / "set")
    rows, options = {"train": np.arange(NUM)}, Options(tile=False)
    encoded.write(url, source, rows, name="views", options=options, packed={}, seed=0)
    return shards.open_dataset(url)


@pytest.fixture(params=["encoded", "raw"])
def dataset(request: pytest.FixtureRequest, pictures: Dataset, packed: Dataset) -> Dataset:
    return pictures if request.param == "encoded" else packed


def batches(
    dataset: Dataset, views: int, *, rank: int = 0, world: int = 1, start: int = 0, threads: int = 2
) -> list[Batch]:
    rows = dataset.manifest.split("train").rows
    frame = frames.random_resized_crop(mirror=0.5)
    view = View(frame, 24, PIPELINE, views=views, threads=threads)
    plan = Plan(rows, 40, 8, "keep")
    stream = shuffled(dataset, plan, seed=3, rank=rank, world=world, view=view)
    return list(stream.epoch(0, 1, start))


def test_the_first_view_is_the_only_one_of_one(dataset: Dataset) -> None:
    one, two = batches(dataset, 1), batches(dataset, 2)
    for alone, both in zip(one, two, strict=True):
        assert list(both.columns.keys() - alone.columns.keys()) == ["image_2"]
        assert all(torch.equal(column, both[name]) for name, column in alone.columns.items())


def test_each_view_has_draws_of_its_own(dataset: Dataset) -> None:
    for batch in batches(dataset, 3)[:2]:
        assert list(batch.pictures) == ["image", "image_2", "image_3"]
        first, second, third = batch.pictures.values()
        assert first.shape == second.shape == third.shape and second.dtype == torch.uint8
        for one, other in [(first, second), (first, third), (second, third)]:
            same = (one == other).flatten(1).all(1)
            assert same.float().mean() < 0.1


@pytest.mark.parametrize("world", [2, 3])
def test_views_are_the_same_for_any_world_threads_and_step(dataset: Dataset, world: int) -> None:
    whole = batches(dataset, 2)
    ranks = [batches(dataset, 2, rank=rank, world=world, threads=1) for rank in range(world)]
    for batch, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        for name, column in batch.columns.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), column)
    for one, other in zip(whole[1:], batches(dataset, 2, start=1), strict=True):
        assert torch.equal(one["image_2"], other["image_2"])


def test_views_without_transforms_do_not_share_memory(packed: Dataset) -> None:
    plan = Plan(1797, 64, 64)
    batch = next(shuffled(packed, plan, seed=0, view=View(views=2)).epoch(0, 0))
    assert torch.equal(batch["image"], batch["image_2"])
    batch["image"].zero_()
    assert batch["image_2"].any()


def test_views_of_what_has_none_are_refused(table: Dataset, tmp_path: Path) -> None:
    plan = Plan(10, 5, 5)
    with pytest.raises(Refusal, match="is a table, views are for images") as caught:
        shuffled(table, plan, seed=0, view=View(views=2))
    assert caught.value.path == "data.train.views"
    columns = {
        "image": np.zeros((10, 8, 8, 1), np.uint8),
        "image_2": np.zeros(10, np.float32),
        "id": np.arange(10),
        "label": np.zeros(10, np.int64),
    }
    url = str(tmp_path / "taken")
    shards.write(
        url,
        {"train": columns},
        name="taken",
        kind="image",
        shape=(8, 8, 1),
        classes=("one",),
        packed={},
    )
    taken = shards.open_dataset(url)
    with pytest.raises(Refusal, match="has a column 'image_2'"):
        shuffled(taken, plan, seed=0, view=View(views=2))
