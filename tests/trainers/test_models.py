"""Every file of trainers/models, and models of timm, torchvision and open_clip by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from datasets.refusal import Refusal
from tests.trainers.runs import saved
from trainers import build, checkpoint, library, rooms
from trainers.build import Shape
from trainers.checkpoint import State
from trainers.describe import describe, preview
from trainers.recipe import Recipe

OURS = list(rooms.doors("models"))
TINY = {
    "vit": {"patch": 8, "layers": 2, "width": 24, "heads": 3, "mlp": 48}
}  # as it stands it has 86 M


def shape_for(name: str, *, num_classes: int = 10, channels: int = 3, size: int = 32) -> Shape:
    """A shape that the model takes: its own where it insists on one, numbers of a table for a perceptron."""
    wanted, side = rooms.door("models", name).constants.get("INPUT", (0, None))
    if name == "mlp":
        return Shape(1, channels=1, size=0)
    return Shape(num_classes, channels=wanted or channels, size=side or size)


def built(name: str, shape: Shape, **arguments: object) -> nn.Module:
    context = {"num_classes": shape.num_classes, "channels": shape.channels, "size": shape.size}
    network: nn.Module = rooms.door("models", name).build(context, arguments or TINY.get(name, {}))
    return network


def example(network: nn.Module, shape: Shape, rows: int) -> Tensor:
    like: Tensor = getattr(network, "example", shape.example)(rows, "cpu")
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0))


def named(digits: Recipe, name: str, **arguments: object) -> Recipe:
    return digits.override({"model": {"name": name, **arguments}})


@pytest.mark.parametrize("name", OURS)
def test_a_batch_goes_through_forth_and_back(name: str) -> None:
    torch.manual_seed(0)
    shape = shape_for(name)
    network = built(name, shape)
    out = network(example(network, shape, rows=2))
    assert len(out) == 2 and torch.isfinite(out).all()
    if name == "clip":  # features; its text tower has no part in them
        network = network.visual
    elif rooms.door("models", name).constants.get("TAKES") != "noise":
        assert out.shape == (2, shape.num_classes)
    out.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("name", OURS)
def test_samples_do_not_see_each_other_when_evaluated(name: str) -> None:
    torch.manual_seed(0)
    shape = shape_for(name)
    network = built(name, shape).eval()
    batch = example(network, shape, rows=2)
    with torch.no_grad():
        both, alone = network(batch), network(batch[:1])
    torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OURS)
def test_weights_round_trip_to_the_bit(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    shape = shape_for(name)
    network = built(name, shape)
    for buffer in network.buffers():  # running statistics count too
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2.0)
    task = nn.Identity()
    url = saved(str(tmp_path), State(1, ((1, 1),)), model=network, task=task, optimizers={})
    torch.manual_seed(2)
    other = built(name, shape)
    checkpoint.load_model(url, other)
    for (key, one), (_, two) in zip(
        network.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert torch.equal(one, two) and one.dtype == two.dtype, key


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "parameters"),
    [
        ("mynet", {}, Shape(19, channels=3, size=224), 28_105_799),
        ("resnet20", {}, Shape(10, channels=3, size=32), 269_722),
        ("mlp", {"hidden": [64, 64]}, Shape(1, channels=1, size=0), 4_353),
        ("mlp", {"hidden": []}, Shape(3, channels=2, size=0), 9),
    ],
)
def test_parameters_of_ours(
    name: str, arguments: dict[str, object], shape: Shape, parameters: int
) -> None:
    with torch.device("meta"):
        network = built(name, shape, **arguments)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "num_classes", "parameters"),
    [
        ("timm:resnet18", 1000, 11_689_512),  # as timm's table says
        ("torchvision:vit_b_16", 100, 85_875_556),
        ("torchvision:resnet50", 200, 23_917_832),
        ("timm:resnet50", 200, 23_917_832),
        ("torchvision:alexnet", 1000, 61_100_840),
        ("open_clip:RN50", 10, 38_316_896 + 1024 * 10 + 10),  # OpenAI's image tower, then our head
    ],
)
def test_parameters_of_the_libraries(
    digits: Recipe, name: str, num_classes: int, parameters: int
) -> None:
    network = preview(named(digits, name), Shape(num_classes, channels=3, size=224))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert all(p.is_meta for p in network.parameters())


@pytest.mark.parametrize(
    "name", ["resnet18", "timm:vit_tiny_patch16_224", "torchvision:mobilenet_v3_small"]
)
def test_a_librarys_model_takes_the_datas_shape(digits: Recipe, name: str) -> None:
    recipe = named(digits, name)
    channels, side = build.wanted(recipe)
    shape = Shape(7, channels=channels or 1, size=side or 32)
    found = describe(recipe, shape)
    assert found["modules"][-1]["output"] == [1, 7]
    assert (
        found["parameters"] == found["trainable"] == sum(m["parameters"] for m in found["modules"])
    )
    assert found["multiply_adds"] > 1e6


def test_multiply_adds_and_shapes_by_hand(digits: Recipe) -> None:
    shape = Shape(10, channels=1, size=8)
    found = describe(named(digits, "small_cnn", width=4), shape)
    narrow, width, wide = 2, 4, 8
    by_hand = 64 * 9 * (1 * narrow + narrow * width) + 16 * 9 * width * wide + wide * 10
    assert found["multiply_adds"] == by_hand
    outputs = {m["name"]: m["output"] for m in found["modules"]}
    assert outputs["features.0"] == [1, 2, 8, 8] and outputs["head"] == [1, 10]


def test_what_learns_is_counted(digits: Recipe) -> None:
    found = describe(digits.override("phases.0.train=[head.*]"), Shape(10, channels=1, size=8))
    head = next(m for m in found["modules"] if m["name"] == "head")
    assert found["trainable"] == head["parameters"] == head["trainable"] == 170
    assert found["parameters"] > 170


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("timm:resnet18", "drop_ratee", 0.1),
        ("timm:vit_tiny_patch16_224", "no_such", 3),
        ("torchvision:resnet18", "no_such", 3),
        ("torchvision:vit_b_16", "droput", 0.1),
        ("open_clip:RN50", "no_such", 3),
    ],
)
def test_a_wrong_argument_of_a_librarys_model_is_named(
    digits: Recipe, name: str, argument: str, value: object
) -> None:
    with pytest.raises(Refusal) as caught:
        preview(named(digits, name, **{argument: value}))
    assert caught.value.path == f"model.{argument}" and caught.value.value == value
    assert "\n" not in str(caught.value)


def test_the_nearest_argument_is_offered(digits: Recipe) -> None:
    with pytest.raises(Refusal, match="did you mean 'drop_rate'"):
        preview(named(digits, "timm:resnet18", drop_ratee=0.1))
    with pytest.raises(Refusal, match="did you mean 'dropout'"):
        preview(named(digits, "torchvision:vit_b_16", droput=0.1))


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_arguments_of_a_librarys_model_arrive(digits: Recipe, name: str) -> None:
    plain = library.build(*name.split(":"), {}, num_classes=5, channels=3)
    if name.startswith("timm"):
        dropped = library.build("timm", "resnet18", {"drop_rate": 0.3}, num_classes=5, channels=1)
        assert dropped.drop_rate == 0.3 and dropped.conv1.in_channels == 1
    else:
        with pytest.raises(Refusal):
            library.build(
                "torchvision", "resnet18", {"width_per_group": "wide"}, num_classes=5, channels=3
            )
    assert plain.fc.out_features == 5


def test_a_model_that_does_not_take_the_shape_is_refused(digits: Recipe) -> None:
    small = Shape(10, channels=3, size=16)
    with pytest.raises(Refusal) as caught:
        describe(named(digits, "mynetpro"), small)
    assert caught.value.path == "model" and "\n" not in str(caught.value)
    with pytest.raises(Refusal):
        describe(named(digits, "mlp"), small)


@pytest.mark.parametrize("name", ["dcgan", "sngan"])
def test_an_odd_size_is_refused_by_the_gan(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        built(name, Shape(1, channels=1, size=9))
    assert caught.value.path == "data.size" and caught.value.value == 9


@pytest.mark.parametrize("name", ["dcgan", "sngan"])
@pytest.mark.parametrize("size", [8, 16, 24, 28, 32, 64])
def test_the_gan_draws_pictures_of_the_size(name: str, size: int) -> None:
    network = built(name, Shape(1, channels=3, size=size), latent=5, width=4)
    picture = network.generator(torch.zeros(2, 5))
    assert picture.shape == (2, 3, size, size) and picture.abs().max() <= 1
    assert network.critic(picture).shape == (2,)


def test_weights_are_drawn_by_the_recipes_seed(digits: Recipe) -> None:
    shape = Shape(10, channels=1, size=8)

    def weights(recipe: Recipe) -> Tensor:
        return torch.cat([p.detach().flatten() for p in build.model(recipe, shape).parameters()])

    torch.manual_seed(5)
    one = weights(digits)
    torch.manual_seed(6)
    assert torch.equal(one, weights(digits))
    assert not torch.equal(one, weights(digits.override(seed=1)))


@pytest.mark.parametrize("source", [["timm", "resnet18"], ["torchvision", "resnet18"]])
def test_pretrained_says_its_normalisation(source: list[str]) -> None:
    seen = library.seen(*source, True)
    assert seen and (len(seen.mean), len(seen.std)) == (3, 3) and seen.size == 224
