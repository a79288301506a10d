"""The other side: the same training written by hand in plain PyTorch, as one would for a single workload.

It does equal work on equal batches from equal weights: gather, crop where the recipe does, normalise, learning rate,
forward, cross entropy, backward, fused SGD with momentum (the engine's too), and running sums of loss and accuracy that are read once in
`log_every` steps. Row numbers of the batches are given to it for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from datasets import order
from datasets.order import Plan
from trainers import build, feed, shown
from trainers.devices import uses_bf16
from trainers.recipe import Recipe


def loop(
    recipe: Recipe, *, rank: int = 0, world: int = 1, log_every: int = 50
) -> Callable[[], Tensor]:
    """A function that takes one training step and gives its loss; in a process group the loop is DDP's."""
    dataset = feed.dataset(recipe.data)
    columns = dataset.columns("train")
    images, labels, ids = columns["image"], columns["label"], columns["id"]
    shape = build.shape(recipe, dataset.manifest)
    device = torch.device(recipe.scale.device)
    model = build.model(recipe, shape).to(device)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    autocast = partial(torch.autocast, device.type, torch.bfloat16, uses_bf16(recipe, device))
    network = DistributedDataParallel(model, broadcast_buffers=False) if world > 1 else model
    phase = recipe.phases[0]
    optim, schedule = phase.optim["main"], phase.schedule
    lr, momentum = optim.lr, optim.arguments["momentum"]
    optimizer = torch.optim.SGD(
        network.parameters(), lr=lr, momentum=momentum, weight_decay=optim.weight_decay, fused=True
    )
    smoothing = phase.task.arguments.get("label_smoothing", 0.0)
    assert schedule.name == "cosine" and phase.steps
    warmup, steps = schedule.arguments["warmup_steps"], phase.steps
    rows, crops = batches(recipe, len(ids), steps, rank=rank, world=world)
    transforms = shown.transforms(recipe.data)
    std = torch.tensor(shape.std, device=device).view(1, -1, 1, 1)
    mean = torch.tensor(shape.mean, device=device).view(1, -1, 1, 1)
    scale, shift = 1 / (255 * std), -mean / std
    total_loss, total_correct = torch.zeros((), device=device), torch.zeros((), device=device)
    done, lines = 0, []

    def moved(column: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(column)
        return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)

    def advance() -> Tensor:
        nonlocal done
        taken = rows[done]
        pixels = images.take(taken, axis=0)
        for transform, key in zip(transforms, crops[done], strict=True):
            pixels = transform(pixels, ids.take(taken), key)
        image = moved(pixels).permute(0, 3, 1, 2).float().mul_(scale).add_(shift)
        label = moved(labels.take(taken))
        if done < warmup:
            factor = (done + 1) / warmup
        else:
            factor = (1 + math.cos(math.pi * (done - warmup) / (steps - warmup))) / 2
        for group in optimizer.param_groups:
            group["lr"] = lr * factor
        optimizer.zero_grad()
        with autocast():
            logits = network(image)
            loss = F.cross_entropy(logits, label, label_smoothing=smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total_loss.add_(loss.detach())
        total_correct.add_((logits.detach().argmax(1) == label).float().mean())
        done += 1
        if done % log_every == 0:
            lines.append(_read(total_loss, total_correct, world))
        return loss

    return advance


def batches(
    recipe: Recipe, num_rows: int, steps: int, *, rank: int, world: int
) -> tuple[list[NDArray[np.int64]], list[list[int]]]:
    """Of each step: this rank's row numbers, and the key of each random transform."""
    data = recipe.data
    plan = Plan(num_rows, data.batch, data.lanes or min(data.batch, 64), data.tail)
    assert data.tail == "drop", "steps of one size"
    rows, keys = [], []
    for epoch in range(-(-steps // plan.steps)):
        line = order.line(num_rows, seed=recipe.seed, phase=0, epoch=epoch)
        root = order.key(recipe.seed, 0, epoch)
        own = [order.key(root, place) for place in range(len(data.train.transforms))]
        for step in range(plan.steps):
            rows.append(order.rows(plan, line, step, rank, world))
            keys.append(own)
    return rows[:steps], keys[:steps]


def _read(total_loss: Tensor, total_correct: Tensor, world: int) -> tuple[float, float]:
    """The running sums as numbers, over all ranks; they start anew."""
    both = torch.stack([total_loss, total_correct])
    if world > 1:
        dist.all_reduce(both)
    total_loss.zero_()
    total_correct.zero_()
    loss, correct = both.tolist()
    return loss, correct
