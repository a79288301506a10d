"""Checkpoints: whole or not there, checked when read, never unpickled."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from datasets import store
from datasets.refusal import Refusal
from tests.trainers.runs import saved
from trainers import checkpoint, saving
from trainers.checkpoint import State

FILES = ("model.safetensors", "task.safetensors", "optim.safetensors", "state.json")


def test_a_child_stands_where_its_parent_stood() -> None:
    parent = State(9, ((3, 6), (3, 9)), scores=((0, 3, 0.5),), kept="val/loss min", recipe="a")
    longer = State(0, ((3, 6), (3, 30)), kept="val/loss min", recipe="b")
    child = parent.under(longer)
    assert (child.step, child.lengths, child.recipe) == (9, ((3, 6), (3, 30)), "b")
    assert child.scores == parent.scores
    other = parent.under(State(0, ((3, 6), (3, 30)), kept="val/accuracy max"))
    assert other.scores == (), "a score of another metric says nothing"


def test_phases_that_are_over_keep_the_length_they_had() -> None:
    stopped_early = State(8, ((3, 4), (3, 9)))
    child = stopped_early.under(State(0, ((3, 60), (3, 12))))
    assert child.lengths == ((3, 4), (3, 12))


@pytest.mark.parametrize(
    ("lengths", "path"),
    [
        (((3, 6), (3, 2)), "phases.1"),
        (((3, 6), (5, 30)), "data.batch"),
        (((3, 60),), "data.batch"),
    ],
)
def test_a_place_that_the_child_does_not_have_is_refused(lengths: Any, path: str) -> None:
    with pytest.raises(Refusal) as caught:
        State(9, ((3, 6), (3, 9))).under(State(0, lengths))
    assert caught.value.path == path


STATE = State(
    step=7,
    lengths=((4, 8), (4, 12)),
    scores=((0, 4, 0.5), (0, 7, float("nan"))),
    samples=448,
    seconds=1.25,
    wait_seconds=0.5,
    recipe="abcd1234",
    commit="f" * 40,
)


class Owner(nn.Module):
    """A task that owns more than the model: a prototype and a running centre."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.prototype = nn.Parameter(torch.randn(3))
        self.register_buffer("centre", torch.randn(3))


def network(seed: int = 0, width: int = 6) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 5, generator=generator)).square().mean().backward()
        optimizer.step()


