"""Each optimizer of the room takes torch's own steps; groups, decay and clipping are as the recipe says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.optim.lars import Lars
from torch import Tensor, nn

from datasets.refusal import Refusal
from trainers import rooms
from trainers.groups import SHARE, Penalties, step_of
from trainers.groups import optimizer as built
from trainers.phase import Optim, Penalty

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
    "lars": (
        {"momentum": 0.8, "trust": 0.01},
        lambda p, **k: Lars(
            p, momentum=0.8, trust_coeff=0.01, always_adapt=not k["weight_decay"], **k
        ),
    ),
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
    mine = stepped(one, built(optim(name, weight_decay=weight_decay, **arguments), one, "optim"))
    other = stepped(two, make(two.parameters(), lr=0.01, weight_decay=weight_decay))
    # Fused kernels round in another order.
    torch.testing.assert_close(mine, other, rtol=2e-6, atol=1e-7)
    assert not all(torch.equal(a, b) for a, b in zip(mine, before, strict=True))


def test_biases_and_norms_are_left_out_of_decay_when_asked() -> None:
    net = network()
    optimizer = built(optim("adamw", weight_decay=0.1, no_decay=True), net, "optim")
    names = {id(p): n for n, p in net.named_parameters()}
    groups = [
        ({names[id(p)] for p in g["params"]}, g["weight_decay"]) for g in optimizer.param_groups
    ]
    assert groups == [
        ({"0.weight", "3.weight"}, 0.1),
        ({"0.bias", "1.weight", "1.bias", "3.bias"}, 0.0),
    ]
    everything = built(optim("adamw", weight_decay=0.1), net, "optim")
    assert [(len(g["params"]), g["weight_decay"]) for g in everything.param_groups] == [(6, 0.1)]


def test_only_what_learns_is_stepped() -> None:
    net = network()
    net[0].requires_grad_(False)
    optimizer = built(optim("sgd"), net, "optim")
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 4
    net.requires_grad_(False)
    with pytest.raises(Refusal) as caught:
        built(optim("sgd"), net, "phases.0.optim.main")
    assert caught.value.path == "phases.0.optim.main"


def test_nesterov_without_momentum_is_plain() -> None:
    """torch refuses it; a search over momentum that meets 0 should not die of it."""
    net = network()
    plain = built(optim("sgd", nesterov=True), net, "optim")
    assert plain.param_groups[0]["nesterov"] is False


@pytest.mark.parametrize("name", ROOM)
def test_a_layer_may_get_its_first_gradient_later_than_others(name: str) -> None:
    """Layers that are dropped at random do; a fused kernel wants momentum of all parameters or of none."""
    arguments, make = ROOM[name]
    one, two = network(), network()
    mine = built(optim(name, **arguments), one, "optim")
    other = make(two.parameters(), lr=0.01, weight_decay=0.0)
    for net, optimizer in ((one, mine), (two, other)):
        net[0](torch.ones(4, 5)).square().mean().backward()
        optimizer.step()
        stepped(net, optimizer)
    torch.testing.assert_close([*one.parameters()], [*two.parameters()], rtol=2e-6, atol=1e-7)


def test_rates_fall_from_the_head_to_the_input() -> None:
    net = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 2))
    optimizer = built(optim("sgd", layer_decay=0.5), net, "optim")
    shares = {id(p): group[SHARE] for group in optimizer.param_groups for p in group["params"]}
    assert [shares[id(p)] for p in net.parameters()] == [*[0.25] * 4, *[0.5] * 2, *[1.0] * 2]


def test_frozen_layers_keep_their_place_in_the_decay() -> None:
    net = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 2))
    net[1].requires_grad_(False)
    optimizer = built(optim("sgd", layer_decay=0.1), net, "optim")
    assert [round(group[SHARE], 6) for group in optimizer.param_groups] == [0.01, 1.0]


def penalised(said: list[dict[str, Any]]) -> tuple[nn.Module, Penalties]:
    net = network()
    return net, Penalties(
        [Penalty.model_validate(each) for each in said], net, "phases.0.penalties"
    )


def test_penalties_are_the_gradients_of_their_norms() -> None:
    said = [{"norm": "l1", "strength": 0.3, "of": ["0.*"]}, {"norm": "l2", "strength": 0.2}]
    net, penalties = penalised(said)
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    net(x).square().mean().backward()
    value = penalties.add(list(net.parameters()))
    ours = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    lasso = 0.3 * sum(p.abs().sum() for name, p in net.named_parameters() if name[0] == "0")
    ridge = 0.1 * sum(p.square().sum() for p in net.parameters())
    (net(x).square().mean() + lasso + ridge).backward()
    for p, grad in zip(net.parameters(), ours, strict=True):
        torch.testing.assert_close(grad, p.grad)
    torch.testing.assert_close(value, (lasso + ridge).detach())


def test_a_coupled_l2_penalty_is_sgds_weight_decay() -> None:
    decayed, net = network(), network()
    penalties = Penalties([Penalty(norm="l2", strength=0.1)], net, "phases.0.penalties")
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    optimizers = built(optim("sgd", weight_decay=0.1), decayed, "o"), built(optim("sgd"), net, "o")
    for model, optimizer in zip((decayed, net), optimizers, strict=True):
        model(x).square().mean().backward()
        if model is net:
            penalties.add(list(net.parameters()))
        optimizer.step()
    for one, other in zip(decayed.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_penalty_of_nothing_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        penalised([{"norm": "l1", "strength": 1e-3, "of": ["conv.*"]}])
    assert refused.value.path == "phases.0.penalties.0.of.0"


def test_lars_steps_what_does_not_decay_as_sgd_does() -> None:
    """As SimCLR's code has it: biases and norms are neither decayed nor adapted."""
    one, two = network(), network()
    lars = built(optim("lars", weight_decay=0.1, no_decay=True, momentum=0.0), one, "optim")
    stepped(one, lars, steps=1)
    before = [p.detach().clone() for p in two.parameters()]
    stepped(two, built(optim("sgd"), two, "optim"), steps=1)
    for own, plain, start in zip(one.parameters(), two.parameters(), before, strict=True):
        if own.dim() == 1:
            torch.testing.assert_close(own, plain)
        else:  # a step is `trust` x lr of the weights
            moved = float((own.detach() - start).norm() / start.norm())
            assert 0.3e-3 * 0.01 < moved < 1.1e-3 * 0.01


@pytest.mark.parametrize("name", ROOM)
def test_a_step_without_hooks_is_the_same_step(name: str) -> None:
    """Bit by bit, and through the wrapper as soon as something hangs on it."""
    found, seen = [], []
    for hooked in (False, True):
        net = network()
        optimizer = built(optim(name), net, "optim")
        if hooked:
            optimizer.register_step_post_hook(lambda *_: seen.append(1))
        step = step_of(optimizer)
        assert (step == optimizer.step) is hooked
        optimizer.step = step  # type: ignore[method-assign]
        found.append(stepped(net, optimizer))
    assert len(seen) == 5
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_step_that_somebody_replaced_is_taken_as_it_is() -> None:
    optimizer = built(optim("sgd"), network(), "optim")
    optimizer.step = lambda closure=None: None  # type: ignore[method-assign, assignment, misc]
    assert step_of(optimizer) is optimizer.step
