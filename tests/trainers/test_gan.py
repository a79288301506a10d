"""Adversaries: critic steps, what they are shown, balance, the average of a generator, and going on at the exact step."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from datasets.batch import Batch
from datasets.refusal import Refusal
from tests.trainers.runs import Places, rows, same, summary, weights
from trainers import checkpoint, diff_augment, growing, rooms, symptoms
from trainers.engine import fit
from trainers.models.sngan import SNGAN
from trainers.recipe import Recipe
from trainers.tasks.gan import GAN

ROWS = 8
EVERYTHING: dict[str, Any] = {
    "phases.0.task.critic_steps": 2,
    "phases.0.task.augment": ["color", "translation", "cutout"],
    "phases.0.ema": 0.7,
}


def made(model: str = "dcgan", **arguments: Any) -> tuple[GAN, Batch]:
    torch.manual_seed(0)
    shape = {"channels": 1, "size": 8}
    network = rooms.door("models", model).build(shape, {"latent": 8, "width": 8})
    task: GAN = rooms.door("tasks", "gan").build({"model": network}, arguments)
    pictures = torch.rand(ROWS, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return task, Batch({"image": pictures, "id": torch.arange(ROWS)}, key=7)


def small(*changes: Any) -> Recipe:
    return Recipe.load(str(rooms.ROOT / "recipes" / "dcgan_digits.yaml")).override(
        {
            "model.width": 8,
            "model.latent": 8,
            "phases.0.epochs": None,
            "phases.0.steps": 24,
            "data.batch": 64,
            "scale.device": "cpu",
            "log.tensorboard": False,
            "evals.samples.every": 1,
        },
        *changes,
    )


def test_so_many_critic_steps_go_before_a_step_of_the_generator() -> None:
    task, batch = made(critic_steps=3)
    steps = list(task.training_step(batch))
    assert [step.optim for step in steps] == ["critic"] * 3 + ["generator"]
    losses = [step.loss.item() for step in steps[:3]]
    assert len(set(losses)) == 3, "each turn has noise of its own"


def test_one_critic_step_is_what_it_was() -> None:
    """The last turn's noise is that of a single one, so other turns are only added before it."""
    task, batch = made(critic_steps=4)
    assert torch.equal(task.noise(batch, 0), task.noise(batch))
    turns = [task.noise(batch, turn) for turn in range(4)]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(turns, 2))
    tail = Batch({name: column[3:] for name, column in batch.columns.items()}, key=7)
    assert torch.equal(task.noise(tail, 2), turns[2][3:])


def test_critic_steps_ask_nothing_of_the_generator() -> None:
    task, batch = made(critic_steps=2, augment=["color", "translation", "cutout"])
    for step in task.training_step(batch):
        if step.optim == "critic":
            step.loss.backward()
            assert all(p.grad is None for p in task.generator.parameters())
        else:
            step.loss.backward()
            assert all(p.grad is not None for p in task.generator.parameters())


def test_the_generators_step_asks_nothing_of_the_critic() -> None:
    """And gets the gradient that it would get with everything asked for."""
    task, batch = made()
    *_, step = task.training_step(batch)
    step.loss.backward()
    assert all(p.grad is None and p.requires_grad for p in task.critic.parameters())
    found = [p.grad for p in task.generator.parameters()]
    fake = task.generator(task.noise(batch))
    loss = torch.nn.functional.softplus(-task.critic(fake)).mean()
    expected = torch.autograd.grad(loss, list(task.generator.parameters()))
    assert same(dict(enumerate(found)), dict(enumerate(expected)))


def test_a_frozen_critic_stays_frozen() -> None:
    task, batch = made()
    bias = task.critic[0].bias
    bias.requires_grad_(False)
    list(task.training_step(batch))
    assert not bias.requires_grad
    assert all(p.requires_grad for p in task.critic.parameters() if p is not bias)


def test_what_is_judged_hangs_on_ids_alone() -> None:
    task, batch = made()
    task.eval()
    with torch.no_grad():
        whole = task.predict(batch)["sample"]
        tail = {name: column[5:] for name, column in batch.columns.items()}
        part = task.predict(replace(batch, columns=tail, key=99))["sample"]
    torch.testing.assert_close(part, whole[5:])


def test_balance_by_hand() -> None:
    task, batch = made()
    step = next(iter(task.training_step(batch)))
    with torch.no_grad():
        real, fake = task.critic(batch["image"]), task.critic(task.generator(task.noise(batch)))
    right = (float((real > 0).float().mean()) + float((fake < 0).float().mean())) / 2
    assert float(step.logs["accuracy"]) == pytest.approx(right)
    assert float(step.logs["real"]) == pytest.approx(float(real.mean()), abs=1e-6)
    assert float(step.logs["gap"]) == pytest.approx(float(real.mean() - fake.mean()), abs=1e-6)


