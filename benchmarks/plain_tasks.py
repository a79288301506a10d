"""A GAN and a fit by hand in plain PyTorch: equal mathematics on equal batches from equal weights, as plain.py has it for classes.

Row numbers of the batches are given to them for nothing, and so is the GAN's noise; `gan_loaded` and `regress_loaded` draw their
own and are fed by torch's loader, as scripts are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datasets import order
from datasets.order import Integers, Plan
from datasets.shards import Dataset
from trainers import build, feed
from trainers.phase import Optim
from trainers.recipe import Recipe

Advance = Callable[[], Tensor]
LOG_EVERY = 50


def gan(recipe: Recipe, steps: int) -> Advance:
    """A step of critic and generator; gives the generator's loss."""
    dataset = feed.dataset(recipe.data)
    columns = dataset.columns("train")
    images, ids = columns["image"], columns["id"]
    latent = _latent(recipe, dataset)
    given = [
        (rows, torch.from_numpy(order.normal(key, ids.take(rows), latent)))
        for rows, key in _batches(recipe, len(ids), steps)
    ]
    batches = ((torch.from_numpy(images.take(rows, axis=0)), noise) for rows, noise in given)
    return _adversarial(recipe, dataset, batches)


def gan_loaded(recipe: Recipe, steps: int) -> Advance:
    """The same with batches from torch's loader, in an order of its own, and noise of its own."""
    dataset = feed.dataset(recipe.data)
    latent = _latent(recipe, dataset)
    held = TensorDataset(torch.from_numpy(dataset.columns("train")["image"].copy()))
    batches = ((image, torch.randn(len(image), latent)) for (image,) in _loaded(recipe, held))
    return _adversarial(recipe, dataset, batches)


def _latent(recipe: Recipe, dataset: Dataset) -> int:
    model: Any = build.model(recipe, build.shape(recipe, dataset.manifest))
    return int(model.latent)


def _loaded(recipe: Recipe, held: TensorDataset) -> Iterator[Any]:
    whole = recipe.data.tail == "drop"
    loader = DataLoader(held, recipe.data.batch, shuffle=True, drop_last=whole)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def _adversarial(
    recipe: Recipe, dataset: Dataset, batches: Iterator[tuple[Tensor, Tensor]]
) -> Advance:
    shape = build.shape(recipe, dataset.manifest)
    model: Any = build.model(recipe, shape).train()
    generator, critic, phase = model.generator, model.critic, recipe.phases[0]
    assert phase.task.arguments.get("loss", "non_saturating") == "non_saturating"
    assert phase.schedule.name == "constant"
    assert phase.task.arguments.get("critic_steps", 1) == 1 and not phase.task.arguments.get(
        "augment"
    )
    optimizers = {n: _adam(getattr(model, n), optim) for n, optim in phase.optim.items()}
    std = torch.tensor(shape.std).view(1, -1, 1, 1)
    scale, shift = 1 / (255 * std), -torch.tensor(shape.mean).view(1, -1, 1, 1) / std
    live = [t.detach() for t in model.state_dict(keep_vars=True).values() if t.is_floating_point()]
    averages = [tensor.clone() for tensor in live]
    sums, done, lines = torch.zeros(6), 0, []

    def advance() -> Tensor:
        nonlocal done
        pixels, noise = next(batches)
        real = pixels.permute(0, 3, 1, 2).float().mul_(scale).add_(shift)
        fake = generator(noise)
        real_B, fake_B = critic(real), critic(fake.detach())
        critic_loss = F.softplus(-real_B).mean() + F.softplus(fake_B).mean()
        optimizers["critic"].zero_grad()
        critic_loss.backward()  # type: ignore[no-untyped-call]
        optimizers["critic"].step()
        critic.requires_grad_(False)  # tutorials have its gradients computed here, and use none
        loss = F.softplus(-critic(fake)).mean()
        critic.requires_grad_(True)
        optimizers["generator"].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizers["generator"].step()
        with torch.no_grad():
            if phase.ema:
                decay = min(phase.ema, (2 + done) / (11 + done))
                torch._foreach_lerp_(averages, live, 1 - decay)
            right = torch.stack([real_B > 0, fake_B < 0]).float().mean()
            ends = [real_B.mean(), fake_B.mean()]
            sums.add_(torch.stack([loss, critic_loss, *ends, ends[0] - ends[1], right]))
        done += 1
        if done % LOG_EVERY == 0:
            lines.append(sums.tolist())
            sums.zero_()
        return loss

    return advance


def regress(recipe: Recipe, steps: int) -> Advance:
    """A step of a fit by mean squared error; gives its loss."""
    dataset = feed.dataset(recipe.data)
    columns = dataset.columns("train")
    x_N, y_N = columns["x"], columns["y"]
    given = [rows for rows, _ in _batches(recipe, len(x_N), steps)]
    batches = ((torch.from_numpy(x_N.take(r)), torch.from_numpy(y_N.take(r))) for r in given)
    return _fitted(recipe, dataset, batches, steps)


def regress_loaded(recipe: Recipe, steps: int) -> Advance:
    """The same with batches from torch's loader, in an order of its own."""
    dataset = feed.dataset(recipe.data)
    columns = dataset.columns("train")
    held = TensorDataset(*(torch.from_numpy(columns[name].copy()) for name in ("x", "y")))
    return _fitted(recipe, dataset, _loaded(recipe, held), steps)


def _fitted(
    recipe: Recipe, dataset: Dataset, batches: Iterator[tuple[Tensor, Tensor]], steps: int
) -> Advance:
    model = build.model(recipe, build.shape(recipe, dataset.manifest)).train()
    phase = recipe.phases[0]
    optim = phase.optim["main"]
    optimizer = _adam(model, optim)
    assert phase.schedule.name == "cosine"
    floor = phase.schedule.arguments.get("floor", 0.0)
    total, done, lines = torch.zeros(()), 0, []

    def advance() -> Tensor:
        nonlocal done
        x, y = next(batches)
        factor = floor + (1 - floor) * (1 + math.cos(math.pi * done / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = optim.lr * factor
        optimizer.zero_grad()
        loss = F.mse_loss(model(x[:, None]), y[:, None])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total.add_(loss.detach())
        done += 1
        if done % LOG_EVERY == 0:
            lines.append(float(total))
            total.zero_()
        return loss

    return advance


def _adam(network: torch.nn.Module, optim: Optim) -> torch.optim.Optimizer:
    assert optim.name == "adam" and not optim.weight_decay and optim.clip is None
    betas = (optim.arguments.get("beta1", 0.9), optim.arguments.get("beta2", 0.999))
    return torch.optim.Adam(network.parameters(), lr=optim.lr, betas=betas, fused=True)


def _batches(recipe: Recipe, num_rows: int, steps: int) -> Iterator[tuple[Integers, int]]:
    """Of each step its row numbers and the key of what is drawn for it."""
    data = recipe.data
    plan = Plan(num_rows, data.batch, data.lanes or min(data.batch, 64), data.tail)
    for step in range(steps):
        epoch, place = divmod(step, plan.steps)
        if not place:
            line = order.line(num_rows, seed=recipe.seed, phase=0, epoch=epoch)
        key = order.extended(order.key(recipe.seed, 0, epoch), place)
        yield order.rows(plan, line, place, 0, 1), key
