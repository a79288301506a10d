"""One phase set up: freezing, accumulation, exact weights, and what is refused before a step is paid for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from datasets.batch import Batch
from datasets.order import Plan
from datasets.refusal import Refusal
from trainers import build, feed, rooms
from trainers.build import Shape
from trainers.describe import preview
from trainers.recipe import Recipe
from trainers.stage import Stage, freeze, length, scaled
from trainers.task import Step

GAN = str(rooms.ROOT / "recipes" / "dcgan_digits.yaml")
CPU = torch.device("cpu")
SHAPE = Shape(10, channels=1, size=8)
PLAN = Plan(rows=100, batch=20, lanes=4)


def staged(recipe: Recipe, network: nn.Module | None = None, plan: Plan = PLAN) -> Stage:
    network = network or build.model(recipe, SHAPE)
    return Stage(recipe, 0, network, plan=plan, device=CPU, bf16=False)


def batch(rows: int = 20, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    columns = {
        "image": torch.randn(rows, 1, 8, 8, generator=generator),
        "label": torch.randint(10, (rows,), generator=generator),
        "id": torch.arange(rows),
    }
    return Batch(columns, key=seed)


def gradients(stage: Stage) -> list[Tensor]:
    return [p.grad.clone() for p in stage.task.parameters() if p.grad is not None]


def without_norms(network: nn.Module) -> nn.Module:
    """The net with its batch norms taken out: what micro-batches must then agree on exactly."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return network


# --- freezing


def test_what_is_frozen_does_not_move(digits: Recipe) -> None:
    recipe = digits.override("phases.0.train=[head.*]")
    network = build.model(recipe, SHAPE)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    stage = staged(recipe, network)
    for step in range(3):
        stage.spend(batch(seed=step), step, ())
    moved = {
        key for key, value in network.state_dict().items() if not torch.equal(before[key], value)
    }
    # Running statistics included: a frozen batch norm stays in eval mode.
    assert moved == {"head.weight", "head.bias"}
    assert not network.features.training and network.head.training  # type: ignore[union-attr]


