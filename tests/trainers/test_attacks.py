"""Attacks: optimal where that is known, within their box, no weaker than what they build on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.corrupting.draws import Draws
from trainers import attacks

CLASSES, ROWS = 3, 40


@pytest.fixture
def pixels() -> Tensor:
    return torch.rand(ROWS, 1, 4, 4, generator=torch.manual_seed(0)) * 0.4 + 0.3


@pytest.fixture
def label() -> Tensor:
    return torch.randint(0, 2, (ROWS,), generator=torch.manual_seed(1))


@pytest.fixture
def draws() -> Draws:
    return Draws(5, torch.arange(ROWS))


def linear() -> nn.Module:
    """Two classes, so that the loss falls with one dot product."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def curved() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, CLASSES))


def test_on_a_linear_model_one_step_is_the_best_there_is(
    pixels: Tensor, label: Tensor, draws: Draws
) -> None:
    model, epsilon = linear(), 0.1
    layer = model[1]  # type: ignore[index]
    slope = layer.weight[1] - layer.weight[0]
    # The largest loss in the box: each pixel moved by epsilon towards the other class.
    towards = torch.where(label[:, None] == 0, slope, -slope).sign()
    best = pixels + epsilon * towards.view(-1, 1, 4, 4)
    wanted = F.cross_entropy(model(best), label, reduction="none")
    found = attacks.fgsm(model, pixels, label, epsilon)
    assert torch.allclose(found.pixels, best)
    assert torch.allclose(found.loss, wanted, atol=1e-6)
    longer = attacks.pgd(model, pixels, label, epsilon, steps=10, draws=draws)
    assert torch.allclose(longer.loss, wanted, atol=1e-5)
    assert torch.equal(found.fooled, longer.fooled)
    before = model(pixels).argmax(1) != label
    margin = (model(pixels)[:, 0] - model(pixels)[:, 1]).abs()
    assert torch.equal(found.fooled, before | (margin < epsilon * slope.abs().sum()))


@pytest.mark.parametrize("epsilon", [0.02, 0.3, 1.0])
def test_nothing_leaves_its_box(
    pixels: Tensor, label: Tensor, draws: Draws, epsilon: float
) -> None:
    model = curved()
    for found in (
        attacks.fgsm(model, pixels, label, epsilon),
        attacks.pgd(model, pixels, label, epsilon, steps=7, restarts=2, draws=draws),
        attacks.noise(model, pixels, label, epsilon, trials=3, draws=draws),
    ):
        assert float((found.pixels - pixels).abs().max()) <= epsilon + 1e-6
        assert float(found.pixels.min()) >= 0
        assert float(found.pixels.max()) <= 1
        assert not found.pixels.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_more_steps_starts_and_room_never_help_the_model(
    pixels: Tensor, label: Tensor, draws: Draws
) -> None:
    model = curved()
    clean = attacks.untouched(model, pixels, label)
    noisy = attacks.noise(model, pixels, label, 0.1, trials=5, draws=draws)
    one = attacks.fgsm(model, pixels, label, 0.1)
    many = attacks.pgd(model, pixels, label, 0.1, steps=20, draws=draws)
    again = attacks.pgd(model, pixels, label, 0.1, steps=20, restarts=3, draws=draws)
    for weaker, stronger in ((clean, noisy), (clean, one), (many, again)):
        assert (weaker.fooled <= stronger.fooled).all()
        assert (weaker.loss <= stronger.loss + 1e-6).all()
    assert one.fooled.sum() <= many.fooled.sum()
    assert noisy.fooled.sum() <= many.fooled.sum()
    assert len(many.losses) == len(again.losses) == 21
    assert many.losses[-1].mean() > many.losses[0].mean()


def test_what_is_tried_on_a_picture_hangs_on_its_id_alone(pixels: Tensor, label: Tensor) -> None:
    model = curved()
    ids = torch.arange(ROWS) * 3
    whole = attacks.pgd(model, pixels, label, 0.05, steps=3, draws=Draws(5, ids))
    some = torch.tensor([3, 17, 30])
    part = attacks.pgd(model, pixels[some], label[some], 0.05, steps=3, draws=Draws(5, ids[some]))
    assert torch.allclose(whole.pixels[some], part.pixels, atol=1e-6)