def written(run: Path, step: int = 7, seed: int = 0) -> str:
    model = network(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    stepped(model, optimizer)
    state = State(step, STATE.lengths)
    return saved(str(run), state, model=model, task=Owner(model), optimizers={"main": optimizer})


@pytest.mark.parametrize("remote", [False, True])
def test_everything_round_trips_to_the_bit(remote: bool, tmp_path: Path) -> None:
    run = "memory://checkpoints/run" if remote else str(tmp_path)
    model = network()
    task = Owner(model)
    optimizer = torch.optim.Adam(task.parameters(), lr=0.1)
    stepped(model, optimizer)
    url = saved(run, STATE, model=model, task=task, optimizers={"main": optimizer})
    assert url == checkpoint.latest(run) == f"{run}/checkpoints/step-00000007"
    found = checkpoint.read_state(url)
    assert repr(found) == repr(STATE)  # repr: a NaN score is equal to none

    other = network(seed=9)
    owner = Owner(other)
    fresh = torch.optim.Adam(owner.parameters(), lr=0.1)
    checkpoint.load_model(url, other)
    checkpoint.load_task(url, owner, other)
    checkpoint.load_moments(url, {"main": fresh})
    stepped(model, optimizer)
    stepped(other, fresh)
    for (key, one), (_, two) in zip(
        task.state_dict().items(), owner.state_dict().items(), strict=True
    ):
        assert torch.equal(one, two), key
    if remote:
        store.remove(run)


def test_the_weights_alone_are_plain_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    url = written(tmp_path)
    assert set(load_file(f"{url}/model.safetensors")) == set(network().state_dict())
    assert set(load_file(f"{url}/task.safetensors")) == {"prototype", "centre"}
    assert set(os.listdir(url)) == {*FILES, "complete.json"}


def test_nothing_is_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = written(tmp_path)
    for name in FILES:
        data = Path(url, name).read_bytes()
        with pytest.raises((ValueError, pickle.UnpicklingError)):
            list(pickletools.genops(data))
        assert not data.startswith(b"PK")

    def never(*arguments: object, **named: object) -> object:
        raise AssertionError("unpickled")

    for module, attribute in ((pickle, "loads"), (pickle, "load"), (torch, "load")):
        monkeypatch.setattr(module, attribute, never)
    model = network(5)
    checkpoint.load_model(url, model)
    checkpoint.load_task(url, Owner(model), model)
    checkpoint.load_moments(url, {"main": torch.optim.Adam(model.parameters())})


def test_moments_come_back_and_hyper_parameters_do_not(tmp_path: Path) -> None:
    url = written(tmp_path)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.025, betas=(0.5, 0.6), weight_decay=0.3)
    checkpoint.load_moments(url, {"main": optimizer})
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.025, (0.5, 0.6), 0.3)
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        assert state["step"] == 3 and state["exp_avg"].abs().sum() > 0
        assert state["exp_avg"].shape == parameter.shape


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_moments_come_back_in_the_memory_format_of_their_parameter(
    kind: Any, tmp_path: Path
) -> None:
    """Fused kernels walk parameter, gradient and moments side by side, whatever their strides say."""

    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        net = nn.ParameterDict({"scale": torch.ones(()), "w": conv.weight, "b": conv.bias})
        given = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return net, kind(net.parameters(), lr=0.1, fused=True, **given)

    def step(net: Any, optimizer: torch.optim.Optimizer) -> None:
        x = torch.arange(2 * 3 * 5 * 5.0).view(2, 3, 5, 5).to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        (net["scale"] * torch.conv2d(x / 75, net["w"], net["b"])).square().mean().backward()
        optimizer.step()

    through, optimizer = fresh()
    step(through, optimizer)
    url = saved(str(tmp_path), STATE, model=through, task=through, optimizers={"main": optimizer})
    step(through, optimizer)
    resumed, optimizer = fresh()
    checkpoint.load_model(url, resumed)
    checkpoint.load_moments(url, {"main": optimizer})
    step(resumed, optimizer)
    pairs = zip(through.parameters(), resumed.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_tied_weights_are_written(tmp_path: Path) -> None:
    model = nn.ModuleDict({"one": nn.Linear(3, 3, bias=False), "two": nn.Linear(3, 3, bias=False)})
    model["two"].weight = model["one"].weight
    url = saved(str(tmp_path), STATE, model=model, task=nn.Identity(), optimizers={})
    other = nn.ModuleDict({"one": nn.Linear(3, 3, bias=False), "two": nn.Linear(3, 3, bias=False)})
    checkpoint.load_model(url, other)
    assert torch.equal(other["one"].weight, other["two"].weight)


# --- damage


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flip", "cut", "empty"])
def test_a_damaged_file_is_refused(name: str, how: str, tmp_path: Path) -> None:
    url = written(tmp_path)
    path = Path(url, name)
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes({"flip": bytes(data), "cut": bytes(data[:-1]), "empty": b""}[how])
    model = network()
    with pytest.raises(Refusal, match="checksum") as caught:
        {
            "model.safetensors": lambda: checkpoint.load_model(url, model),
            "task.safetensors": lambda: checkpoint.load_task(url, Owner(model), model),
            "optim.safetensors": lambda: checkpoint.load_moments(
                url, {"main": torch.optim.Adam(model.parameters())}
            ),
            "state.json": lambda: checkpoint.read_state(url),
        }[name]()
    assert caught.value.path == f"{url}/{name}" and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*FILES, "complete.json"])
