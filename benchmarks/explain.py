"""Heat maps of 100 pictures by `explain`'s own path against the library grad-cam used directly, in this process, on one thread.

Ours reads the rows from the packed set, readies them, makes the maps and lays them over the pictures; the library is given
the same pictures as tensors that are ready, in the same batches, and lays its maps over them with `show_cam_on_image`.
Before anything is timed both must give the same maps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.clock import interleaved, ratios
from benchmarks.reading import Reading, summed_up, total_ratio
from cluster.explain import AT_ONCE, Subject, pixels
from cluster.run import run as train
from search.explanation import pictures
from trainers import build
from trainers.recipe import Recipe
from trainers.rooms import ROOT

IMAGES = 100
Heat = NDArray[np.float32]
NETWORKS = (
    (
        "resnet18 of torchvision at 112 pixels",
        {"model": "torchvision:resnet18", "data.size": 112},
        7,
    ),
    (
        "ViT-Tiny of timm at 112 pixels",
        {"model": {"name": "timm:vit_tiny_patch16_224", "img_size": 112}},
        7,
    ),
    # Ours are 160 pixels a side, as the page shows them; the library's are left at 8.
    ("small_cnn on digits as they are", {"model": "small_cnn"}, 101),  # rounds of .1 s
)
METHOD = "gradcam"  # the others differ in the last line of arithmetic


@dataclass(frozen=True)
class Side:
    """One way to the maps, and from there to the pictures with maps over them."""

    maps: Callable[[], Heat]
    shown: Callable[[], Any]


def run(rounds: int | None = None) -> list[Reading]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            reading
            for title, changes, usual in NETWORKS
            for reading in _compared(title, changes, rounds or usual)
        ]
    finally:
        torch.set_num_threads(before)


def _compared(title: str, changes: dict[str, Any], rounds: int) -> list[Reading]:
    readings = []
    with _subject(changes) as subject:
        ours, theirs = _ours(subject), _theirs(subject)
        apart = float(np.abs(ours.maps() - theirs.maps()).max())
        if apart > 1e-3:
            raise RuntimeError(f"{title}: the maps differ by {apart:.4f}")
        interleaved(ours.shown, theirs.shown, steps=1, rounds=1)  # warm-up
        a, b = interleaved(ours.shown, theirs.shown, steps=1, rounds=rounds)
        for clock, own, others in (("wall", a.wall, b.wall), ("CPU time", a.cpu, b.cpu)):
            what = f"{title}: ours / the library, {clock}"
            lasts = f"{1000 * float(np.median(others)):.0f} ms"
            note = f"the library {lasts}, maps agree within {apart:.0e}"
            readings += [
                summed_up("explain", what, ratios(own, others), target="<= 1.5", note=note),
                total_ratio("explain", f"{what}, sum over sum", own, others),
            ]
    return readings


@contextmanager
def _subject(changes: dict[str, Any]) -> Iterator[Subject]:
    """A run of a few steps: maps cost the same whatever was learnt."""
    recipe = Recipe.load(str(ROOT / "recipes" / "digits.yaml")).override(
        {
            "scale.device": "cpu",
            "log.tensorboard": False,
            "phases.0.epochs": None,
            "phases.0.steps": 2,
            "data.batch": 16,
            "evals": {},
            "keep.metric": None,
            **changes,
        }
    )
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as folder:
        yield Subject(train(recipe, out=str(Path(folder))), "last")


def _ours(subject: Subject) -> Side:
    rows = np.arange(IMAGES)
    labels = subject.dataset.columns("val")["label"][:IMAGES].tolist()
    layer = subject.layer(None)

    def both() -> tuple[list[Any], Heat]:
        batches = list(subject.batches("val", rows))
        return pixels(batches), subject.maps(batches, labels, layer=layer, method=METHOD)

    def shown() -> list[Any]:
        return [pictures.heated(one, heat) for one, heat in zip(*both(), strict=True)]

    return Side(lambda: both()[1], shown)


def _theirs(subject: Subject) -> Side:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.image import show_cam_on_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    labels = subject.dataset.columns("val")["label"][:IMAGES].tolist()
    layer = subject.layer(None)
    readied = build.readying(subject.shape, subject.device)
    batches = list(subject.batches("val", np.arange(IMAGES)))
    inputs = [readied(batch)["image"] for batch in batches]
    network = subject.saved.model()
    cam = GradCAM(network, [network.get_submodule(layer.name)], reshape_transform=layer.grid)
    side = subject.shape.size
    seen = [
        torch.nn.functional.interpolate(batch["image"].permute(0, 3, 1, 2).float(), (side, side))
        .expand(-1, 3, -1, -1)
        .permute(0, 2, 3, 1)
        .numpy()
        / 255
        for batch in batches
    ]

    def maps() -> Heat:
        found = []
        for number, images in enumerate(inputs):
            own = labels[number * AT_ONCE : number * AT_ONCE + len(images)]
            targets = [ClassifierOutputTarget(label) for label in own]
            found.append(cam(input_tensor=images, targets=targets))
        return np.concatenate(found)

    def shown() -> list[Any]:
        below = np.concatenate(seen)
        return [
            show_cam_on_image(picture, heat, use_rgb=True)
            for picture, heat in zip(below, maps(), strict=True)
        ]

    return Side(maps, shown)
