"""SimCLR and CLIP by hand in plain PyTorch: equal mathematics on equal batches from equal weights, as plain_tasks.py has others.

Row numbers, crops' keys and the tokens of the captions are given to them for nothing; what the tasks log of a step is computed here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import plain
from datasets import order
from datasets.batch import Batch
from datasets.order import Integers, Plan
from datasets.showing import seen
from trainers import build, feed, shown
from trainers.recipe import Recipe

Advance = Callable[[], Tensor]
LOG_EVERY = 50


def simclr(recipe: Recipe, steps: int) -> Advance:
    """A step of two views; gives its loss."""
    data, pixels, rates = _given(recipe, steps)
    model = build.model(recipe, data.shape)
    task: Any = build.task(recipe, 0, model, tuple, ()).train()
    body, projector, temperature = task.body, task.projector, task.temperature
    optim = recipe.phases[0].optim["main"]
    assert optim.name == "sgd" and not optim.no_decay
    optimizer = torch.optim.SGD(
        task.parameters(),
        lr=optim.lr,
        momentum=optim.arguments["momentum"],
        weight_decay=optim.weight_decay,
        fused=True,
    )
    batch = recipe.data.batch
    itself = torch.eye(2 * batch, dtype=torch.bool)
    partner = torch.arange(2 * batch).roll(batch)
    above = torch.ones(batch, batch, dtype=torch.bool).triu(1)
    sums, done, lines = torch.zeros(3), 0, []

    def advance() -> Tensor:
        nonlocal done
        both = torch.cat([pixels(done, view) for view in (0, 1)])
        for group in optimizer.param_groups:
            group["lr"] = optim.lr * rates(done)
        unit = F.normalize(projector(body(both).flatten(1)), dim=1)
        similarity = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)
        loss = F.cross_entropy(similarity, partner)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            one, two = unit.chunk(2)
            near = (one - two).square().sum(1).mean()
            spread = [
                (2 - 2 * (v @ v.T))[above].clamp(min=0).mul(-2).exp().mean().log()
                for v in (one, two)
            ]
            sums.add_(torch.stack([loss, near, torch.stack(spread).mean()]))
        done += 1
        if done % LOG_EVERY == 0:
            lines.append(sums.tolist())
            sums.zero_()
        return loss

    return advance


def clip(recipe: Recipe, steps: int) -> Advance:
    """A step of pictures and captions, those of one class all positives; gives its loss."""
    data, pixels, rates = _given(recipe, steps)
    model: Any = build.model(recipe, data.shape).train()
    task: Any = build.task(recipe, 0, model, tuple, data.shape.classes).train()
    captions = [
        task.caption(
            Batch({"id": torch.from_numpy(data.ids.take(rows)), "label": data.label(rows)}, key)
        )
        for rows, key in zip(data.rows, data.keys, strict=True)
    ]
    optim = recipe.phases[0].optim["main"]
    assert optim.name == "adamw" and optim.no_decay
    parameters = [*model.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1]},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    betas = (optim.arguments.get("beta1", 0.9), optim.arguments.get("beta2", 0.999))
    optimizer = torch.optim.AdamW(
        groups, lr=optim.lr, betas=betas, weight_decay=optim.weight_decay, fused=True
    )
    sums, done, lines = torch.zeros(3), 0, []

    def advance() -> Tensor:
        nonlocal done
        image, label = pixels(done, 0), data.label(data.rows[done])
        for group in optimizer.param_groups:
            group["lr"] = optim.lr * rates(done)
        image_BD, text_BD, scale = model(image, captions[done])
        products = scale * image_BD @ text_BD.T
        same = label[:, None] == label[None]
        equal = same.float() / same.sum(1, keepdim=True)
        least = -torch.xlogy(equal, equal).sum(1).mean()
        ways = (F.cross_entropy(products, equal) + F.cross_entropy(products.T, equal)) / 2
        loss = ways - least
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
            right = same.gather(1, products.argmax(1, keepdim=True)).float().mean()
            sums.add_(torch.stack([loss, right, scale]))
        done += 1
        if done % LOG_EVERY == 0:
            lines.append(sums.tolist())
            sums.zero_()
        return loss

    return advance


class _Data:
    """Rows of every step, and what they hold."""

    def __init__(self, recipe: Recipe, steps: int) -> None:
        dataset = feed.dataset(recipe.data)
        columns = dataset.columns("train")
        self.images, self.labels, self.ids = columns["image"], columns["label"], columns["id"]
        self.shape = build.shape(recipe, dataset.manifest)
        self.rows, self.crops = plain.batches(recipe, len(self.ids), steps, rank=0, world=1)
        self.keys = _keys(recipe, len(self.ids), steps)

    def label(self, rows: Integers) -> Tensor:
        return torch.from_numpy(self.labels.take(rows))


def _given(
    recipe: Recipe, steps: int
) -> tuple[_Data, Callable[[int, int], Tensor], Callable[[int], float]]:
    """The data; pixels of a step and a view as the network takes them; the share of the rate at a step."""
    data, transforms = _Data(recipe, steps), shown.transforms(recipe.data)
    std = torch.tensor(data.shape.std).view(1, -1, 1, 1)
    scale, shift = 1 / (255 * std), -torch.tensor(data.shape.mean).view(1, -1, 1, 1) / std
    schedule = recipe.phases[0].schedule
    assert schedule.name == "cosine"
    warmup = schedule.arguments["warmup_steps"]
    size = (data.shape.size, data.shape.size)
    resized = partial(F.interpolate, size=size, mode="bilinear", antialias=True)

    def pixels(step: int, view: int) -> Tensor:
        taken = data.rows[step]
        image = data.images.take(taken, axis=0)
        for transform, key in zip(transforms, data.crops[step], strict=True):
            image = transform(image, data.ids.take(taken), seen(key, view))
        found = torch.from_numpy(image).permute(0, 3, 1, 2).float()
        if found.shape[-2:] != size:
            found = resized(found).clamp_(0, 255)
        if found.shape[1] != data.shape.channels:
            return found.expand(-1, data.shape.channels, -1, -1) * scale + shift
        return found.mul_(scale).add_(shift)

    def rates(step: int) -> float:
        if step < warmup:
            return float((step + 1) / warmup)
        return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2

    return data, pixels, rates


def _keys(recipe: Recipe, num_rows: int, steps: int) -> list[int]:
    data = recipe.data
    plan = Plan(num_rows, data.batch, data.lanes or min(data.batch, 64), data.tail)
    places = (divmod(step, plan.steps) for step in range(steps))
    return [order.extended(order.key(recipe.seed, 0, epoch), place) for epoch, place in places]
