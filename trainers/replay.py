"""The very batch of a step of a run, made again: its samples, in their slots, as the model was shown them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from datasets import order
from datasets.batch import Batch
from datasets.refusal import Refusal
from datasets.stream import TrainStream
from trainers import build, feed, shown
from trainers.recipe import Recipe
from trainers.stage import length


class Replayed(NamedTuple):
    """The global batch of a step, before it is normalised and mixed; `epoch` counts from 0, `place` is the step of it."""

    batch: Batch
    phase: int
    epoch: int
    place: int
    classes: tuple[str, ...]


def replay(recipe: Recipe, step: int, lengths: Sequence[tuple[int, int]] = ()) -> Replayed:
    """The batch of a step, which is counted from 1 as in metrics.jsonl, on one rank whatever the run had.

    `lengths` are (steps an epoch, steps) of phases that ended early. Raises Refusal for a step that the recipe has not.
    """
    dataset = feed.dataset(recipe.data)
    samplers = feed.samplers(recipe, dataset)
    planned = [length(p, s.plan) for p, s in zip(recipe.phases, samplers, strict=True)]
    known = [*lengths, *planned[len(lengths) :]]
    last = sum(steps for _, steps in known)
    if not 1 <= step <= last:
        raise Refusal(
            f"there is no step {step}", path="--step", value=step, remedy=f"use 1 .. {last}"
        )
    phase, epoch, place = order.locate(step - 1, known)
    stream = TrainStream(
        dataset,
        "train",
        sampler=samplers[phase],
        seed=recipe.seed,
        view=shown.view(
            recipe, build.shape(recipe, dataset.manifest), torch.device("cpu"), index=phase
        ),
    )
    batches = stream.epoch(phase, epoch, start=place)
    batch = next(batches)
    batches.close()  # type: ignore[attr-defined]
    return Replayed(batch, phase, epoch, place, dataset.manifest.classes)
