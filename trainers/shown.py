"""How pictures are shown to a model: frames, transforms and views of a phase, or of an evaluation."""

from __future__ import annotations

import functools
import json
import logging
import math

import numpy as np
import torch

from datasets import stream
from datasets.batch import picture
from datasets.foreign.pool import Foreign, Workers
from datasets.foreign.spec import PYTHON, V2, Spec
from datasets.packed.manifest import Manifest
from datasets.refusal import Refusal
from datasets.transforms import Transform
from trainers import rooms
from trainers.build import Shape, needs, on_argument
from trainers.data import Data
from trainers.recipe import Recipe

logger = logging.getLogger(__name__)

# What is shown of pictures in files where the recipe is silent: when judged, when learnt from.
FRAMES = ("center", "random_resized_crop")


def transforms(data: Data, place: str = "data.train") -> list[Transform]:
    """The training transforms of a phase, in order; `place` is where the recipe says them."""
    workers = Workers()
    built: list[Transform] = []
    for number, part in enumerate(data.train.transforms):
        path = f"{place}.transforms.{number}"
        if part.name.startswith((V2, PYTHON)):
            built.append(Foreign(Spec(part.name, part.arguments, path), workers))
            continue
        with on_argument(path):
            built.append(rooms.door("transforms", part.name).build({}, part.arguments))
    return built


def check(recipe: Recipe, manifest: Manifest, shape: Shape) -> None:
    """Raises Refusal for a frame of pixels that have none, and where a foreign transform fails on a picture of the data's shape."""
    _check_frames(recipe, manifest)
    for index in range(len(recipe.phases)):
        _warn_of_views(recipe, index)
        for transform in transforms(recipe.phase_data(index), _train_place(recipe, index)):
            if isinstance(transform, Foreign):
                spec = transform.spec
                words = json.dumps(spec.arguments, sort_keys=True)
                _try_transform(spec.name, words, spec.path, shape.stored)


def _warn_of_views(recipe: Recipe, index: int) -> None:
    task, views = recipe.phases[index].task.name, recipe.phase_data(index).train.views or 1
    if unseen := sorted({picture(view) for view in range(1, views)} - needs(task)):
        logger.warning(
            "task '%s' does not look at %s: data.train.views=%d only costs time",
            *(task, ", ".join(unseen), views),
        )


@functools.cache
def _try_transform(name: str, arguments: str, path: str, shape: tuple[int, ...]) -> None:
    """Starts a process, so only once for what is the same."""
    pixels = np.arange(math.prod(shape)).astype(np.uint8).reshape(1, *shape)
    workers = Workers()
    workers.apply(Spec(name, json.loads(arguments), path), pixels, np.zeros(1, np.int64), 0)


def _check_frames(recipe: Recipe, manifest: Manifest) -> None:
    framed = {
        _train_place(recipe, index): recipe.phase_data(index).train.frame
        for index in range(len(recipe.phases))
    }
    for place, frame in {**framed, "data.eval": recipe.data.eval.frame}.items():
        if frame and manifest.codec == "raw":
            raise Refusal(
                f"frame '{frame.name}' is for pictures in files, '{manifest.name}' is stored as pixels of one size",
                path=f"{place}.frame",
                value=frame.name,
                remedy="leave it out, or keep pictures that lie in files there: pack --no-raw",
            )


def _train_place(recipe: Recipe, index: int) -> str:
    return f"phases.{index}.data.train" if recipe.phases[index].data.train else "data.train"


def view(
    recipe: Recipe, shape: Shape, device: torch.device, *, index: int | None = None
) -> stream.View:
    """How pictures are shown in the phase `index`, or (None) when the model is judged."""
    judged = index is None
    data = recipe.data if index is None else recipe.phase_data(index)
    place = "data.eval" if index is None else _train_place(recipe, index)
    part = data.eval.frame if judged else data.train.frame
    name, arguments = (part.name, part.arguments) if part else (FRAMES[not judged], {})
    with on_argument(f"{place}.frame"):
        frame = rooms.door("frames", name).build({}, arguments)
    return stream.View(
        frame,
        shape.size,
        () if judged else transforms(data, place),
        views=1 if judged else data.train.views or data.train.repeat or 1,
        # Torch's own share of the cores, which the place has set.
        threads=recipe.scale.readers or torch.get_num_threads(),
        pin=device.type == "cuda",
        decoded_bytes=recipe.scale.decoded_bytes,
        processes=recipe.scale.decode_in == "processes"
        or (recipe.scale.decode_in == "auto" and device.type == "cuda"),
    )
