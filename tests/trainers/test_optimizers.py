"""Each optimizer of the room takes torch's own steps; groups, decay and clipping are as the recipe says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datasets.refusal import Refusal
from trainers import rooms
from trainers.recipe import Optim
from trainers.stage import _optimizer

ROOM = {
    "sgd": (
        {"momentum": 0.9, "nesterov": True},
        lambda p, **k: torch.optim.SGD(p, momentum=0.9, nesterov=True, **k),
    ),
    "adam": (
        {"beta1": 0.8, "eps": 1e-6},
        lambda p, **k: torch.optim.Adam(p, betas=(0.8, 0.999), eps=1e-6, **k),
    ),
    "adamw": ({"beta2": 0.99}, lambda p, **k: torch.optim.AdamW(p, betas=(0.9, 0.99), **k)),
    "rmsprop": (
        {"alpha": 0.9, "momentum": 0.5},
        lambda p, **k: torch.optim.RMSprop(p, alpha=0.9, momentum=0.5, **k),
    ),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2))


def stepped(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5) -> list[Tensor]:
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def optim(name: str, **arguments: Any) -> Optim:
    return Optim.model_validate({"name": name, "lr": 0.01, **arguments})


def test_every_optimizer_is_compared() -> None:
    assert set(ROOM) == set(rooms.doors("optimizers"))


@pytest.mark.parametrize("name", ROOM)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_its_steps_are_torchs(name: str, weight_decay: float) -> None:
    arguments, make = ROOM[name]
    one, two = network(), network()
    before = [p.detach().clone() for p in one.parameters()]
    mine = stepped(
        one, _optimizer(optim(name, weight_decay=weight_decay, **arguments), one, "optim")
    )
    other = stepped(two, make(two.parameters(), lr=0.01, weight_decay=weight_decay))
    # Fused kernels round in another order.
    torch.testing.assert_close(mine, other, rtol=2e-6, atol=1e-7)
    assert not all(torch.equal(a, b) for a, b in zip(mine, before, strict=True))


def test_biases_and_norms_are_left_out_of_decay_when_asked() -> None:
    net = network()
    optimizer = _optimizer(optim("adamw", weight_decay=0.1, no_decay=True), net, "optim")
    names = {id(p): n for n, p in net.named_parameters()}
    groups = [
        ({names[id(p)] for p in g["params"]}, g["weight_decay"]) for g in optimizer.param_groups
    ]
    assert groups == [
        ({"0.weight", "3.weight"}, 0.1),
        ({"0.bias", "1.weight", "1.bias", "3.bias"}, 0.0),
    ]
    everything = _optimizer(optim("adamw", weight_decay=0.1), net, "optim")
    assert [(len(g["params"]), g["weight_decay"]) for g in everything.param_groups] == [(6, 0.1)]


def test_only_what_learns_is_stepped() -> None:
    net = network()
    net[0].requires_grad_(False)
    optimizer = _optimizer(optim("sgd"), net, "optim")
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 4
    net.requires_grad_(False)
    with pytest.raises(Refusal) as caught:
        _optimizer(optim("sgd"), net, "phases.0.optim.main")
    assert caught.value.path == "phases.0.optim.main"


def test_nesterov_without_momentum_is_plain() -> None:
    """torch refuses it; a search over momentum that meets 0 should not die of it."""
    net = network()
    built = _optimizer(optim("sgd", nesterov=True), net, "optim")
    assert built.param_groups[0]["nesterov"] is False


@pytest.mark.parametrize("name", ROOM)
def test_a_layer_may_get_its_first_gradient_later_than_others(name: str) -> None:
    """Layers that are dropped at random do; a fused kernel wants momentum of all parameters or of none."""
    arguments, make = ROOM[name]
    one, two = network(), network()
    mine = _optimizer(optim(name, **arguments), one, "optim")
    other = make(two.parameters(), lr=0.01, weight_decay=0.0)
    for net, optimizer in ((one, mine), (two, other)):
        net[0](torch.ones(4, 5)).square().mean().backward()
        optimizer.step()
        stepped(net, optimizer)
    torch.testing.assert_close([*one.parameters()], [*two.parameters()], rtol=2e-6, atol=1e-7)
