"""What is measured of robustness: sums that agree with their references, checks that can fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets import order
from trainers.robustness import errors
from trainers.robustness.checks import checks, verdict
from trainers.robustness.errors import Errors
from trainers.robustness.shift import GRAY, Occlusion, Shift, squares
from trainers.robustness.siege import Siege
from trainers.robustness.tally import Tally


def test_calibration_is_that_of_torchmetrics() -> None:
    from torchmetrics.classification import MulticlassCalibrationError

    generator = torch.manual_seed(0)
    logits = 3 * torch.randn(500, 4, generator=generator)
    label = torch.randint(0, 4, (500,), generator=generator)
    tally, metric = Tally(), MulticlassCalibrationError(4)
    for part in range(0, 500, 130):  # a ragged last batch
        wrong = tally.update(logits[part : part + 130], label[part : part + 130])
        assert torch.equal(wrong, logits[part : part + 130].argmax(1) != label[part : part + 130])
    metric.update(logits.softmax(1), label)
    assert tally.rows == 500
    assert tally.calibration_error == pytest.approx(float(metric.compute()), abs=1e-6)
    assert tally.accuracy == pytest.approx(float((logits.argmax(1) == label).float().mean()))
    assert tally.mean_confidence == pytest.approx(float(logits.softmax(1).max(1).values.mean()))


def some_errors(rate: float, seed: int) -> Errors:
    key = order.key("errors", seed)
    draws = order.uniform(key, np.arange(400)[:, None], np.arange(1 + 3 * 5))
    return Errors(draws[:, 0] < rate / 4, draws[:, 1:].reshape(400, 3, 5) < rate)


def test_mce_is_the_formula_of_the_paper() -> None:
    model, reference = some_errors(0.3, 0), some_errors(0.5, 1)
    ours, theirs = (each.corrupted.mean(0) for each in (model, reference))  # (C, S)
    wanted = [ours[c].sum() / theirs[c].sum() for c in range(3)]
    estimate, each = errors.mce(model, reference)
    assert each == pytest.approx(wanted)
    assert estimate.value == pytest.approx(np.mean(wanted))
    assert estimate.low < estimate.value < estimate.high < 1
    relative = [
        (ours[c] - model.clean.mean()).sum() / (theirs[c] - reference.clean.mean()).sum()
        for c in range(3)
    ]
    assert errors.relative_mce(model, reference)[1] == pytest.approx(relative)
    gap = errors.difference(model, reference)
    assert gap.value == pytest.approx(ours.mean() - theirs.mean())
    assert gap.low < gap.value < gap.high < 0
    assert errors.relative_mce(model, reference)[0].value == pytest.approx(np.mean(relative))


def test_against_itself_a_model_is_at_one() -> None:
    model = some_errors(0.3, 0)
    estimate, _ = errors.mce(model, model)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1, 1, 1))


def test_a_corruption_without_errors_of_the_reference_is_left_out() -> None:
    model, reference = some_errors(0.3, 0), some_errors(0.5, 1)
    reference.corrupted[:, 1] = False
    estimate, each = errors.mce(model, reference)
    assert math.isnan(each[1])
    assert estimate.value == pytest.approx(np.mean([each[0], each[2]]))
    reference.corrupted[:] = False
    assert math.isnan(errors.mce(model, reference)[0].value)


def test_the_interval_of_a_mean_error_is_about_two_standard_errors() -> None:
    model = some_errors(0.3, 0)
    estimate, each = errors.mean_error(model), model.corrupted.mean((1, 2))
    half = 1.96 * each.std() / 20
    assert estimate.value == pytest.approx(each.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.15)


def test_squares_hide_their_share_at_places_of_their_own() -> None:
    ids, key = torch.arange(3000), order.key("here")
    for share in (0.0, 0.1, 0.25, 0.64, 0.99):
        mask = squares(ids, (20, 30), share, key)
        rows = mask.flatten(1).sum(1)
        assert (rows == round(share**0.5 * 20) * round(share**0.5 * 30)).all()
    mask = squares(ids, (20, 30), 0.25, key)
    assert mask.any(0).all(), "every pixel is hidden in some picture"
    assert torch.equal(squares(ids[7:9], (20, 30), 0.25, key), mask[7:9])


class Bright(nn.Module):
    """Two classes: dark and bright, by the mean of the picture."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.float().mean((1, 2, 3)) / 255
        return 20 * torch.stack([0.5 - mean, mean - 0.5], 1)


