"""CutMix and MixUp: torchvision's arithmetic, partners of the global batch, the same on any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from datasets import mixing, order, transforms
from datasets.batch import Batch
from datasets.mixing import Mixing
from datasets.order import Plan
from datasets.sampling.samplers import Shuffled
from datasets.shards import Dataset
from datasets.stream import TrainStream, View

KEY = order.key("a batch")


def batch(rows: int = 8, key: int = KEY) -> Batch:
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(rows, 3, 13, 17, generator=draw)
    label = torch.randint(0, 5, (rows,), generator=draw)
    return Batch({"image": image, "label": label, "id": torch.arange(rows)}, key)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("number", range(8))
def test_it_is_torchvisions_arithmetic(kind: str, number: int) -> None:
    given = batch(key=order.extended(KEY, number))
    found = Mixing([getattr(mixing, kind)()], 5)(given)
    label, image = given["label"], given["image"]
    own = found["label"].gather(1, label[:, None])[:, 0]
    share = own[label != label.roll(1)][0]  # of a sample whose partner is of another class
    theirs = (v2.MixUp if kind == "mixup" else v2.CutMix)(num_classes=5)
    params = {"lam": float(share), "labels": label, "batch_size": 8, "num_classes": 5}
    if kind == "cutmix":
        box = changed_box(image, found["image"])
        params |= {"box": box, "lam_adjusted": float(share)}
        area = (box[2] - box[0]) * (box[3] - box[1])
        assert float(share) == pytest.approx(1 - area / (13 * 17), abs=1e-6)
    torch.testing.assert_close(found["image"], theirs.transform(image, params))
    torch.testing.assert_close(found["label"], theirs.transform(label, params))


def changed_box(before: torch.Tensor, after: torch.Tensor) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of what was pasted."""
    rows, columns = torch.nonzero((before != after).any(0).any(0), as_tuple=True)
    if not len(rows):
        return (0, 0, 0, 0)
    return (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)


def test_shares_are_drawn_from_beta() -> None:
    keys = [order.extended(KEY, n) for n in range(4000)]
    own, partner = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    for alpha in (0.2, 1.0, 4.0):
        shares = [mixing.mixup(alpha=alpha)(own, partner, key)[1] for key in keys]
        variance = 1 / (4 * (2 * alpha + 1))
        assert np.mean(shares) == pytest.approx(0.5, abs=4 * (variance / 4000) ** 0.5)
        assert np.var(shares) == pytest.approx(variance, rel=0.1)


def test_probability_and_choice() -> None:
    keys = [order.extended(KEY, n) for n in range(1000)]
    given = batch()
    rarely = mixing.mixup(probability=0.25)
    hits = [rarely(given["image"], given["image"].roll(1, 0), key)[1] < 1 for key in keys]
    assert np.mean(hits) == pytest.approx(0.25, abs=0.06)
    called = []
    mixers = [
        lambda own, partner, key, n=n: (called.append(n), (own, 1.0))[1]  # type: ignore[misc]
        for n in range(2)
    ]
    for key in keys:
        Mixing(mixers, 5)(batch(key=key))
    assert np.mean(called) == pytest.approx(0.5, abs=0.06)
    unmixed = Mixing([mixing.cutmix(probability=0.0)], 5)(given)
    assert torch.equal(unmixed["image"], given["image"])
    assert torch.equal(unmixed["label"].argmax(1), given["label"])


@pytest.mark.parametrize("tail", ["drop", "keep"])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_mixtures_are_the_same_on_any_number_of_ranks(
    packed: Dataset, world: int, tail: str
) -> None:
    mix = Mixing([mixing.cutmix(), mixing.mixup()], 10)

    def epoch(rank: int, world: int) -> list[Batch]:
        split = packed.manifest.split("train")
        sampler = Shuffled(split, Plan(split.rows, 35, 6, tail))  # type: ignore[arg-type]
        view = View(transforms=[transforms.pad_crop(), transforms.flip()])
        stream = TrainStream(
            packed, "train", sampler=sampler, seed=1, rank=rank, world=world, view=view, guests=True
        )
        return [mix(ready(batch)) for batch in stream.epoch(0, 0)]

    ranks = [epoch(rank, world) for rank in range(world)]
    for whole, *parts in zip(epoch(0, 1), *ranks, strict=True):
        own = [part for part in parts if not part.weightless]
        for name in ("image", "label", "id"):
            assert torch.equal(whole[name], torch.cat([part[name] for part in own]))
        assert all(len(part) == 1 for part in parts if part.weightless)


def ready(batch: Batch) -> Batch:
    image = batch["image"].permute(0, 3, 1, 2).float()
    return Batch({**batch.columns, "image": image}, batch.key, batch.weightless, batch.guest)