# --- DiffAugment


def pictures(rows: int = 6, side: int = 16) -> Tensor:
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("name", ["color", "translation", "cutout"])
def test_what_happens_to_a_picture_hangs_on_key_and_id(name: str) -> None:
    x, ids = pictures(), torch.tensor([5, 0, 9, 2, 7, 11])
    whole = diff_augment.augmented(x, ids, 3, [name])
    assert whole.shape == x.shape
    torch.testing.assert_close(diff_augment.augmented(x[2:4], ids[2:4], 3, [name]), whole[2:4])
    assert not torch.equal(diff_augment.augmented(x, ids, 4, [name]), whole)
    many = diff_augment.augmented(x[:1].expand(40, -1, -1, -1), torch.arange(40), 3, [name])
    # Of 16 pixels a side there are 25 translations.
    assert len({row.numpy().tobytes() for row in many}) > 15, "pictures differ in what they get"


@pytest.mark.parametrize("name", ["color", "translation", "cutout"])
def test_a_gradient_goes_through(name: str) -> None:
    x = pictures().requires_grad_()
    diff_augment.augmented(x, torch.arange(6), 3, [name]).square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().sum() > 0


def test_colors_by_hand() -> None:
    x = pictures(2)
    middle = torch.full((2, 3), 0.5)
    torch.testing.assert_close(diff_augment.color(x, middle), x)
    lighter = diff_augment.color(x, torch.tensor([[0.75, 0.5, 0.5]] * 2))
    torch.testing.assert_close(lighter, x + 0.25)
    gray = diff_augment.color(x, torch.tensor([[0.5, 0.0, 0.5]] * 2))
    torch.testing.assert_close(gray, x.mean(1, keepdim=True).expand_as(x))
    flat = diff_augment.color(x, torch.tensor([[0.5, 0.5, 1.0]] * 2))
    mean = x.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(flat, mean + 1.5 * (x - mean))


def test_translation_by_hand() -> None:
    x = pictures(1)
    # An eighth of 16 is 2: the draws 0 and just under 1 are -2 and 2.
    moved = diff_augment.translation(x, torch.tensor([[0.0, 0.999, 0.0]]))
    expected = torch.zeros_like(x)
    expected[:, :, :14, 2:] = x[:, :, 2:, :14]
    torch.testing.assert_close(moved, expected)
    torch.testing.assert_close(diff_augment.translation(x, torch.full((1, 3), 0.5)), x)


def test_cutout_takes_a_quarter_at_most_and_never_nothing() -> None:
    draws = torch.rand(400, 3, generator=torch.Generator().manual_seed(2))
    holes = (diff_augment.cutout(torch.ones(400, 1, 16, 16), draws) == 0).sum((1, 2, 3))
    assert int(holes.max()) == 64 and 16 <= int(holes.min()) < 40


# --- spectral norms


def test_the_critics_layers_keep_to_a_spectral_norm_of_one() -> None:
    torch.manual_seed(0)
    network = SNGAN(1, 8, latent=8, width=8)
    assert len([n for n, _ in network.critic.named_parameters() if "original" in n]) >= 7
    for _ in range(30):
        network.critic(torch.randn(4, 1, 8, 8))
    for module in network.critic.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor):
            norm = float(torch.linalg.matrix_norm(weight.detach().flatten(1), ord=2))
            assert norm == pytest.approx(1.0, rel=0.02)


# --- runs


@pytest.mark.parametrize("model", ["dcgan", "sngan"])
def test_a_run_goes_on_at_the_exact_step_with_everything_on(model: str, local: Places) -> None:
    changes = {**EVERYTHING, "model.name": model, "keep.every_steps": 5, "phases.0.steps": 12}
    recipe = small({"model.name": model}).override({**changes, "model.width": 8})
    whole, cut = local("whole"), local("cut")
    list(fit(recipe, whole))
    begun = fit(recipe, cut)
    for _ in range(8):
        next(begun)
    begun.close()  # as if killed: the checkpoint of step 5 is all there is
    list(fit(recipe, cut))
    assert same(weights(whole), weights(cut))
    raws = [load_file(f"{checkpoint.latest(p.folder)}/raw.safetensors") for p in (whole, cut)]
    assert same(raws[0], raws[1])
    assert rows(whole) == rows(cut)


