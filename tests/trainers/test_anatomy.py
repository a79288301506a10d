"""The layers of networks by depth, their heads, and what `train` means."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from datasets.refusal import Refusal
from trainers import anatomy, rooms
from trainers.models import mynetpro

LIBRARY = ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "tf_efficientnet_lite0", "vgg11"]
OURS = [name for name in rooms.doors("models") if name not in ("dcgan", "sngan", "mlp")]


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(name, num_classes=7)
    return network.eval()


def resnet() -> nn.Module:
    network: nn.Module = torchvision.models.resnet18(num_classes=5)
    return network


@pytest.mark.parametrize("name", LIBRARY)
def test_every_parameter_is_in_one_layer_and_the_head_is_the_last(name: str) -> None:
    network = made(name)
    layers = anatomy.layers(network)
    inside = [parameter for layer in layers for parameter in layer.parameters]
    assert sorted(inside) == sorted(name for name, _ in network.named_parameters())
    assert f"{anatomy.head(network)}.weight" in layers[-1].parameters


@pytest.mark.parametrize("name", LIBRARY)
def test_features_through_the_head_are_the_outputs(name: str) -> None:
    network = made(name)
    body, head = anatomy.headless(network), network.get_submodule(anatomy.head(network))
    pictures = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(head(body(pictures)), network(pictures))


def test_a_headless_network_is_the_same_network() -> None:
    network = resnet()
    body = anatomy.headless(network)
    whole = dict(network.named_parameters())
    assert {*dict(body.named_parameters())} == {*whole} - {"fc.weight", "fc.bias"}
    assert all(whole[name] is parameter for name, parameter in body.named_parameters())
    body.train()
    before = network.get_buffer("bn1.running_mean").clone()
    body(torch.randn(4, 3, 32, 32) + 3)
    assert not torch.equal(before, network.get_buffer("bn1.running_mean"))
    assert isinstance(network.get_submodule("fc"), nn.Linear)


def test_layers_of_known_networks() -> None:
    names = [layer.name for layer in anatomy.layers(resnet())]
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert names == ["conv1", *blocks, "fc"]
    with torch.device("meta"):
        vit = torchvision.models.vit_b_16()
    names = [layer.name for layer in anatomy.layers(vit)]
    assert len(names) == 14 and names[-1] == "heads.head"
    assert "class_token" in anatomy.layers(vit)[0].parameters


@pytest.mark.parametrize(
    ("words", "learns", "rests"),
    [
        (["head"], ["fc.weight", "fc.bias"], ["layer4.1.conv2.weight"]),
        (["body"], ["conv1.weight", "layer4.1.bn2.bias"], ["fc.weight"]),
        (["layer4+"], ["layer4.0.conv1.weight", "layer4.0.downsample.0.weight", "fc.bias"], ["layer3.1.bn2.bias"]),
        (["layer3.1+"], ["layer3.1.conv1.weight", "layer4.0.conv1.weight"], ["layer3.0.conv1.weight"]),
        (["last 2"], ["layer4.0.conv1.weight", "layer4.1.conv1.weight", "fc.weight"], ["layer3.1.conv1.weight"]),
        (["head", "*.bn1.*"], ["fc.weight", "layer1.0.bn1.weight"], ["layer1.0.bn2.weight"]),
        (["*"], ["conv1.weight", "fc.weight"], []),
    ],
)  # fmt: skip
def test_words_mean_parameters(words: list[str], learns: list[str], rests: list[str]) -> None:
    chosen = anatomy.learning(resnet(), words, "phases.0.train")
    assert {*learns} <= chosen
    assert not chosen & {*rests}


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("layer9+", "layer"),
        ("last 40", "9"),
        ("last 0", "9"),
        ("heads", "fc"),
    ],
)
def test_words_that_mean_nothing_are_refused(word: str, told: str) -> None:
    with pytest.raises(Refusal) as refused:
        anatomy.learning(resnet(), ["head", word], "phases.0.train")
    assert refused.value.path == "phases.0.train.1" and refused.value.value == word
    assert told in str(refused.value)


@pytest.mark.parametrize("name", OURS)
def test_our_models_have_layers_and_heads(name: str) -> None:
    door = rooms.door("models", name)
    channels, size = door.constants.get("INPUT", (3, 32))
    context = {"num_classes": 4, "channels": channels, "size": size or 32}
    with torch.device("meta"):
        network = door.build(context, {})
    inside = [p for layer in anatomy.layers(network) for p in layer.parameters]
    assert sorted(inside) == sorted(name for name, _ in network.named_parameters())
    if name != "clip":  # two towers, without a classifier
        assert network.get_submodule(anatomy.head(network)).out_features == 4


def test_a_network_without_a_linear_layer_has_no_head() -> None:
    with pytest.raises(Refusal, match="no linear layer"):
        anatomy.head(nn.Conv2d(3, 3, 1))


def test_a_classifier_of_several_layers_has_its_last_as_head() -> None:
    network = mynetpro.build(3, 3)
    assert anatomy.head(network) == "classifier.6"
