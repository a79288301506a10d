"""Public and private sets, made small in the very form in which they are published: a few pictures of each class."""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datasets import pack
from trainers.data import Data
from trainers.part import SourcePart

CLASSES = 3  # of sets whose reader does not insist on a number


def picture(number: int, side: int = 72, kind: str = "JPEG") -> bytes:
    """A picture that is like no other: coarse noise, wider than high."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((side + 8, side), Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


def _write(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def cub200(root: Path, each: int = 30) -> str:
    """CUB_200_2011: text files beside images/; two thirds are of the official train split."""
    names = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"]
    listed = [
        (label, f"{name}/{name[4:]}_{n:04}.jpg")
        for label, name in enumerate(names, 1)
        for n in range(each)
    ]
    numbered = list(enumerate(listed, 1))
    files: dict[str, bytes | str] = {
        "images.txt": "".join(f"{n} {path}\n" for n, (_, path) in numbered),
        "classes.txt": "".join(f"{n} {name}\n" for n, name in enumerate(names, 1)),
        "image_class_labels.txt": "".join(f"{n} {label}\n" for n, (label, _) in numbered),
        "train_test_split.txt": "".join(f"{n} {int(n % 3 > 0)}\n" for n, _ in numbered),
        "bounding_boxes.txt": "".join(f"{n} 4.0 3.0 30.0 28.0\n" for n, _ in numbered),
        "parts/parts.txt": "".join(f"{part} part {part}\n" for part in range(1, 16)),
        "parts/part_locs.txt": "".join(
            f"{n} {part} {part}.5 {part * 2}.0 1\n" for n, _ in numbered for part in range(1, 16)
        ),
    }  # fmt: skip
    files |= {f"images/{path}": picture(n) for n, (_, path) in numbered}
    return f"cub200:{_write(root / 'CUB_200_2011', files)}"


def _pixels(num: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (num, 3072), dtype=np.uint8)


def cifar10(root: Path, each: int = 40) -> str:
    """cifar-10-batches-py: five pickles to learn from, one for the test."""
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    files: dict[str, bytes | str] = {}
    for seed, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        labels = [row % 10 for row in range(each)]
        held = {"batch_label": name, "data": _pixels(each, seed), "labels": labels}
        files[name] = pickle.dumps(held, 2)
    files["batches.meta"] = pickle.dumps({"label_names": names, "num_vis": 3072}, 2)
    return f"cifar10:{_write(root / 'cifar-10-batches-py', files)}"


def cifar100(root: Path, each: int = 400) -> str:
    """cifar-100-python: four or more pictures of each class to learn from."""
    files: dict[str, bytes | str] = {}
    for seed, (name, rows) in enumerate({"train": each, "test": 100}.items()):
        fine = [row % 100 for row in range(rows)]
        coarse = [label // 5 for label in fine]
        held = {"data": _pixels(rows, seed), "fine_labels": fine, "coarse_labels": coarse}
        files[name] = pickle.dumps(held, 2)
    names = {
        "fine_label_names": [f"class {n:02}" for n in range(100)],
        "coarse_label_names": [f"kind {n:02}" for n in range(20)],
    }
    files["meta"] = pickle.dumps(names, 2)
    return f"cifar100:{_write(root / 'cifar-100-python', files)}"


def tiny_imagenet(root: Path, each: int = 40) -> str:
    """tiny-imagenet-200: folders by WordNet id to learn from, a list of those that papers test on."""
    wnids = [f"n0000000{n}" for n in range(CLASSES)]
    files: dict[str, bytes | str] = {
        f"train/{wnid}/images/{wnid}_{n}.JPEG": picture(1000 * k + n, side=64)
        for k, wnid in enumerate(wnids)
        for n in range(each)
    }
    val = [(f"val_{n}.JPEG", wnids[n % CLASSES]) for n in range(4 * CLASSES)]
    files |= {f"val/images/{name}": picture(9000 + n, 64) for n, (name, _) in enumerate(val)}
    files["val/val_annotations.txt"] = "".join(f"{n}\t{w}\t0\t0\t62\t62\n" for n, w in val)
    files["wnids.txt"] = "\n".join(wnids)
    files["words.txt"] = "".join(f"{wnid}\tkind {n}\n" for n, wnid in enumerate(wnids))
    return f"tiny_imagenet:{_write(root / 'tiny-imagenet-200', files)}"


def afhq(root: Path, each: int = 8) -> str:
    """train/ and test/ with cat, dog and wild, as the second version has them."""
    files: dict[str, bytes | str] = {
        f"{split}/{kind}/{kind}_{n}.png": picture(1000 * s + 100 * k + n, kind="PNG")
        for s, split in enumerate(("train", "test"))
        for k, kind in enumerate(("cat", "dog", "wild"))
        for n in range(each)
    }
    return f"afhq:{_write(root / 'afhq', files)}"


def sea_animals(root: Path, each: int = 20) -> str:
    """A folder a class, the first class twice as large."""
    kinds = ("Corals", "Dolphin", "Octopus", "Whale")
    files: dict[str, bytes | str] = {
        f"{kind}/{n}.jpg": picture(1000 * k + n)
        for k, kind in enumerate(kinds)
        for n in range(each * (1 + (k == 0)))
    }
    return f"imagefolder:{_write(root / 'sea-animals', files)}"


def classes35(root: Path, each: int = 6) -> str:
    """train/, val/, test/ and extra/, a folder a class."""
    sizes = {"train": 2 * each, "val": 2, "test": each, "extra": each // 2}
    files: dict[str, bytes | str] = {
        f"{split}/class {label:02}/{n}.jpg": picture(10_000 * s + 100 * label + n)
        for s, (split, num) in enumerate(sizes.items())
        for label in range(CLASSES)
        for n in range(num)
    }
    return f"imagefolder:{_write(root / 'classes35', files)}"


# By what a recipe says of its source.
_MADE: dict[str, Callable[[Path], str]] = {
    "cub200": cub200,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "tiny_imagenet": tiny_imagenet,
    "afhq": afhq,
    "imagefolder:data/sea-animals": sea_animals,
    "imagefolder:data/classes35": classes35,
}


def _said(data: Data) -> str:
    source = data.source
    return ":".join([source.name, *filter(None, [source.arguments.get("path")])]) if source else ""


def is_made(data: Data) -> bool:
    """Whether a recipe reads a set that is not at hand, but can be made small."""
    return _said(data) in _MADE


def packed(data: Data, folder: Path) -> str:
    """The URL of such a set, packed with the splits that the recipe asks for; made at the first call."""
    said = _said(data)
    url = folder / "packed" / said.replace("/", "-").replace(":", "-")
    if not url.exists():
        name, arguments = SourcePart.said(_MADE[said](folder), ())
        shares = {"val": data.splits.val, "test": data.splits.test}
        pack.pack(name, arguments, str(url), splits=shares, seed=0)
    return str(url)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Data], str]:
    """`published(recipe.data)`: the URL of a small set of that form."""
    folder = tmp_path_factory.mktemp("published")
    return lambda data: packed(data, folder)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """`tiny_clip(16)`: the run of a CLIP for pictures of this size, one step old: weights to begin with."""

    @functools.cache
    def made(size: int) -> str:
        from cluster.run import run
        from trainers.recipe import Recipe
        from trainers.rooms import ROOT

        short = {"data.size": size, "phases.0.epochs": None, "phases.0.steps": 1}
        recipe = Recipe.load(str(ROOT / "recipes" / "clip_digits.yaml"))
        here = {"scale.device": "cpu", "log.tensorboard": False}
        return run(recipe.override({**short, **here}), out=str(tmp_path_factory.mktemp("clip"))).url

    return made
