"""Where a model looks: by hand for maps that are known, and over pictures of birds whose boxes are known."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.explain import Places, Subject
from cluster.run import Run
from search.explanation import pointing


def test_hits_misses_flat_maps_and_boxes_out_of_sight() -> None:
    maps = np.zeros((4, 224, 224), np.float32)
    maps[0, 100, 50] = 1  # in the box
    maps[1, 100, 74] = 1  # 14 pixels beside it
    maps[2, 100, 77] = 1  # 17
    boxes = np.array([[40.0, 90, 60, 110]] * 4)
    found = pointing.play(maps, Places(boxes))
    assert (found.rows, found.hits, found.flat) == (4, 2, 1)
    assert found.inside.tolist() == [True, True, False, False]
    # A box of 20 pixels with 15 on each side.
    assert found.chance == pytest.approx(50 * 50 / 224**2, rel=0.25)
    away = np.array([[300.0, 0, 320, 20]] * 4)
    found = pointing.play(maps, Places(away))
    assert (found.rows, found.hits, found.chance) == (0, 0, 0.0)


def test_the_nearest_visible_part_and_its_chance() -> None:
    maps = np.zeros((3, 28, 28), np.float32)
    maps[0, 3, 3] = maps[1, 3, 24] = maps[2, 3, 3] = 1
    parts = np.zeros((3, 3, 3))
    parts[:, 0] = 4, 4, 1  # a left eye
    parts[:, 1] = 24, 4, 1  # a right eye
    parts[:, 2] = 3, 3, 0  # a neck that is not seen
    parts[2, :2, 2] = 0
    names = ("left eye", "right eye", "neck")
    boxes = np.array([[0.0, 0, 28, 28]] * 3)
    found = pointing.play(maps, Places(boxes, parts, names))
    assert found.nearest == ("eye", "eye", "")
    assert [(part.name, part.hits, part.chance) for part in found.parts] == [
        ("eye", 2, pytest.approx(1.0)),
        ("neck", 0, 0.0),
    ]


def test_chance_is_a_share_for_every_part() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((6, 16, 16)).astype(np.float32)
    parts = np.concatenate([rng.random((6, 5, 2)) * 16, np.ones((6, 5, 1))], 2)
    boxes = np.array([[0.0, 0, 16, 16]] * 6)
    found = pointing.play(maps, Places(boxes, parts, tuple("abcde")))
    assert sum(part.chance for part in found.parts) == pytest.approx(1)
    assert sum(part.hits for part in found.parts) == found.rows == 6


@pytest.mark.parametrize("frame", ["center", "whole"])
def test_boxes_follow_the_frame(frame: str, of_birds: Run) -> None:
    """What is coloured in the pictures that the model sees lies where the box says."""
    subject = Subject(of_birds)
    subject.recipe = subject.recipe.override({"data.eval": {"frame": frame}})
    subject.view = type(subject)(of_birds).view if frame == "center" else _view(subject)
    rows = np.arange(subject.dataset.manifest.splits["test"].rows)
    places = subject.places("test", rows)
    assert places is not None and places.parts is not None
    assert places.names[:3] == ("back", "beak", "belly")
    for picture, box, parts in zip(
        subject.pictures("test", rows), places.boxes, places.parts, strict=True
    ):
        coloured = np.ptp(picture.astype(int), axis=2) > 80
        down, right = np.nonzero(coloured)
        seen = [right.min(), down.min(), right.max() + 1, down.max() + 1]
        np.testing.assert_allclose(box, seen, atol=1.6)
        np.testing.assert_allclose(parts[1, :2], [box[::2].mean(), box[1::2].mean()], atol=1.5)
        assert parts[2, 2] == 0  # not visible, as the source says


def _view(subject: Subject) -> object:
    from trainers import shown

    return shown.view(subject.recipe, subject.shape, subject.device)


def test_data_without_boxes_have_no_places(of_digits: Run) -> None:
    assert Subject(of_digits).places("val", np.arange(3)) is None
