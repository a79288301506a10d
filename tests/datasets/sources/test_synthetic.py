"""Made pictures: the same ones each time, and learnable."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from datasets.refusal import Refusal
from datasets.sources import synthetic


def test_raw_pictures_are_functions_of_seed_and_row() -> None:
    one, more = synthetic.build(num_rows=30), synthetic.build(num_rows=40)
    assert one.columns["image"].shape == (30, 32, 32, 3)
    assert np.array_equal(more.columns["image"][:30], one.columns["image"])
    other = synthetic.build(num_rows=30, seed=1)
    assert not np.array_equal(other.columns["image"], one.columns["image"])
    assert np.bincount(one.columns["label"]).tolist() == [3] * 10


@pytest.mark.parametrize("num_classes", [4, 10])
def test_classes_can_be_learnt(num_classes: int) -> None:
    from sklearn.linear_model import LogisticRegression

    source = synthetic.build(num_rows=300, num_classes=num_classes, size=12)
    x = source.columns["image"].reshape(300, -1) / 255
    y = source.columns["label"]
    model = LogisticRegression(max_iter=1000).fit(x[:200], y[:200])
    assert model.score(x[200:], y[200:]) > 0.9


def test_gray_pictures_of_two_classes_still_differ_by_direction() -> None:
    source = synthetic.build(num_rows=40, num_classes=2, size=32)
    gray = source.columns["image"].mean(-1)
    right = np.abs(np.diff(gray, axis=2)).mean((1, 2)) - np.abs(np.diff(gray, axis=1)).mean((1, 2))
    labels = source.columns["label"]
    assert (right[labels == 0] > 0).all() and (right[labels == 1] < 0).all()


def test_encoded_pictures_are_jpegs_of_many_sizes() -> None:
    source = synthetic.build(num_rows=6, encoded=True)
    assert (
        source.pictures is not None and source.shape == (0, 0, 3) and "image" not in source.columns
    )
    again = pickle.loads(pickle.dumps(source.pictures))
    sizes = set()
    for row in range(6):
        data = source.pictures.read(row)
        assert again.read(row) == data
        picture = Image.open(io.BytesIO(data))
        assert picture.format == "JPEG" and picture.mode == "RGB"
        assert all(300 <= side <= 500 for side in picture.size)
        sizes.add(picture.size)
    assert len(sizes) > 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_rows": 0},
        {"num_classes": 0},
        {"num_classes": 2000},
        {"size": 3},
        {"num_rows": 10**7, "size": 64},
    ],
)
def test_what_cannot_be_made_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(Refusal) as caught:
        synthetic.build(**arguments)  # type: ignore[arg-type]
    assert caught.value.path.startswith("data.source.") and caught.value.remedy