def test_evaluation_does_not_wake_what_is_frozen(digits: Recipe) -> None:
    stage = staged(digits.override("phases.0.train=[head.*]"))
    stage.task.eval()
    stage.train_mode()
    norms = [m for m in stage.task.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    assert stage.task.training


def test_a_norm_that_learns_in_a_part_moves_its_statistics(digits: Recipe) -> None:
    stage = staged(digits.override({"phases.0.train": ["*.1.*", "head.*"]}))
    network = stage.task.model
    before = network.features[1].running_mean.clone()  # type: ignore[index,union-attr]
    stage.spend(batch(), 0, ())
    assert not torch.equal(network.features[1].running_mean, before)  # type: ignore[index,union-attr]
    assert not network.features[0].weight.requires_grad  # type: ignore[index,union-attr]


def test_globs_choose_by_name() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    freeze(network, ["0.*", "*.bias"], "phases.0.train")
    assert {n for n, p in network.named_parameters() if p.requires_grad} == {
        "0.weight",
        "0.bias",
        "1.bias",
    }
    freeze(network, ["*"], "phases.0.train")
    assert all(p.requires_grad for p in network.parameters())


def test_a_glob_that_matches_nothing_is_refused(digits: Recipe) -> None:
    with pytest.raises(Refusal) as caught:
        staged(digits.override("phases.0.train=[head.*, haed.*]"))
    assert (caught.value.path, caught.value.value) == ("phases.0.train.1", "haed.*")
    assert "features, head" in caught.value.remedy
    with pytest.raises(Refusal, match="matches no parameter"):  # before data are touched
        preview(digits.override("phases.0.train=[classifier]"))


# --- losses and weights


@pytest.mark.parametrize("micro_batch", [1, 3, 7, 19])
def test_accumulation_is_the_whole_batch_but_for_batch_norm(
    digits: Recipe, micro_batch: int
) -> None:
    recipe = digits.override("model.width=4", "phases.0.optim.main.clip=0.5")
    whole = staged(recipe, without_norms(build.model(recipe, SHAPE)))
    cut = staged(
        recipe.override({"scale.micro_batch": micro_batch}),
        without_norms(build.model(recipe, SHAPE)),
    )
    for step in range(3):
        logs, other = whole.spend(batch(seed=step), step, ()), cut.spend(batch(seed=step), step, ())
        assert {k: float(v) for k, v in logs.items()} == pytest.approx(
            {k: float(v) for k, v in other.items()}, rel=1e-5
        )
    for one, two in zip(whole.task.parameters(), cut.task.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


def test_a_micro_batch_as_large_as_the_batch_changes_nothing(digits: Recipe) -> None:
    one, two = staged(digits), staged(digits.override("scale.micro_batch=20"))
    one.spend(batch(), 0, ())
    two.spend(batch(), 0, ())
    assert all(
        torch.equal(a, b) for a, b in zip(one.task.parameters(), two.task.parameters(), strict=True)
    )


def test_losses_that_couple_samples_are_not_cut() -> None:
    recipe = Recipe.load(GAN).override("scale.micro_batch=8")
    with pytest.raises(Refusal) as caught:
        staged(recipe)
    assert caught.value.path == "scale.micro_batch" and "couples" in str(caught.value)


@pytest.mark.parametrize("micro_batch", [1, 7, 19])
def test_weighted_samples_accumulate_to_the_whole_batch(digits: Recipe, micro_batch: int) -> None:
    recipe = digits.override("model.width=4")
    whole = staged(recipe, without_norms(build.model(recipe, SHAPE)))
    cut = staged(
        recipe.override({"scale.micro_batch": micro_batch}),
        without_norms(build.model(recipe, SHAPE)),
    )
    plain = staged(recipe, without_norms(build.model(recipe, SHAPE)))
    for step in range(3):
        given = batch(seed=step)
        weight = torch.linspace(0.1, 3, 20)
        given = Batch({**given.columns, "weight": weight}, key=step)
        whole.spend(given, step, ())
        cut.spend(given, step, ())
        plain.spend(batch(seed=step), step, ())
    pairs = zip(whole.task.parameters(), cut.task.parameters(), strict=True)
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    others = zip(whole.task.parameters(), plain.task.parameters(), strict=True)
    assert any(not torch.allclose(one, two) for one, two in others), "weights matter"


def test_on_one_process_a_loss_is_itself() -> None:
    loss = torch.tensor(2.0)
    assert scaled(Step(loss), rows=20, total=20, world=1) is loss
    assert scaled(Step(loss, weight=torch.tensor(7.0)), rows=20, total=20, world=1) == 2.0


@pytest.mark.parametrize("clip", [0.01, 1e6])
def test_the_gradient_is_clipped(digits: Recipe, clip: float) -> None:
    stage, free = staged(digits.override({"phases.0.optim.main.clip": clip})), staged(digits)
    stage.spend(batch(), 0, ())
    free.spend(batch(), 0, ())
    norm, whole = (torch.cat([g.flatten() for g in gradients(s)]).norm() for s in (stage, free))
    assert float(norm) == pytest.approx(min(clip, float(whole)), rel=1e-4)


def test_the_lr_follows_the_schedule(digits: Recipe) -> None:
    stage = staged(
        digits.override({"phases.0.schedule": {"name": "step", "epochs": 1, "gamma": 0.5}})
    )
    found = []
    for step in range(10):
        stage.spend(batch(seed=step), step, ())
        found.append(stage.lrs["lr"])
    assert found == pytest.approx([0.1] * 5 + [0.05] * 5)


def test_two_optimizers_have_a_rate_each() -> None:
    recipe = Recipe.load(GAN)
    stage = staged(recipe)
    logs = stage.spend(batch(), 0, ())
    rates = {f"{name}_lr": optim.lr for name, optim in recipe.phases[0].optim.items()}
    assert stage.lrs == rates and set(rates) == {"generator_lr", "critic_lr"}
    assert {"critic_loss", "generator_loss"} <= set(logs)


# --- what does not fit


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"phases.0.optim": {"other": {"name": "sgd", "lr": 0.1}}}, "phases.0.optim"),
        (
            {"phases.0.task.name": "gan", "phases.0.optim": {"main": {"name": "sgd", "lr": 0.1}}},
            "phases.0.task",
        ),
        ({"model.name": "dcgan"}, "phases.0.task"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(
    digits: Recipe, changes: dict[str, Any], path: str
) -> None:
    with pytest.raises(Refusal) as caught:
        staged(digits.override(changes))
    assert caught.value.path == path


@pytest.mark.parametrize(("source", "task"), [("curve", "classify"), ("digits", "regress")])
def test_a_task_that_reads_other_columns_is_refused(digits: Recipe, source: str, task: str) -> None:

    recipe = digits.override({"data.source": source, "phases.0.task": task})
    manifest = feed.dataset(recipe.data).manifest
    with pytest.raises(Refusal) as caught:
        build.shape(recipe, manifest)
    assert caught.value.path == "phases.0.task" and manifest.name in str(caught.value)


def test_lengths(digits: Recipe) -> None:
    ragged = Plan(rows=100, batch=30, lanes=4, tail="keep")
    phase = digits.phases[0]
    assert length(phase, PLAN) == (5, 10)
    assert length(phase, ragged) == (4, 8)
    by_steps = digits.override({"phases.0.epochs": None, "phases.0.steps": 7})
    assert length(by_steps.phases[0], ragged) == (4, 7)


@pytest.mark.parametrize(
    ("said", "rate"),
    [
        ({}, 0.1),
        ({"lr_scaling": "none"}, 0.1),
        ({"lr_scaling": "linear", "lr_batch": 256}, 0.4),
        ({"lr_scaling": "sqrt", "lr_batch": 256}, 0.2),
    ],
)
def test_the_learning_rate_follows_the_batch_as_it_is_said(
    said: dict[str, object], rate: float, digits: Recipe
) -> None:
    optim = {"name": "sgd", "lr": 0.1, **said}
    recipe = digits.override({"phases.0.optim": {"main": optim}, "phases.0.schedule": "constant"})
    stage = staged(recipe, plan=Plan(rows=1024, batch=1024, lanes=4))
    stage.spend(batch(1024), 0, ())
    assert stage.lrs == {"lr": pytest.approx(rate)}


def test_a_rule_without_its_batch_is_refused(digits: Recipe) -> None:
    for half in ({"lr_scaling": "sqrt"}, {"lr_batch": 256}, {"lr_scaling": "none", "lr_batch": 9}):
        with pytest.raises(Refusal, match="say lr_scaling .linear or sqrt. and lr_batch together"):
            digits.override({f"phases.0.optim.main.{key}": value for key, value in half.items()})


def test_a_repeated_batch_is_the_mean_over_its_views(digits: Recipe) -> None:
    """Gradients, what is logged and what a ledger keeps are those of the mean over all views."""
    recipe = digits.override(
        {
            "data.train.repeat": 2,
            "data.ledger": True,
            "data.batch": 8,
            "phases.0.schedule": "constant",
        }
    )
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    views = torch.randn(2, 8, 1, 8, 8)
    columns = {"image": views[0], "image_2": views[1], "label": torch.arange(8) % 10}
    repeated = Batch({**columns, "id": torch.arange(8)}, key=0)
    stage = staged(recipe, network, Plan(80, 8, 8))
    before = [p.detach().clone() for p in network.parameters()]
    twin = copy.deepcopy(network)
    logs = stage.spend(repeated, 0, ())
    smoothing = recipe.phases[0].task.arguments.get("label_smoothing", 0.0)
    both = torch.cat([views[0], views[1]])
    label = columns["label"].repeat(2)
    loss = functional.cross_entropy(twin(both), label, label_smoothing=smoothing)
    loss.backward()
    torch.testing.assert_close(logs["loss"], loss.detach())
    lr = stage.lrs["lr"]
    for p, q, old in zip(network.parameters(), twin.parameters(), before, strict=True):
        decay = recipe.phases[0].optim["main"].weight_decay * old
        assert q.grad is not None
        torch.testing.assert_close(p, old - lr * (q.grad + decay))
    assert stage.samples["loss"].shape == stage.samples["correct"].shape == (8,)
