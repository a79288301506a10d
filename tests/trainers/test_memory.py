"""The memory of training, foretold: against saved tensors counted by hand, and against torch's own tracker."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from datasets.refusal import Refusal
from trainers import build, memory
from trainers.build import Shape
from trainers.memory import Memory
from trainers.recipe import Recipe
from trainers.task import Step, Task

TABLE = Shape(num_classes=1, channels=4, size=0)
PICTURES = Shape(num_classes=10, channels=3, size=64, classes=("a",) * 10, stored=(64, 64, 3))


def curve(**changes: object) -> Recipe:
    tree = {"model.hidden": [8], **changes}
    return Recipe.load("recipes/curve.yaml").override(tree)


def test_what_a_perceptron_keeps_is_counted_by_hand() -> None:
    """4 -> 8, sigmoid, -> 1: 49 weights; autograd keeps the sigmoid's 8 and the error's 1 of each row."""
    found = memory.estimate(curve(), TABLE, 0, bf16=False)
    weights = 4 * (4 * 8 + 8 + 8 + 1)
    steps = 4 * 4  # Adam counts its steps once a parameter
    assert found.parameters == found.gradients == weights
    assert found.moments == 2 * weights + steps
    x, y, identity, label = 4 * 4, 4, 8, 8
    assert found.row == 4 * (8 + 1) + x + y + identity + label
    assert found.activations == 0
    assert found.at(10) == 4 * weights + steps + 10 * found.row


@pytest.mark.parametrize(
    ("optim", "moments"),
    [
        ({"name": "sgd"}, 0),
        ({"name": "sgd", "momentum": 0.9}, 1),
        ({"name": "rmsprop"}, 1),
        ({"name": "adamw"}, 2),
    ],
)
def test_moments_are_those_of_the_optimizer(optim: dict[str, object], moments: int) -> None:
    recipe = curve(**{"phases.0.optim.main": {"lr": 0.1, **optim}})
    found = memory.estimate(recipe, TABLE, 0, bf16=False)
    assert found.moments // found.parameters == moments


def test_what_is_frozen_has_neither_gradient_nor_moments_nor_needs_its_input() -> None:
    whole = memory.estimate(curve(), TABLE, 0, bf16=False)
    head = memory.estimate(curve(**{"phases.0.train": ["2.*"]}), TABLE, 0, bf16=False)
    assert head.parameters == whole.parameters
    assert head.gradients == 4 * 9
    assert head.row == whole.row, "the head's input is what the sigmoid kept, too"
    assert head.fixed < whole.fixed


def test_bf16_halves_activations_and_copies_weights() -> None:
    recipe = Recipe.load("recipes/digits.yaml", ["model=resnet20"])
    plain = memory.estimate(recipe, PICTURES, 0, bf16=False)
    half = memory.estimate(recipe, PICTURES, 0, bf16=True)
    assert 0.45 < half.row / plain.row < 0.6
    assert 0.4 < (half.activations - plain.activations) / plain.parameters < 0.55


def test_an_average_of_the_weights_is_another_copy_of_them() -> None:
    plain, averaged = (
        memory.estimate(curve(**{"phases.0.ema": ema}), TABLE, 0, bf16=False) for ema in (None, 0.9)
    )
    assert averaged.fixed - plain.fixed == plain.parameters


def test_blocks_that_are_computed_again_keep_less() -> None:
    recipe = Recipe.load("recipes/digits.yaml", ["model=resnet20"])
    plain = memory.estimate(recipe, PICTURES, 0, bf16=False)
    again = recipe.override("scale.checkpoint_activations=true")
    assert memory.estimate(again, PICTURES, 0, bf16=False).row < 0.5 * plain.row


def test_two_networks_that_step_in_turn_are_one_worker() -> None:
    recipe = Recipe.load("recipes/dcgan_digits.yaml")
    shape = Shape(num_classes=10, channels=1, size=8, stored=(8, 8, 1))
    found = memory.estimate(recipe, shape, 0, bf16=False)
    assert found.moments // found.gradients == 3, "Adam's two, and the average"
    assert found.row > 0


@pytest.mark.parametrize("name", ["resnet20", "timm:resnet18", "timm:vit_tiny_patch16_224"])
@pytest.mark.parametrize("bf16", [False, True])
def test_the_estimate_is_near_what_torch_tracks(name: str, bf16: bool) -> None:
    """Above the tracker's peak, by less than the gradients, which a worker of several holds all the time."""
    more = ["model.img_size=64", "model.depth=3"] if "vit" in name else []
    recipe = Recipe.load("recipes/digits.yaml", [f"model={name}", *more])
    foretold = memory.estimate(recipe, PICTURES, 0, bf16=bf16)
    rows = 32
    peak = tracked(recipe, rows, bf16=bf16)
    assert 0.93 * peak < foretold.at(rows) < peak + foretold.gradients + 0.1 * peak


def tracked(recipe: Recipe, rows: int, *, bf16: bool) -> int:
    """The peak of the second of two steps, as torch's tracker has it, with the batch."""
    network = memory.preview(recipe, PICTURES)
    with FakeTensorMode(allow_non_fake_inputs=True):
        memory._without_storage(network)
        task = build.task(recipe, 0, network).train()
        optimizers = memory._optimizers(recipe, 0, task)
        tracker = MemTracker()
        tracker.track_external(task, *optimizers.values())
        with tracker:
            for _ in range(2):
                batch = memory._batch(recipe, 0, PICTURES, rows)
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    (step,) = task.training_step(batch)
                step.loss.backward()
                for optimizer in optimizers.values():
                    optimizer.step()
                    optimizer.zero_grad()
                tracker.reset_mod_stats()
    snapshot = tracker.get_tracker_snapshot("peak")
    return max(device["Total"] for device in snapshot.values())


def test_a_task_that_looks_at_values_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Curious(Task):
        def training_step(self, batch):  # type: ignore[no-untyped-def]
            yield Step(self.model(batch["x"]).mean() * float(batch["x"].sum()))

    curious = Curious()
    curious.model = nn.Linear(4, 1)
    monkeypatch.setattr(memory.build, "task", lambda *_, **__: curious)
    monkeypatch.setattr(memory, "freeze", lambda *_: None)
    monkeypatch.setattr(curious, "networks", lambda: {"main": curious.model})
    with pytest.raises(Refusal, match="phases.0.task: memory cannot be foretold"):
        memory.estimate(curve(), TABLE, 0, bf16=False)


def test_rows_that_fit() -> None:
    found = Memory(parameters=100, gradients=100, moments=200, activations=0, row=10)
    assert found.most_rows(600) == 20
    assert found.most_rows(399) == 0
