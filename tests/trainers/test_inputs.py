"""From stored pixels to what a network eats."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from datasets.batch import Batch
from datasets.refusal import Refusal
from trainers import build
from trainers.inputs import Inputs

PIXELS = (
    torch.arange(2 * 6 * 6 * 3, dtype=torch.int64)
    .mul(37)
    .remainder(256)
    .to(torch.uint8)
    .view(2, 6, 6, 3)
)


def made(stored: int = 3, channels: int = 3, size: int | None = None, mean: list[float] | None = None,
         std: list[float] | None = None) -> Inputs:  # fmt: skip
    return Inputs(
        stored_channels=stored, channels=channels, size=size, mean=mean or [0.5], std=std or [0.25]
    )


def test_pixels_are_normalised_channel_by_channel() -> None:
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    found = made(mean=mean, std=std)(PIXELS)
    expected = (
        PIXELS.permute(0, 3, 1, 2).double() / 255 - torch.tensor(mean).view(3, 1, 1)
    ) / torch.tensor(std).view(3, 1, 1)
    assert found.shape == (2, 3, 6, 6) and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_the_stored_pixels_are_left_alone() -> None:
    before = PIXELS.clone()
    made()(PIXELS)
    made(size=4)(PIXELS)
    assert torch.equal(PIXELS, before)


def test_memory_is_channels_last() -> None:
    assert made()(PIXELS).is_contiguous(memory_format=torch.channels_last)


def test_gray_becomes_rgb_with_statistics_of_its_own() -> None:
    gray = PIXELS[..., :1]
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    found = made(stored=1, channels=3, mean=mean, std=std)(gray)
    assert found.shape == (2, 3, 6, 6)
    for channel in range(3):
        expected = (gray[..., 0] / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(found[:, channel], expected, rtol=0, atol=1e-5)
    assert torch.equal(
        made(stored=1, channels=3)(gray)[:, 0], made(stored=1, channels=1)(gray)[:, 0]
    )


@pytest.mark.parametrize("size", [3, 12])
def test_pictures_are_resized_as_torch_does(size: int) -> None:
    found = made(size=size)(PIXELS)
    x = PIXELS.permute(0, 3, 1, 2).float()
    expected = F.interpolate(x, (size, size), mode="bilinear", antialias=True).clamp(0, 255)
    torch.testing.assert_close(found, (expected / 255 - 0.5) / 0.25, rtol=0, atol=1e-5)


def test_the_right_size_is_not_resized() -> None:
    torch.testing.assert_close(made(size=6)(PIXELS), made()(PIXELS), rtol=0, atol=0)


def test_other_columns_pass() -> None:
    batch = Batch(
        {"image": PIXELS, "label": torch.tensor([1, 2]), "id": torch.tensor([7, 8])},
        key=5,
        weightless=True,
    )
    ready = made().ready(batch)
    assert torch.equal(ready["label"], batch["label"]) and torch.equal(ready["id"], batch["id"])
    assert (ready.key, ready.weightless) == (5, True)
    assert batch["image"].dtype == torch.uint8


def test_every_view_is_made_ready() -> None:
    other = PIXELS.flip(2)
    columns = {"image": PIXELS, "image_2": other, "id": torch.tensor([7, 8]), "image_4": other}
    ready = made().ready(Batch(columns, key=5))
    torch.testing.assert_close(ready["image"], made()(PIXELS), rtol=0, atol=0)
    torch.testing.assert_close(ready["image_2"], made()(other), rtol=0, atol=0)
    assert torch.equal(ready["image_4"], other), "no view: there is no image_3"
    parts = list(ready.chunks(2))
    assert torch.equal(torch.cat([part["image_2"] for part in parts]), ready["image_2"])


def test_a_table_is_only_moved() -> None:
    table = Batch({"x": torch.ones(2), "id": torch.arange(2)}, key=0)
    ready = build.readying(build.Shape(num_classes=1, channels=1, size=0), torch.device("cpu"))
    assert ready(table) is table


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"stored": 3, "channels": 1}, "model"),
        ({"stored": 4, "channels": 3}, "model"),
        ({"mean": [0.1, 0.2], "std": [0.1, 0.2]}, "data.mean"),
        ({"mean": [0.1, 0.2, 0.3], "std": [0.1]}, "data.std"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, object], path: str) -> None:
    with pytest.raises(Refusal) as caught:
        made(**fields)  # type: ignore[arg-type]
    assert caught.value.path == path
