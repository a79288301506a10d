"""Activations computed again: the same gradients and running statistics, fewer tensors kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from datasets.refusal import Refusal
from tests.trainers.runs import Places, rows, same, weights
from trainers import build
from trainers.activations import checkpoint_blocks
from trainers.build import Shape
from trainers.engine import fit
from trainers.recipe import Recipe

SHAPE = Shape(10, channels=3, size=32)
# Stages of residual blocks, of layers in chains, of attention in a library's own list, a plain chain, one of its own.
BLOCKS = {
    "resnet20": 9,
    "small_cnn": 1,
    "mynet": 1,
    "torchvision:resnet18": 8,
    "torchvision:vgg11_bn": 2,
    "torchvision:mobilenet_v3_small": 14,
    "timm:vit_tiny_patch16_224": 12,
    "timm:efficientnet_lite0": 16,
    "timm:densenet121": 9,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_and_buffers_are_the_same_and_less_is_kept(digits: Recipe, name: str) -> None:
    shape = Shape(10, channels=3, size=224 if "vit" in name else 32)
    recipe = digits.override({"model": {"name": name}})
    found = []
    for blocks in (False, True):
        network = build.model(recipe, shape).train()
        if blocks:
            assert checkpoint_blocks(network) == BLOCKS[name]
        x = torch.randn(4, 3, shape.size, shape.size, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(1)  # dropout draws the same again
        loss, size = measured(network, x)
        loss.backward()
        gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        found.append((size, gradients, {n: b.clone() for n, b in network.named_buffers()}))
    (much, one, buffers), (little, two, others) = found
    assert little < much
    assert one.keys() == two.keys()
    for key, gradient in one.items():
        torch.testing.assert_close(two[key], gradient, rtol=1e-5, atol=1e-7)
    for key, buffer in buffers.items():
        assert torch.equal(buffer, others[key]), f"{key} moved twice"


def measured(network: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """(a loss, the bytes that the graph keeps for its backward pass)."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(x).square().mean()
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    return loss, sum(size for pointer, size in kept.items() if pointer not in own)


def test_a_run_learns_the_same(digits: Recipe, local: Places) -> None:
    short = {"phases.0.steps": 6, "phases.0.epochs": None, "model.dropout": 0.3}
    plain, again = local("plain"), local("again")
    list(fit(digits.override(short), plain))
    list(fit(digits.override(short).override("scale.checkpoint_activations=true"), again))
    assert same(weights(plain), weights(again))
    assert rows(plain) == rows(again)


def test_a_model_without_blocks_is_a_refusal() -> None:
    with pytest.raises(Refusal, match="no blocks"):
        checkpoint_blocks(nn.Linear(3, 2))
