"""Which layer a map is made of, over networks by many hands; and what is said of one that has none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from datasets.refusal import Refusal
from trainers import library, rooms
from trainers.explaining import layers
from trainers.explaining.maps import ready


def network(name: str, size: int, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    if name in rooms.doors("models"):
        context = {"num_classes": 3, "channels": 3, "size": size}
        built: nn.Module = rooms.door("models", name).build(context, arguments)
    else:
        found = library.find(name)
        assert found
        built = library.build(*found, arguments, num_classes=3, channels=3)
    for module in built.modules():  # torchvision's transformers begin with a head of zeros
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight)
    ready(built)
    return built


def maps_of(built: nn.Module, size: int) -> list[layers.Layer]:
    generator = torch.Generator().manual_seed(0)
    return layers.mapped(built, torch.randn(2, 3, size, size, generator=generator))


@pytest.mark.parametrize(
    ("name", "size", "arguments", "layer", "kind", "side", "before"),
    [
        ("small_cnn", 8, {}, "features.9", "channels first", 4, 0),
        ("resnet20", 16, {}, "layer3", "channels first", 4, 0),
        ("mynetpro", 224, {}, "features.16", "channels first", 13, 0),  # not the pooling after it
        ("torchvision:resnet18", 64, {}, "layer4", "channels first", 2, 0),
        ("torchvision:vgg11", 64, {}, "features.19", "channels first", 4, 0),
        ("timm:test_vit", 64, {"img_size": 64}, "blocks.5.norm1", "tokens", 4, 1),
        ("timm:test_convnext", 64, {}, "stages", "channels first", 2, 0),
        (
            *("torchvision:swin_t", 64, {}),
            *("permute", "channels first", 2, 0),
        ),
        (
            *("timm:swin_tiny_patch4_window7_224", 64, {"img_size": 64, "window_size": 2}),
            *("norm", "channels last", 2, 0),
        ),
        (
            *("torchvision:vit_b_16", 32, {"image_size": 32}),
            *("encoder.layers.encoder_layer_11.ln_1", "tokens", 2, 1),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and ":" in value else "",
)
def test_the_layer_that_is_chosen_unasked(
    name: str, size: int, arguments: dict[str, Any], layer: str, kind: str, side: int, before: int
) -> None:
    built = network(name, size, **arguments)
    chosen = layers.chosen(maps_of(built, size), built, None)
    assert (chosen.name, chosen.kind, chosen.side, chosen.before) == (layer, kind, side, before)


def test_a_grid_has_the_places_of_the_tokens_in_reading_order() -> None:
    layer = layers.Layer("x", "tokens", side=2, before=1)
    output = torch.arange(5.0).view(1, 5, 1).expand(1, 5, 3)
    assert layer.grid(output)[0, 0].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    last = layers.Layer("x", "channels last", side=2)
    assert last.grid(torch.zeros(1, 2, 2, 7)).shape == (1, 7, 2, 2)


def test_a_layer_that_is_run_twice_is_not_offered() -> None:
    built = network("torchvision:resnet18", 64)
    names = {layer.name for layer in maps_of(built, 64)}
    assert "layer4.1.relu" not in names  # called after each of the block's convolutions
    assert {"layer4", "layer4.1.conv2", "layer3", "conv1"} <= names


@pytest.mark.parametrize(
    ("name", "error", "remedy"),
    [
        ("feature.9", "the model has no layer 'feature.9'", "features.9"),
        ("head", "the layer 'head' has no map", "the nearest with a map: "),
        ("nonsense", "the model has no layer 'nonsense'", "features.9"),
    ],
)
def test_a_layer_that_does_not_exist_is_told_with_the_nearest(
    name: str, error: str, remedy: str
) -> None:
    built = network("small_cnn", 8)
    with pytest.raises(Refusal) as told:
        layers.chosen(maps_of(built, 8), built, name)
    assert (told.value.path, told.value.value) == ("--layer", name)
    assert error in told.value.error and remedy in told.value.remedy


def test_places_that_the_head_does_not_hear_of_are_refused() -> None:
    built = network("timm:test_vit", 64, img_size=64)
    with pytest.raises(Refusal) as told:
        layers.chosen(maps_of(built, 64), built, "blocks.5.mlp")
    assert told.value.remedy == "use blocks.5.norm1"


def test_a_network_without_places_is_refused() -> None:
    built = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    ready(built)
    with pytest.raises(Refusal) as told:
        layers.chosen(maps_of(built, 8), built, None)
    assert told.value.path == "model" and "Sequential" in told.value.error


def test_a_head_of_zeros_is_refused() -> None:
    built = network("small_cnn", 8)
    for parameter in built.get_submodule("head").parameters():
        parameter.zero_()
    with pytest.raises(Refusal, match="all zeros"):
        layers.chosen(maps_of(built, 8), built, None)