def test_a_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    url = written(tmp_path)
    Path(url, name).unlink()
    if name == "complete.json":
        assert checkpoint.latest(str(tmp_path)) is None
        name = "model.safetensors"
    model = network()
    with pytest.raises(Refusal):
        checkpoint.read_state(url)
        checkpoint.load_model(url, model)
        checkpoint.load_task(url, Owner(model), model)
        checkpoint.load_moments(url, {"main": torch.optim.Adam(model.parameters())})


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null"])
def test_a_marker_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    url = written(tmp_path)
    Path(url, "complete.json").write_text(text)
    with pytest.raises(Refusal) as caught:
        checkpoint.load_model(url, network())
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_model_names_the_tensors(tmp_path: Path) -> None:
    url = written(tmp_path)
    with pytest.raises(Refusal, match=r"0.weight \(6, 5\) where the model has \(7, 5\)"):
        checkpoint.load_model(url, network(width=7))
    with pytest.raises(Refusal, match=r"lacks 3\.bias, 3\.weight"):
        checkpoint.load_model(url, nn.Sequential(*network(), nn.Linear(2, 2)))
    with pytest.raises(Refusal, match=r"has 2\.bias, 2\.weight besides") as caught:
        checkpoint.load_model(url, network()[:2])  # type: ignore[index]
    assert caught.value.path == url and "the recipe that wrote it" in caught.value.remedy


def test_a_refused_checkpoint_changes_nothing(tmp_path: Path) -> None:
    url = written(tmp_path)
    model = network(width=7)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(Refusal):
        checkpoint.load_model(url, model)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    url = written(tmp_path)
    model = network()
    with pytest.raises(Refusal, match="another task"):
        checkpoint.load_task(url, nn.ModuleDict({"model": model}), model)


def test_moments_of_another_shape_are_refused(tmp_path: Path) -> None:
    url = written(tmp_path)
    other = network(width=7)
    with pytest.raises(Refusal, match="another shape"):
        checkpoint.load_moments(url, {"main": torch.optim.Adam(other.parameters())})


# --- atomicity


def test_a_folder_without_its_marker_is_not_the_latest(tmp_path: Path) -> None:
    first = written(tmp_path, step=3)
    second = written(tmp_path, step=5)
    assert checkpoint.latest(str(tmp_path)) == second
    Path(second, "complete.json").unlink()
    assert checkpoint.latest(str(tmp_path)) == first
    Path(first, "complete.json").unlink()
    assert checkpoint.latest(str(tmp_path)) is None


def test_what_dies_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = written(tmp_path, step=3)
    calls = []

    def dying(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError("no space left on device")
        save_file(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(saving, "save_file", dying)
    with pytest.raises(Refusal, match="no space"):
        written(tmp_path, step=5)
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000003"]
    assert checkpoint.latest(str(tmp_path)) == first


def test_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    url = written(tmp_path)
    for name in ("step-9", "step-00000009.old", ".writing-x", "best.json", "step-x"):
        other = tmp_path / "checkpoints" / name
        other.mkdir()
        (other / "complete.json").write_text("{}")
    assert checkpoint.latest(str(tmp_path)) == url
    saving.prune(str(tmp_path), keep=1, best=())
    assert checkpoint.latest(str(tmp_path)) == url


def test_steps_are_numbers_not_words(tmp_path: Path) -> None:
    written(tmp_path, step=99_999_999)
    assert checkpoint.latest(str(tmp_path)) != written(tmp_path, step=5)
    last = written(tmp_path, step=100_000_000)
    assert checkpoint.latest(str(tmp_path)) == last


def test_the_same_step_twice_is_the_second(tmp_path: Path) -> None:
    written(tmp_path, step=4, seed=0)
    url = written(tmp_path, step=4, seed=1)
    model = network(2)
    checkpoint.load_model(url, model)
    expected = network(1)
    stepped(expected, torch.optim.Adam(expected.parameters(), lr=0.1))
    assert torch.equal(model[0].weight, expected[0].weight)  # type: ignore[index]


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [
        (1, (), [5]),
        (1, (2,), [2, 5]),
        (1, (3, 2), [2, 3, 5]),
        (2, (5,), [4, 5]),
        (9, (), [1, 2, 3, 4, 5]),
    ],
)
def test_pruning_keeps_the_newest_and_the_best(
    keep: int, best: tuple[int, ...], left: list[int], tmp_path: Path
) -> None:
    for step in range(1, 6):
        written(tmp_path, step=step)
    saving.prune(str(tmp_path), keep=keep, best=best)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == [f"step-{step:08d}" for step in left]


def test_json_of_a_state_is_for_people(tmp_path: Path) -> None:
    tree = json.loads(Path(written(tmp_path), "state.json").read_bytes())
    assert tree["step"] == 7 and tree["lengths"] == [[4, 8], [4, 12]]
