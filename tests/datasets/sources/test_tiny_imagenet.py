"""Tiny ImageNet, made small in its own form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.refusal import Refusal
from datasets.source import Source
from datasets.sources import tiny_imagenet

Files = dict[str, bytes | str]
WNIDS = ("n02124075", "n01443537", "n03126707", "n02012849", "n02012850")
BOX = "0\t0\t62\t62"


@pytest.fixture
def tiny(picture: Callable[..., bytes]) -> Files:
    """Five classes of which three are called crane, two of them with the same words; two pictures each."""
    root = "tiny-imagenet-200"
    names = ["Egyptian cat", "goldfish, Carassius auratus", "crane", "crane, bird", "crane, bird"]
    words = [f"{wnid}\t{name}\n" for wnid, name in zip(WNIDS, names, strict=True)]
    files: Files = {
        f"{root}/wnids.txt": "\n".join(WNIDS),
        f"{root}/words.txt": "n00001740\tentity\n" + "".join(words),
        f"{root}/val/val_annotations.txt": "".join(
            f"val_{number}.JPEG\t{wnid}\t{BOX}\n" for number, wnid in enumerate(WNIDS)
        ),
        f"{root}/test/images/test_0.JPEG": picture(99),
    }
    for number, wnid in enumerate(WNIDS):
        files[f"{root}/train/{wnid}/{wnid}_boxes.txt"] = f"{wnid}_0.JPEG\t{BOX}\n"
        files[f"{root}/train/{wnid}/images/{wnid}_0.JPEG"] = picture(number)
        files[f"{root}/val/images/val_{number}.JPEG"] = picture(10 + number)
    return files


def test_val_is_what_is_tested_on(
    tiny: Files,
    fill: Callable[..., Path],
    holds: Callable[[Source], list[bytes]],
    picture: Callable[..., bytes],
) -> None:
    source = tiny_imagenet.build(path=str(fill(tiny)))
    order = sorted(WNIDS)
    assert source.classes == (
        "goldfish",
        "crane, bird (n02012849)",
        "crane, bird (n02012850)",
        "Egyptian cat",
        "crane",
    )
    assert source.splits is not None
    assert {name: len(rows) for name, rows in source.splits.items()} == {"train": 5, "test": 5}
    for path, label in zip(source.columns["path"], source.columns["label"], strict=True):
        wnid = path.split("/")[1] if path.startswith("train") else WNIDS[int(path[-6])]
        assert order[label] == wnid
    assert picture(99) not in holds(source)  # the published test pictures have no labels


def test_val_may_stay_val(tiny: Files, archive: Callable[..., Path]) -> None:
    source = tiny_imagenet.build(path=str(archive(tiny, "tiny-imagenet-200.zip")), val_as="val")
    assert source.splits is not None and set(source.splits) == {"train", "val"}


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("words.txt", "n01443537\tgoldfish\n", "has no words for 'n02012849'"),
        ("wnids.txt", "n01443537\n", "'n02012849' is not in wnids.txt"),
        ("wnids.txt", "\n".join((*WNIDS, "n99999999")), "no pictures of this class"),
        ("val/val_annotations.txt", "val_0.JPEG\n", "line 1 has ''"),
        ("val/val_annotations.txt", "val_9.JPEG\tn01443537\n", "which is not there"),
        ("val/val_annotations.txt", "../../x\tn01443537\n", "which is not there"),
        ("val/val_annotations.txt", "val_0.JPEG\tn01443537\n" * 2, "a second time"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    file: str, content: str, words: str, tiny: Files, fill: Callable[..., Path]
) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        tiny_imagenet.build(path=str(fill({**tiny, f"tiny-imagenet-200/{file}": content})))
    assert "tiny-imagenet-200" in caught.value.path


def test_val_as_another_split_is_refused() -> None:
    with pytest.raises(Refusal, match="val_as=train"):
        tiny_imagenet.build(val_as="train")  # type: ignore[arg-type]
