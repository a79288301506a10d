"""Schedules equal torch's where torch has them, and are pure functions of where training stands."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as torchs

from trainers import rooms, schedules
from trainers.schedules import Progress

STEPS, PER_EPOCH = 60, 4


def ours(
    name: str, steps: int = STEPS, scores: tuple[float, ...] = (), **arguments: Any
) -> list[float]:
    schedule = rooms.door("schedules", name).load()
    return [
        schedule(Progress(step, steps, PER_EPOCH, scores), **arguments) for step in range(steps)
    ]


def theirs(
    make: Callable[[Optimizer], Any], *, each_epoch: bool, steps: int = STEPS
) -> list[float]:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for step in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not each_epoch or (step + 1) % PER_EPOCH == 0:
            scheduler.step()
    return found


@pytest.mark.parametrize(
    ("name", "arguments", "make", "each_epoch"),
    [
        ("step", {"epochs": 3, "gamma": 0.5}, lambda o: torchs.StepLR(o, 3, gamma=0.5), True),
        ("step", {"epochs": 1}, lambda o: torchs.StepLR(o, 1, gamma=0.1), True),
        ("multistep", {"milestones": [2, 5, 11], "gamma": 0.3}, lambda o: torchs.MultiStepLR(o, [2, 5, 11], gamma=0.3), True),
        ("cosine", {}, lambda o: torchs.CosineAnnealingLR(o, STEPS), False),
        ("cosine", {"floor": 0.1}, lambda o: torchs.CosineAnnealingLR(o, STEPS, eta_min=0.1), False),
        ("onecycle", {}, lambda o: torchs.OneCycleLR(o, 1.0, STEPS), False),
        ("onecycle", {"peak": 0.5, "start_divisor": 10.0, "end_divisor": 100.0},
         lambda o: torchs.OneCycleLR(o, 1.0, STEPS, pct_start=0.5, div_factor=10, final_div_factor=100), False),
        ("constant", {}, lambda o: torchs.ConstantLR(o, factor=1.0), False),
        ("constant", {"warmup_steps": 10}, lambda o: torchs.LinearLR(o, 0.1, 1.0, total_iters=9), False),
    ],
)  # fmt: skip
def test_it_is_torchs(name: str, arguments: dict[str, Any], make: Any, each_epoch: bool) -> None:
    if name == "onecycle":
        # torch puts the peak one step before the share `pct_start` of all steps, ours at the share of the last step.
        mine, other = ours(name, **arguments), theirs(make, each_epoch=each_epoch)
        assert mine[0] == pytest.approx(other[0]) and mine[-1] == pytest.approx(other[-1])
        assert max(mine) == pytest.approx(1.0, abs=2e-3)
        assert max(abs(a - b) for a, b in zip(mine, other, strict=True)) < 0.06
        return
    assert ours(name, **arguments) == pytest.approx(theirs(make, each_epoch=each_epoch), abs=1e-12)


def test_onecycle_is_torchs_where_the_peaks_meet() -> None:
    """101 steps at .3: torch peaks at .3 * 101 - 1 = 29.3, ours at .3 * 100 = 30; asked for the same, they agree."""
    steps = 101
    peak = (0.3 * steps - 1) / (steps - 1)
    other = theirs(lambda o: torchs.OneCycleLR(o, 1.0, steps), each_epoch=False, steps=steps)
    assert ours("onecycle", steps, peak=peak) == pytest.approx(other, abs=1e-9)


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("factor", [0.5, 0.1])
def test_plateau_is_torchs(patience: int, factor: float) -> None:
    generator = torch.Generator().manual_seed(patience)
    scores = (
        torch.rand(40, generator=generator).cumsum(0) / 40 + torch.rand(40, generator=generator)
    ).tolist()
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    torch_plateau = torchs.ReduceLROnPlateau(
        optimizer, mode="max", factor=factor, patience=patience, threshold=1e-4, eps=0.0
    )
    for number, score in enumerate(scores):
        found = schedules.plateau(
            Progress(0, 1, 1, tuple(scores[:number])), patience=patience, factor=factor
        )
        assert found == pytest.approx(optimizer.param_groups[0]["lr"])
        torch_plateau.step(score)


def test_plateau_of_losses_counts_from_the_best() -> None:
    """Scores to be small arrive negated: more is better."""
    falling = tuple(-1.0 / n for n in range(1, 9))
    assert schedules.plateau(Progress(0, 1, 1, falling), patience=0) == 1.0
    assert schedules.plateau(Progress(0, 1, 1, (*falling, -1.0)), patience=0) == pytest.approx(0.1)
    assert schedules.plateau(
        Progress(0, 1, 1, (-0.5, math.nan, math.nan)), patience=1
    ) == pytest.approx(0.1)


@pytest.mark.parametrize("name", [n for n in rooms.doors("schedules") if n != "onecycle"])
def test_the_warm_up_rises_to_the_lr(name: str) -> None:
    found = ours(name, warmup_steps=4)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_a_cosine_reaches_its_floor_after_the_warm_up() -> None:
    found = ours("cosine", warmup_steps=10, floor=0.2)
    assert found[10] == pytest.approx(1.0)
    assert found[35] == pytest.approx(0.6)
    assert 0.2 < found[-1] < 0.21
    assert schedules.cosine(Progress(STEPS, STEPS, PER_EPOCH), floor=0.2) == pytest.approx(0.2)


@pytest.mark.parametrize("name", rooms.doors("schedules"))
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_phases_are_finite(name: str, steps: int) -> None:
    arguments: dict[str, Any] = {} if name == "onecycle" else {"warmup_steps": 5}
    for given in ({}, arguments):
        assert all(math.isfinite(scale) and 0 <= scale <= 1 for scale in ours(name, steps, **given))


@pytest.mark.parametrize("peak", [0.0, 1.0])
def test_onecycle_at_its_ends(peak: float) -> None:
    found = ours("onecycle", peak=peak)
    assert max(found) == pytest.approx(1.0) and all(0 < scale <= 1 for scale in found)
