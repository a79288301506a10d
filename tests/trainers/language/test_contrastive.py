"""The loss over pairs: open_clip's where all texts differ, 0 at best where some are equal, the same on one and several ranks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.loss import ClipLoss
from torch import Tensor

from datasets.batch import Batch
from tests.trainers.ranks import CUTS, Found, drawn, met, share, told
from trainers import parallel, rooms
from trainers.language import contrastive
from trainers.stage import scaled


def pairs(rows: int) -> tuple[Tensor, Tensor]:
    return tuple(torch.nn.functional.normalize(drawn(rows, 8, seed=s), dim=1) for s in (1, 2))  # type: ignore[return-value]


def test_it_is_open_clips_loss_where_all_texts_differ() -> None:
    image, text = pairs(12)
    found, chance = contrastive.loss(14.0 * image @ text.T, torch.eye(12))
    torch.testing.assert_close(found, ClipLoss()(image, text, torch.tensor(14.0)))
    assert float(chance) == pytest.approx(math.log(12))


def test_equal_texts_are_all_right() -> None:
    said = torch.tensor([0, 0, 1, 2, 2, 2])
    same = (said[:, None] == said[None]).float()
    best, _ = contrastive.loss(100.0 * same, same)
    assert float(best) == pytest.approx(0.0, abs=1e-5)
    even, chance = contrastive.loss(torch.zeros(6, 6), same)
    torch.testing.assert_close(even, chance)
    worse, _ = contrastive.loss(100.0 * torch.eye(6), same)
    assert float(worse) > 1.0, "a copy of a text is no negative"


def test_one_row_has_nothing_to_be_told_from() -> None:
    found, chance = contrastive.loss(torch.ones(1, 1), torch.ones(1, 1))
    assert float(found) == float(chance) == 0.0


def made(name: str) -> Any:
    torch.manual_seed(0)
    model = rooms.door("models", "clip").build({"size": 8}, {"layers": 1, "context_length": 16})
    context = {"model": model, "classes": ["one", "two", "three", "four"]}
    said = {"templates": ["a {}", "the {}"]} if name == "clip_labels" else {}
    return rooms.door("tasks", name).build(context, said)


def batch_of(task: Any, rows: slice, total: int, *, weightless: bool = False) -> Batch:
    label = torch.arange(total) // 2 % 4
    (model,) = task._plain
    texts = model.tokens(["one", "a two", "three", "four"])
    columns = {
        "image": drawn(total, 3, 8, 8),
        "label": label,
        "tokens": texts[label],
        "id": torch.arange(total),
    }
    return Batch({n: c[rows] for n, c in columns.items()}, key=5, weightless=weightless)


def spent(name: str, rows: slice, total: int, world: int, *, weightless: bool = False) -> Found:
    task = made(name)
    batch = batch_of(task, rows, total, weightless=weightless)
    wrapped = parallel.wrap(task)
    with parallel.through(task, wrapped):
        steps = task.training_step(batch)
        step = next(steps)
        scaled(step, 0 if weightless else len(batch), total, world).backward()
    grads = {n: p.grad for n, p in task.model.named_parameters()}
    return {"loss": step.loss.detach(), "logs": dict(step.logs), "grads": grads}


def losses(rank: int, world: int) -> Found:
    total = sum(CUTS[world])
    return {name: spent(name, share(rank, world), total, world) for name in ("clip", "clip_labels")}


def keeping_step(rank: int, world: int) -> Found:
    total, last = 4 * (world - 1), rank == world - 1
    rows = slice(0, 1) if last else slice(4 * rank, 4 * rank + 4)
    return spent("clip_labels", rows, total, world, weightless=last)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return met(tmp_path_factory.mktemp("ranks"), {"losses": losses, "keeping_step": keeping_step})


def agree(found: Found, expected: Found) -> None:
    torch.testing.assert_close(found["loss"], expected["loss"])
    for name, grad in expected["grads"].items():
        torch.testing.assert_close(found["grads"][name], grad, rtol=1e-3, atol=1e-6, msg=name)
    for name, value in expected["logs"].items():
        torch.testing.assert_close(found["logs"][name], value, msg=name)


@pytest.mark.parametrize("world", CUTS)
@pytest.mark.parametrize("name", ["clip", "clip_labels"])
def test_loss_and_gradient_are_those_of_one_process(folder: Path, world: int, name: str) -> None:
    total = sum(CUTS[world])
    expected = spent(name, slice(None), total, 1)
    for found in told(folder, world):
        agree(found["losses"][name], expected)


@pytest.mark.parametrize("world", CUTS)
def test_a_rank_that_only_keeps_step_is_in_no_pair(folder: Path, world: int) -> None:
    expected = spent("clip_labels", slice(None), 4 * (world - 1), 1)
    for found in told(folder, world):
        agree(found["keeping_step"], expected)


def test_captions_are_a_function_of_step_and_sample() -> None:
    task = made("clip_labels")
    batch = batch_of(task, slice(None), 40)
    said = task.caption(batch)
    part = Batch({n: c[7:9] for n, c in batch.columns.items()}, key=5)
    assert torch.equal(task.caption(part), said[7:9])
    other = task.caption(Batch(batch.columns, key=6))
    assert not torch.equal(other, said) and len(said.unique(dim=0)) == 8


def test_the_scale_stays_below_a_hundred() -> None:
    task = made("clip_labels")
    steps = task.training_step(batch_of(task, slice(None), 8))
    next(steps)
    task.model.logit_scale.data.fill_(7.0)  # what the optimizer may have made of it
    assert next(steps, None) is None
    assert float(task.model.logit_scale.exp()) == pytest.approx(100.0)
