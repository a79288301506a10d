"""Batches: the same on any world, from any step on, and each row once in evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import order, transforms
from datasets.batch import Batch
from datasets.order import Plan
from datasets.refusal import Refusal
from datasets.sampling.samplers import Shuffled
from datasets.shards import Dataset
from datasets.source import Source
from datasets.stream import EvalStream, TrainStream, View
from tests.datasets.streaming import shuffled


def joined(parts: list[Batch], name: str = "image") -> torch.Tensor:
    return torch.cat([part[name] for part in parts if not part.weightless])


def streams(dataset: Dataset, world: int, plan: Plan) -> list[TrainStream]:
    pipeline = [transforms.pad_crop(), transforms.flip()]
    return [
        shuffled(dataset, plan, seed=4, rank=r, world=world, view=View(transforms=pipeline))
        for r in range(world)
    ]


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize(("batch", "lanes"), [(64, 64), (35, 6), (50, 7)])
def test_global_batches_and_their_crops_are_the_same_for_any_world(
    packed: Dataset, world: int, batch: int, lanes: int
) -> None:
    plan = Plan(1797, batch, lanes, "keep")
    alone = list(streams(packed, 1, plan)[0].epoch(0, 2))
    ranks = [list(stream.epoch(0, 2)) for stream in streams(packed, world, plan)]
    assert {len(batches) for batches in ranks} == {len(alone)} == {plan.steps}
    for whole, *parts in zip(alone, *ranks, strict=True):
        for name in ("id", "label", "image"):
            assert torch.equal(whole[name], joined(list(parts), name))
        assert {part.key for part in parts} == {whole.key}


def test_rows_belong_together(packed: Dataset, source: Source) -> None:
    stream = shuffled(packed, Plan(1797, 64, 64), seed=0)
    assert len(stream) == 28
    batch = next(stream.epoch(0, 0))
    ids = batch["id"].numpy()
    assert np.array_equal(batch["image"].numpy(), source.columns["image"][ids])
    assert np.array_equal(batch["label"].numpy(), source.columns["label"][ids])
    assert batch["image"].dtype == torch.uint8 and batch["label"].dtype == torch.int64
    assert batch["image"].shape == (64, 8, 8, 1) and len(batch) == 64 and "label" in batch


@pytest.mark.parametrize("start", [0, 1, 17, 28, 29])
def test_position_is_one_integer(packed: Dataset, start: int) -> None:
    stream = streams(packed, 2, Plan(1797, 64, 10, "keep"))[1]
    whole, rest = list(stream.epoch(1, 3)), list(stream.epoch(1, 3, start=start))
    assert len(rest) == 29 - start
    for one, two in zip(whole[start:], rest, strict=True):
        assert torch.equal(one["image"], two["image"]) and one.key == two.key


def test_epochs_and_phases_differ_and_a_crop_belongs_to_its_epoch(packed: Dataset) -> None:
    stream = streams(packed, 1, Plan(1797, 64, 64))[0]
    first = {place: next(stream.epoch(*place)) for place in [(0, 0), (0, 1), (1, 0)]}
    ids = {tuple(batch["id"].tolist()) for batch in first.values()}
    assert len(ids) == 3 and len({batch.key for batch in first.values()}) == 3
    assert first[0, 0].key == order.key(4, 0, 0, 0)
    # Another batch size puts a sample into another step, with the same crop.
    other = streams(packed, 1, Plan(1797, 100, 10))[0]
    crops = {
        int(i): image
        for batch in other.epoch(0, 0)
        for i, image in zip(batch["id"], batch["image"], strict=True)
    }
    same = [
        torch.equal(crops[int(i)], image)
        for i, image in zip(first[0, 0]["id"], first[0, 0]["image"], strict=True)
        if int(i) in crops
    ]
    assert len(same) > 50 and all(same)


def test_two_transforms_of_one_kind_draw_apart(packed: Dataset) -> None:
    flip = transforms.flip()
    one = shuffled(packed, Plan(1797, 64, 64), seed=0)
    two = shuffled(packed, Plan(1797, 64, 64), seed=0, view=View(transforms=[flip, flip]))
    # Were their draws the same, the second would undo the first.
    assert not torch.equal(next(one.epoch(0, 0))["image"], next(two.epoch(0, 0))["image"])


def test_a_rank_without_a_sample_stays_in_step(table: Dataset) -> None:
    plan = Plan(10, 9, 9, "keep")
    last = [list(shuffled(table, plan, seed=0, rank=r, world=3).epoch(0, 0))[-1] for r in range(3)]
    assert sorted(batch.weightless for batch in last) == [False, True, True]
    assert {batch["id"].tolist()[0] for batch in last} == {
        int(table.columns("train")["id"][order.line(10, seed=0, phase=0, epoch=0)[9]])
    }
    assert all(len(batch) == 1 for batch in last)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_evaluation_reads_each_row_once_in_manifest_order(
    table: Dataset, world: int, batch: int
) -> None:
    ranks = [EvalStream(table, "train", batch=batch, rank=r, world=world) for r in range(world)]
    read = [part for rank in ranks for part in rank]
    assert [len(list(rank)) for rank in ranks] == [len(rank) for rank in ranks]
    assert max(len(part) for part in read) <= batch
    assert np.array_equal(joined(read, "x").numpy(), table.columns("train")["x"])
    assert not any(part.weightless for part in read)


def test_more_ranks_than_rows_evaluate_nothing(table: Dataset) -> None:
    ranks = [EvalStream(table, "train", batch=4, rank=r, world=12) for r in range(12)]
    assert sum(len(rank) for rank in ranks) == 10 and min(len(rank) for rank in ranks) == 0


def test_batches_may_be_written_to(packed: Dataset) -> None:
    """What is mapped from a shard is read-only; a batch never is."""
    before = packed.columns("test")["image"].copy()
    for batch in EvalStream(packed, "test", batch=64):
        batch["image"].zero_()
    next(shuffled(packed, Plan(100, 10, 10), split="test", seed=0).epoch(0, 0))["image"].zero_()
    assert np.array_equal(packed.columns("test")["image"], before)


def test_a_batch_moves_and_splits() -> None:
    batch = Batch({"id": torch.arange(10), "x": torch.arange(10.0)}, key=3, weightless=True)
    parts = list(batch.chunks(3))
    assert [len(part) for part in parts] == [3, 3, 4]
    assert torch.equal(torch.cat([part["x"] for part in parts]), batch["x"])
    assert all(part.key == 3 and part.weightless for part in parts)
    moved = batch.to("meta")
    assert moved["x"].device.type == "meta" and moved.key == 3 and moved.weightless
    with pytest.raises(KeyError):
        batch["label"]


def test_what_cannot_be_streamed_is_refused(
    packed: Dataset, table: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refusal, match="scale.workers=3 is more than data.lanes=2"):
        shuffled(packed, Plan(1797, 4, 2), seed=0, rank=0, world=3)
    with pytest.raises(Refusal, match="no split 'vall'"):
        EvalStream(packed, "vall", batch=4)
    with pytest.raises(Refusal, match="0 is not a batch"):
        EvalStream(packed, "test", batch=0)
    with pytest.raises(Refusal, match="is a table"):
        EvalStream(table, "train", batch=4, view=View(transforms=[transforms.flip()]))
    with pytest.raises(ValueError, match="a plan of 5 rows for a split of 100"):
        shuffled(packed, Plan(5, 1, 1), split="test", seed=0)
    monkeypatch.setattr(order, "WHOLE_BYTES", 1000)
    with pytest.raises(Refusal, match="split 'test' has") as caught:
        shuffled(packed, Plan(100, 4, 4), split="test", seed=0)
    assert caught.value.path == packed.url


def test_a_damaged_shard_stops_the_stream_before_it_starts(packed: Dataset) -> None:
    path = Path(packed.url, "train-00000.arrow")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(Refusal, match="train-00000.arrow: shard has"):
        shuffled(packed, Plan(1797, 64, 64), seed=0)


def test_mistakes_of_code_are_told_at_once(packed: Dataset) -> None:
    with pytest.raises(ValueError, match="rank 3 is not one of 3"):
        EvalStream(packed, "test", batch=4, rank=3, world=3)
    with pytest.raises(ValueError, match="views=0"):
        View(views=0)
    sampler = Shuffled(packed.manifest.split("train"), Plan(1797, 64, 64))
    with pytest.raises(ValueError, match="a sampler of 1797 rows for a split of"):
        TrainStream(packed, "test", sampler=sampler, seed=0)
