"""AFHQ, made small in its own form: both versions, in a folder and in the zip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.refusal import Refusal
from datasets.source import Source
from datasets.sources import afhq


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_reads_both_versions(
    held_out: str,
    archive: Callable[..., Path],
    picture: Callable[..., bytes],
    holds: Callable[[Source], list[bytes]],
) -> None:
    paths = [
        f"{split}/{kind}/{kind}_1.png" for split in ("train", held_out) for kind in afhq.CLASSES
    ]
    packed = archive(
        {f"afhq/{path}": picture(n, kind="PNG") for n, path in enumerate(paths)}, "afhq.zip"
    )
    source = afhq.build(path=str(packed))
    assert source.name == "afhq" and source.classes == ("cat", "dog", "wild")
    assert source.splits is not None and set(source.splits) == {"train", held_out}
    assert source.columns["path"][source.splits["train"]].tolist() == paths[:3]
    holds(source)


def test_other_classes_are_refused(
    fill: Callable[..., Path], picture: Callable[..., bytes]
) -> None:
    folder = fill({"train/cat/1.jpg": picture(1), "train/horse/1.jpg": picture(2)})
    with pytest.raises(Refusal, match="the classes are cat, horse, not cat, dog, wild"):
        afhq.build(path=str(folder))
    with pytest.raises(Refusal, match="has no 'train/cat/'"):
        afhq.build(path=str(folder / "train"))