def test_every_sample_counts_once_a_condition() -> None:
    images = torch.randint(0, 256, (50, 8, 8, 1), dtype=torch.uint8, generator=torch.manual_seed(0))
    ids, label = torch.arange(50), (images.float().mean((1, 2, 3)) > 127.5).long()
    model, seen = Bright(), []
    shift = Shift(["run"], ["brightness", "gaussian_noise"], [1, 5], seed=0)
    hidden = Occlusion(["run"], [0.0, 0.5], seed=0)
    for start in range(0, 50, 16):
        part = slice(start, start + 16)
        for each in (shift, hidden):
            each.update({"run": model}, images[part], ids[part], label[part], seen.append)
    assert sum(seen) == 50 * (1 + 4 + 2)
    assert shift.clean["run"].accuracy == 1
    found = shift.errors("run")
    assert found.clean.shape == (50,)
    assert found.corrupted.shape == (50, 2, 2)
    assert found.corrupted[:, 0, 1].mean() == pytest.approx(
        1 - shift.tallies["run"]["brightness", 5].accuracy
    )
    assert shift.of_severity("run", 5).rows == 100
    of_two = [shift.tallies["run"][name, 5].calibration_error for name in shift.corruptions]
    assert shift.calibration_error("run", 5) == pytest.approx(sum(of_two) / 2)
    assert shift.calibration_error("run", 0) == shift.clean["run"].calibration_error
    assert hidden.tallies["run"][0.0].accuracy == 1
    assert hidden.hidden[0.5] == pytest.approx(36 / 64)
    assert GRAY == 128


def besieged(model: nn.Module, epsilons: tuple[float, ...] = (4.0, 16.0)) -> Siege:
    pixels = torch.rand(60, 1, 6, 6, generator=torch.manual_seed(0))
    with torch.no_grad():
        label = model(pixels).argmax(1)
    siege = Siege(("fgsm", "pgd"), epsilons, steps=10, restarts=1, seed=0)
    for start in (0, 32):
        part = slice(start, min(60, start + 32))
        ids = torch.arange(60)[part]
        siege.update(model, pixels[part], ids, label[part], lambda pictures: None)
    return siege


class Scaled(nn.Module):
    """Logits as large as those of networks that hide their gradients: softmax is exactly 0 and 1 in float32."""

    def __init__(self, network: nn.Module, scale: float) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.network(x)


class Quantised(nn.Module):
    """Pixels rounded: the gradient is zero nearly everywhere, and noise passes all the same."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x * 4).round() / 4)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 40), nn.ReLU(), nn.Linear(40, 4))


def test_a_plain_network_has_sound_gradients() -> None:
    siege = besieged(network())
    found = checks(siege, 4)
    assert [each.name for each in found if not each.sound] == []
    assert len(found) == 5
    assert "No sign of masked gradients in 5 checks" in verdict(found)
    assert siege.accuracy("none", 0.0) == 1
    for small, large in ((4.0, 16.0), (16.0, 128.0)):
        assert siege.accuracy("pgd", large) <= siege.accuracy("pgd", small)
    assert siege.accuracy("pgd", 16.0) < 0.9


@pytest.mark.parametrize(
    ("masked", "name"),
    [
        (Quantised(network()), "every picture has a gradient"),
        (Scaled(network(), 1e5), "every picture has a gradient"),
        (Quantised(network()), "PGD beats noise of its size"),
        (Quantised(network()), "a large attack leaves no more than chance"),
    ],
)
def test_masked_gradients_are_found(masked: nn.Module, name: str) -> None:
    found = checks(besieged(masked, (16.0, 64.0)), 4)
    assert name in [each.name for each in found if not each.sound]
    assert "Do not take accuracy under these attacks for robustness" in verdict(found)
