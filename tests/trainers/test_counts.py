"""Parameters of the experiments' models, exactly, and of what learns of them; nothing is made but on the meta device."""

from __future__ import annotations

import re
from math import prod

import pytest
import torchvision

from trainers import rooms
from trainers.build import Shape
from trainers.describe import describe, preview
from trainers.recipe import Recipe

# What the reports of the experiments print (R0, R1, R3), or the field's papers, at their numbers of classes.
PRINTED = [
    ("torchvision:vit_b_16", {}, 100, 224, 85_875_556),
    ("vit", {}, 100, 224, 85_875_556),
    ("vit", {"layers": 18}, 100, 224, 128_402_788),
    ("torchvision:vgg11", {}, 100, 224, 129_176_036),
    ("torchvision:vit_b_16", {}, 200, 224, 85_952_456),
    ("torchvision:resnet50", {}, 200, 224, 23_917_832),
    ("torchvision:resnet101", {}, 200, 224, 42_909_960),
    ("mynet", {}, 19, 224, 28_105_799),
    ("resnet20", {}, 10, 32, 269_722),
]
# What docs/models.md says of ours.
DOCUMENTED = [
    ("resnet32", {}, 10, 32, 464_154),
    ("resnet56", {}, 10, 32, 853_018),
    ("base_model", {}, 35, 112, 397_891),
    ("my_base_model1", {}, 35, 112, 2_766_915),
    ("my_base_model2", {}, 35, 112, 3_461_059),
    ("efficientnet_lite0", {}, 1000, 224, 4_652_008),  # as timm's table says
]
# torchvision's own tables, at its 1,000 classes.
TORCHVISION = [
    *(f"vgg{depth}{norm}" for depth in (11, 16, 19) for norm in ("", "_bn")),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("vit_b_16", "vit_b_32", "vit_l_16", "vit_h_14"),
]


def network(digits: Recipe, name: str, **arguments: object) -> Recipe:
    return digits.override({"model": {"name": name, **arguments}})


def shape(num_classes: int, size: int = 224) -> Shape:
    return Shape(num_classes, channels=3, size=size)


@pytest.mark.parametrize(
    ("name", "arguments", "classes", "size", "parameters"), [*PRINTED, *DOCUMENTED]
)
def test_counts_of_the_experiments(
    digits: Recipe,
    name: str,
    arguments: dict[str, object],
    classes: int,
    size: int,
    parameters: int,
) -> None:
    built = preview(network(digits, name, **arguments), shape(classes, size))
    assert sum(p.numel() for p in built.parameters()) == parameters


def test_a_layer_more_of_the_extended_transformer(digits: Recipe) -> None:
    one, two = (preview(network(digits, "vit", layers=layers), shape(100)) for layers in (12, 13))
    numbers = [sum(p.numel() for p in built.parameters()) for built in (one, two)]
    assert numbers[1] - numbers[0] == 7_087_872


@pytest.mark.parametrize("name", TORCHVISION)
def test_counts_are_those_of_torchvisions_tables(digits: Recipe, name: str) -> None:
    weights = next(iter(torchvision.models.get_model_weights(name)))
    size = weights.meta["min_size"][0] if name.startswith("vit") else 224
    said = {"image_size": size} if name.startswith("vit") else {}
    built = preview(network(digits, f"torchvision:{name}", **said), shape(1000, size))
    assert sum(p.numel() for p in built.parameters()) == weights.meta["num_params"]


@pytest.mark.parametrize("name", ["resnet50", "vgg16_bn", "vit_b_16"])
def test_multiply_adds_are_those_of_torchvisions_tables(digits: Recipe, name: str) -> None:
    weights = next(iter(torchvision.models.get_model_weights(name)))
    found = describe(network(digits, f"torchvision:{name}"), shape(1000))
    assert found["multiply_adds"] / 1e9 == pytest.approx(weights.meta["_ops"], rel=2e-3)


@pytest.mark.parametrize(
    ("name", "classes", "word", "begins", "learns"),
    [
        # R0: transfer with frozen layers, and the last two encoder layers
        ("torchvision:resnet101", 200, "head", ("fc.",), 409_800),
        ("torchvision:resnet101", 200, "layer4+", ("layer4.", "fc."), 15_374_536),
        ("torchvision:resnet101", 200, "layer3+", ("layer3.", "layer4.", "fc."), 41_465_032),
        ("torchvision:resnet152", 200, "layer3+", ("layer3.", "layer4.", "fc."), None),
        (
            "torchvision:vit_b_16",
            200,
            "last 2",
            ("encoder.layers.encoder_layer_10.", "encoder.layers.encoder_layer_11.", "encoder.ln.", "heads."),
            2 * 7_087_872 + 2 * 768 + 200 * 769,
        ),
        # R3: layer4 and fc; R4: a frozen body under a classifier
        ("torchvision:resnet34", 19, "layer4+", ("layer4.", "fc."), 13_124_115),
        ("torchvision:vgg16", 35, "classifier.*", ("classifier.",), None),
        ("torchvision:resnet18", 35, "head", ("fc.",), 35 * 513),
    ],
)  # fmt: skip
def test_what_learns_in_the_experiments(
    digits: Recipe, name: str, classes: int, word: str, begins: tuple[str, ...], learns: int | None
) -> None:
    recipe = network(digits, name).override({"phases.0.train": [word]})
    built = preview(recipe, shape(classes))
    learning = {n: p.numel() for n, p in built.named_parameters() if p.requires_grad}
    assert set(learning) == {n for n, _ in built.named_parameters() if n.startswith(begins)}
    assert learns in (None, sum(learning.values()))


@pytest.mark.parametrize("name", ["base_model", "my_base_model1", "my_base_model2"])
def test_the_documented_layers_are_those_of_the_model(digits: Recipe, name: str) -> None:
    text = (rooms.ROOT / "docs" / "models.md").read_text().split(f"**`{name}`**")[1]
    table = text.split("\n\n")[1]
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| ([\d×]+) \| ([\d,]+) \|$", table, re.MULTILINE)
    found = describe(network(digits, name), shape(35, 112))
    for layer, output, parameters in rows:
        inside = [m for m in found["modules"] if f"{m['name']}.".startswith(f"{layer}.")]
        assert sum(m["parameters"] for m in inside) == int(parameters.replace(",", "")), layer
        assert [int(n) for n in output.split("×")] in [m["output"][1:] for m in inside], layer
    total = sum(int(parameters.replace(",", "")) for *_, parameters in rows)
    assert total == found["parameters"] and f"{found['multiply_adds']:,} multiply-adds" in text


def test_the_table_of_layers_of_the_base_model(digits: Recipe) -> None:
    """Row 56: input [32, 3, 112, 112]."""
    found = describe(network(digits, "base_model"), shape(35, 112), rows=32)
    rows = {row["name"]: (row["output"], row["parameters"]) for row in found["modules"]}
    assert rows["features.0.0"] == ([32, 32, 112, 112], 864)
    assert rows["features.3.3"] == ([32, 256, 7, 7], 0)
    assert rows["head"] == ([32, 35], 8_995)
    convolutions = [
        prod(output[1:]) * parameters // output[1]
        for output, parameters in rows.values()
        if parameters > 512 and len(output) == 4
    ]
    assert found["multiply_adds"] == sum(convolutions) + 256 * 35
    assert (
        found["multiply_adds"]
        == describe(network(digits, "base_model"), shape(35, 112))["multiply_adds"]
    )
