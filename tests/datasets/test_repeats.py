"""Each picture of a batch several times: rows of one batch, alike in everything but their draws."""

from __future__ import annotations

import torch

from datasets.batch import Batch
from datasets.mixing import Mixing, cutmix, mixup


def viewed() -> Batch:
    images = torch.arange(2 * 3 * 4 * 1 * 1).float().view(2, 3, 4, 1, 1)
    columns = {"image": images[0], "image_2": images[1], "label": torch.tensor([0, 1, 2])}
    return Batch({**columns, "id": torch.tensor([7, 8, 9])}, key=3)


def test_views_become_rows_view_by_view() -> None:
    batch, stacked = viewed(), viewed().stacked()
    assert len(stacked) == 6 and list(stacked.pictures) == ["image"]
    assert stacked["id"].tolist() == [7, 8, 9, 7, 8, 9]
    assert torch.equal(stacked["image"][3:], batch["image_2"])


def test_a_batch_of_one_view_is_itself() -> None:
    single = Batch({"image": torch.ones(2, 3, 4, 4), "id": torch.arange(2)}, key=0)
    assert torch.equal(single.stacked()["image"], single["image"])


def test_views_are_mixed_alike() -> None:
    """A sample has one label, so its views have one partner and one share of it."""
    images = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 2, 3])
    for mixer in (cutmix(), mixup(alpha=0.4)):
        columns = {"image": images[0], "image_2": images[1], "label": label, "id": torch.arange(4)}
        both = Mixing([mixer], 4)(Batch(dict(columns), key=11))
        alone = Mixing([mixer], 4)(Batch({**columns, "image": images[1]}, key=11))
        assert torch.equal(both["label"], alone["label"])
        torch.testing.assert_close(both["image_2"], alone["image"])
