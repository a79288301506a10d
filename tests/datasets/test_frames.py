"""Boxes: inside the picture, torchvision's distribution, a function of (key, id)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from datasets import frames, order
from datasets.refusal import Refusal

KEY = order.key("a test")


def sizes(num: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids = np.arange(num, dtype=np.int64)
    return np.full(num, height), np.full(num, width), ids


@pytest.mark.parametrize(("height", "width"), [(375, 500), (1, 1), (3, 700), (700, 3), (224, 224)])
@pytest.mark.parametrize("name", ["random_resized_crop", "center", "whole"])
def test_boxes_lie_inside(name: str, height: int, width: int) -> None:
    heights, widths, ids = sizes(500, height, width)
    boxes = getattr(frames, name)()(heights, widths, ids, KEY)
    assert boxes.shape == (500, 5) and boxes.dtype == np.int64
    top, left, tall, wide, _ = boxes.T
    assert (tall >= 1).all() and (wide >= 1).all() and (top >= 0).all() and (left >= 0).all()
    assert (top + tall <= height).all() and (left + wide <= width).all()


@pytest.mark.parametrize(("height", "width"), [(375, 500), (120, 500)])
def test_random_resized_crop_is_torchvisions(height: int, width: int) -> None:
    """Means and deviations of 4,000 boxes of each, within five standard errors."""
    num = 4000
    mine = frames.random_resized_crop()(*sizes(num, height, width), KEY).astype(float)
    torch.manual_seed(0)
    picture = torch.empty(3, height, width, dtype=torch.uint8)
    other = np.array(
        [
            v2.RandomResizedCrop.make_params(v2.RandomResizedCrop(224), [picture])[k]
            for _ in range(num)
            for k in ("top", "left", "height", "width")
        ],
        float,
    ).reshape(num, 4)
    for column in range(4):
        error = np.hypot(mine[:, column].std(), other[:, column].std()) / num**0.5
        assert abs(mine[:, column].mean() - other[:, column].mean()) < 5 * max(error, 1e-9)
        spread = other[:, column].std()
        assert abs(mine[:, column].std() - spread) < 0.08 * max(spread, 1)


def test_a_box_depends_on_the_key_and_the_id_alone() -> None:
    frame = frames.random_resized_crop()
    heights, widths, ids = sizes(50, 375, 500)
    all_boxes = frame(heights, widths, ids, KEY)
    some = [7, 3, 49]
    assert np.array_equal(frame(heights[some], widths[some], ids[some], KEY), all_boxes[some])
    assert not np.array_equal(frame(heights, widths, ids, order.key("another")), all_boxes)


def test_center_is_resize_256_crop_224() -> None:
    heights, widths, ids = np.array([375]), np.array([500]), np.array([0])
    assert frames.center()(heights, widths, ids, KEY).tolist() == [[23, 86, 328, 328, 0]]


def test_as_many_are_mirrored_as_asked_for() -> None:
    plain = frames.random_resized_crop()(*sizes(4000, 375, 500), KEY)
    some = frames.random_resized_crop(mirror=0.3)(*sizes(4000, 375, 500), KEY)
    assert plain[:, 4].sum() == 0 and abs(some[:, 4].mean() - 0.3) < 0.03
    assert np.array_equal(plain[:, :4], some[:, :4])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("random_resized_crop", {"scale": (0.0, 1.0)}),
        ("random_resized_crop", {"scale": (0.9, 0.1)}),
        ("random_resized_crop", {"ratio": (2.0, 1.0)}),
        ("center", {"share": 0.0}),
    ],
)
def test_what_makes_no_box_is_refused(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(Refusal) as caught:
        getattr(frames, name)(**arguments)
    assert caught.value.path == next(iter(arguments))