def test_both_networks_are_averaged_and_samples_are_the_averages(local: Places) -> None:
    session = local()
    recipe = small({"phases.0.ema": 0.9, "keep.metric": None})
    *_, last = fit(recipe, session)
    url = checkpoint.latest(session.folder)
    found, raw = load_file(f"{url}/model.safetensors"), load_file(f"{url}/raw.safetensors")
    for network in ("generator", "critic"):
        floats = [n for n, t in found.items() if n.startswith(network) and t.is_floating_point()]
        assert floats and all(f"{n}" in raw for n in floats)
        assert any(not torch.equal(found[n], raw[n]) for n in floats)
    from cluster.run import Run

    Path(session.folder, "recipe.yaml").write_text(recipe.yaml())
    scores = {}
    for name in ("average", "raw"):
        if name == "raw":  # the same evaluation of what was learnt itself
            model = {n: raw.get(n, t) for n, t in found.items()}
            scores[name] = sliced(Run(session.folder), model)
        else:
            scores[name] = sliced(Run(session.folder), found)
    assert last.scores["val/sliced_wasserstein"] == pytest.approx(scores["average"], rel=1e-5)
    assert abs(scores["raw"] - scores["average"]) > 1e-3


def sliced(run: Any, weights_of: dict[str, Tensor]) -> float:
    """The distance on the validation split of a generator with these weights."""
    from datasets.stream import EvalStream
    from trainers import build, feed
    from trainers.evals.samples import Samples

    recipe = run.recipe
    dataset = feed.dataset(recipe.data)
    shape = build.shape(recipe, dataset.manifest)
    network = build.model(recipe, shape)
    network.load_state_dict(weights_of)
    task, ready = GAN(network).eval(), build.readying(shape, torch.device("cpu"))
    judge = Samples(list(shape.mean), list(shape.std))
    with torch.no_grad():
        for batch in EvalStream(dataset, "val", batch=100):
            judge.update(task.predict(ready(batch)), ready(batch))
    return float(next(iter(judge.findings())).value)  # type: ignore[union-attr]


def test_samples_of_every_evaluation_are_kept_and_those_done_again_are_drawn_again(
    local: Places,
) -> None:
    session = local()
    recipe = small({"keep.every_steps": 19, "phases.0.steps": 57})
    begun = fit(recipe, session)
    for _ in range(45):
        next(begun)
    begun.close()
    assert growing.names(session.folder) == ["val_samples"]
    assert growing.steps(session.folder, "val_samples") == [19, 38]
    growing.forget(session.folder, after=19)
    assert growing.steps(session.folder, "val_samples") == [19]
    list(fit(recipe, session))
    assert growing.steps(session.folder, "val_samples") == [19, 57], "and of no step twice"


def test_a_critic_that_has_won_is_told(local: Places) -> None:
    session = local()
    fast = {
        "phases.0.optim.critic.lr": 5e-3,
        "phases.0.optim.generator.lr": 1e-6,
        "phases.0.steps": 80,
    }
    list(fit(small(fast), session))
    (note,) = [n for n in summary(session)["notes"] if "critic" in n]
    assert note.startswith("The critic has won in phase 0: at its end it tells ")
    assert note.endswith("Lower the critic's learning rate, or raise the generator's.")
    fair = local("fair")
    list(fit(small({"phases.0.steps": 80}), fair))
    assert not [n for n in summary(fair)["notes"] if "critic" in n]


def test_a_gradient_that_vanishes_is_told_by_its_norms() -> None:
    def told(gradient: float, accuracy: float = 0.99) -> str:
        made = [
            {"critic_accuracy": accuracy, "critic_gap": 5.0, "generator_gradient_norm": norm}
            for norm in np.geomspace(1.0, gradient, 40)
        ]
        return " ".join(symptoms._won(0, made))

    assert "the generator's gradient vanishes: its norm went from" in told(1e-3)
    assert "vanishes" not in told(0.5) and "has won" in told(0.5)
    assert told(1e-3, accuracy=0.9) == ""


def test_bad_arguments_are_refused_in_a_line() -> None:
    for change, path in (
        ({"phases.0.task.critic_steps": 0}, "phases.0.task.critic_steps"),
        ({"phases.0.task.augment": ["colour"]}, "phases.0.task.augment.0"),
        ({"phases.0.ema": 1.0}, "phases.0.ema"),
    ):
        with pytest.raises(Refusal) as caught:
            small(change)
        assert caught.value.path == path and "\n" not in str(caught.value)


def test_metrics_have_the_balance(local: Places) -> None:
    session = local()
    list(fit(small({"phases.0.steps": 2}), session))
    lines = Path(session.folder, "metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    for name in ("critic_real", "critic_fake", "critic_gap", "critic_accuracy"):
        assert math.isfinite(first[name])
