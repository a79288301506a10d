"""Each task overfits a few samples, and none asks for ranks, devices or optimizers."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datasets.batch import Batch
from trainers import rooms
from trainers.task import Task

TASKS = list(rooms.doors("tasks"))
ROWS = 8


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def classify() -> tuple[nn.Module, dict[str, Tensor]]:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), {
        "image": drawn(ROWS, 1, 4, 4),
        "label": torch.arange(ROWS) % 4,
    }


def two_views() -> tuple[nn.Module, dict[str, Tensor]]:
    network, columns = classify()
    return network, {"image": columns["image"], "image_2": columns["image"] + 0.01}


def regress() -> tuple[nn.Module, dict[str, Tensor]]:
    network = rooms.door("models", "mlp").build(
        {"num_classes": 1, "channels": 1}, {"activation": "tanh"}
    )
    x = torch.linspace(-1, 1, ROWS)
    return network, {"x": x, "y": (3 * x).sin()}


def gan() -> tuple[nn.Module, dict[str, Tensor]]:
    network = rooms.door("models", "dcgan").build(
        {"channels": 1, "size": 8}, {"latent": 8, "width": 8}
    )
    pictures = drawn(ROWS, 1, 8, 8).mul(0.2).add(0.5).clamp(-1, 1)
    return network, {"image": pictures}


def adversarial() -> tuple[nn.Module, dict[str, Tensor]]:
    network, columns = classify()
    return network, {**columns, "image": columns["image"].sigmoid()}


def clip() -> tuple[nn.Module, dict[str, Tensor]]:
    network = rooms.door("models", "clip").build({"size": 8}, {"layers": 1, "context_length": 24})
    said = network.tokens([f"a photo of {name}" for name in ("one", "two", "three", "four")])  # type: ignore[operator]
    label = torch.arange(ROWS) % 4
    pictures = drawn(4, 3, 8, 8)[label] + 0.1 * drawn(ROWS, 3, 8, 8)
    return network, {"image": pictures, "label": label, "tokens": said[label]}


BY_TEXTS = ["clip", "clip_labels", "zero_shot", "coop", "cocoop", "tip_adapter", "clip_linear"]
# The network rests: what they learn beside it is in tests/trainers/language.
KEEP_IT = [n for n in TASKS if rooms.door("tasks", n).constants.get("KEEPS_MODEL")]
CLASSIFIERS = [n for n in TASKS if rooms.door("tasks", n).constants.get("PREDICTS") == "classes"]
OVER_PAIRS = [n for n in TASKS if rooms.door("tasks", n).constants.get("PAIRS") == "label"]
FEW = dict.fromkeys([*CLASSIFIERS, *OVER_PAIRS], classify)
FEW |= {"regress": regress, "gan": gan, "adversarial": adversarial}
FEW |= dict.fromkeys(["simclr", "simsiam"], two_views)
FEW |= dict.fromkeys(BY_TEXTS, clip)
# What is learnt by heart: of a loss whose floor is not 0, at a temperature that brings it there.
HOW: dict[str, dict[str, Any]] = {
    "simclr": {"temperature": 0.05, "projection": 16},
    "simsiam": {"projection": 16},
}


def made(name: str, **arguments: Any) -> tuple[Task, Batch]:
    torch.manual_seed(0)
    network, columns = FEW[name]()
    context = {"model": network, "counts": [2] * 4, "classes": ["one", "two", "three", "four"]}
    task: Task = rooms.door("tasks", name).build(context, arguments)
    return task, Batch({**columns, "id": torch.arange(ROWS)}, key=7)


def spent(task: Task, batch: Batch, steps: int, lr: float) -> list[dict[str, float]]:
    """Losses by optimizer of each step, driven as the engine does."""
    optimizers = {
        key: torch.optim.Adam(net.parameters(), lr) for key, net in task.networks().items()
    }
    history = []
    for number in range(steps):
        losses = {}
        for step in task.training_step(Batch(batch.columns, key=number)):
            optimizers[step.optim].zero_grad()
            step.loss.backward()
            optimizers[step.optim].step()
            losses[step.optim] = step.loss.item()
        history.append(losses)
    return history


def test_every_task_has_samples_here() -> None:
    assert set(FEW) == set(TASKS), "a new task needs a few samples to overfit"


@pytest.mark.parametrize("name", [n for n in TASKS if n not in ("gan", *KEEP_IT)])
def test_a_few_samples_are_learnt_by_heart(name: str) -> None:
    task, batch = made(name, **HOW.get(name, {}))
    rate = 1e-3 if name in BY_TEXTS else 1e-2
    losses = [step["main"] for step in spent(task, batch, 150, lr=rate)]
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("loss", ["hinge", "non_saturating"])
def test_a_gan_moves_its_samples_towards_the_real_ones(loss: str) -> None:
    task, batch = made("gan", loss=loss)

    def distance() -> float:
        task.eval()
        with torch.no_grad():
            drawn_mean = task.predict(batch)["sample"].mean()
        task.train()
        return float((drawn_mean - batch["image"].mean()).abs())

    before = distance()
    history = spent(task, batch, 60, lr=2e-3)
    assert list(history[0]) == ["critic", "generator"]
    assert distance() < 0.5 * before


def test_the_critic_learns_to_tell_them_apart() -> None:
    task, batch = made("gan")
    optimizer = torch.optim.Adam(task.networks()["critic"].parameters(), 1e-3)
    losses = []
    for _ in range(60):
        step = next(iter(task.training_step(batch)))
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append(step.loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_generator_meets_the_critic_that_has_stepped() -> None:
    task, batch = made("gan")
    steps = task.training_step(batch)
    next(steps)
    for parameter in task.networks()["critic"].parameters():
        parameter.data.zero_()
    assert next(steps).loss.item() == pytest.approx(
        0.6931472
    )  # softplus(0): no memory of the former critic
    assert next(steps, None) is None


def test_the_critics_step_does_not_reach_the_generator() -> None:
    task, batch = made("gan")
    step = next(iter(task.training_step(batch)))
    step.loss.backward()
    assert all(p.grad is None for p in task.networks()["generator"].parameters())


def test_noise_is_a_function_of_step_and_sample() -> None:
    task, batch = made("gan")
    noise = task.noise(batch)  # type: ignore[operator]
    assert noise.shape == (ROWS, 8)
    last = Batch({name: column[5:] for name, column in batch.columns.items()}, key=7)
    assert torch.equal(task.noise(last), noise[5:])  # type: ignore[operator]
    assert not torch.equal(task.noise(Batch(batch.columns, key=8)), noise)  # type: ignore[operator]


def test_soft_labels_of_one_class_are_hard_labels() -> None:
    task, batch = made("classify", label_smoothing=0.1)
    soft = {**batch.columns, "label": nn.functional.one_hot(batch["label"], 4).float()}
    hard_step, soft_step = (
        next(iter(task.training_step(batch))),
        next(iter(task.training_step(Batch(soft, 0)))),
    )
    torch.testing.assert_close(hard_step.loss, soft_step.loss)
    assert hard_step.logs["accuracy"] == soft_step.logs["accuracy"]


def test_label_smoothing_by_hand() -> None:
    task, batch = made("classify", label_smoothing=0.2)
    logs = task.predict(batch)["logits"].log_softmax(1)
    target = nn.functional.one_hot(batch["label"], 4) * 0.8 + 0.2 / 4
    step = next(iter(task.training_step(batch)))
    torch.testing.assert_close(step.loss, -(target * logs).sum(1).mean())


@pytest.mark.parametrize(("loss", "power"), [("squared", 2), ("absolute", 1)])
def test_regression_losses_by_hand(loss: str, power: int) -> None:
    task, batch = made("regress", loss=loss)
    error = task.predict(batch)["prediction"].flatten() - batch["y"]
    torch.testing.assert_close(
        next(iter(task.training_step(batch))).loss, error.abs().pow(power).mean()
    )


@pytest.mark.parametrize("name", TASKS)
def test_predictions_are_a_row_a_sample_and_take_no_gradient_tricks(name: str) -> None:
    task, batch = made(name)
    task.eval()
    with torch.no_grad():
        outputs = task.predict(batch)
    assert outputs and all(
        len(value) == ROWS and value.dtype != torch.bfloat16 for value in outputs.values()
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_blind(name: str) -> None:
    """Losses, and nothing of where they are spent (style.md, rule 6)."""
    tree = ast.parse(rooms.door("tasks", name).path.read_text())
    called = {
        n.func.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
    }
    assert not called & {
        "backward",
        "step",
        "zero_grad",
        "get_rank",
        "get_world_size",
        "cuda",
        "all_reduce",
    }
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not [
        m
        for m in imported
        if m and m.startswith(("torch.distributed", "torch.optim", "ray", "cluster"))
    ]


def test_the_way_to_an_adversarial_picture_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 4)
    )
    network[0].eval()  # frozen layers rest in eval mode, and stay there
    task: Task = rooms.door("tasks", "adversarial").build({"model": network}, {"epsilon": 32.0})
    _, columns = adversarial()
    batch, seen = Batch({**columns, "id": torch.arange(ROWS)}, key=7), []
    network[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    (step,) = task.training_step(batch)
    assert [module.training for module in network] == [False, True, True, True, True]
    assert int(network[1].num_batches_tracked) == 1, "of the step itself"
    assert all(parameter.grad is None for parameter in network.parameters())
    assert len(list(task.parameters())) == len(list(network.parameters()))
    moved = (seen[-1] - batch["image"]).abs()
    assert 0 < float(moved.max()) <= 32 / 255 + 1e-6
    step.loss.backward()
