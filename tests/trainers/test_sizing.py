"""`match_params`: models sized to another's count."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.refusal import Refusal
from trainers import sizing
from trainers.build import Shape
from trainers.build import model as built
from trainers.describe import describe, loading_lines, preview
from trainers.recipe import Recipe

SMALL = Shape(10, channels=3, size=32)


def sized(digits: Recipe, name: str, match: object, **arguments: object) -> Recipe:
    return digits.override({"model": {"name": name, "match_params": match, **arguments}})


def counted(recipe: Recipe, shape: Shape) -> int:
    return sum(p.numel() for p in preview(recipe, shape).parameters())


@pytest.mark.parametrize(
    ("name", "match", "arguments", "shape", "wanted"),
    [
        ("small_cnn", "resnet20", {}, SMALL, 269_722),
        ("my_base_model1", {"model": "base_model", "within": 0.05}, {}, Shape(35, 3, 112), 397_891),
        ("mlp", 4_353, {}, Shape(1, channels=1, size=0), 4_353),
        ("vit", {"model": "torchvision:vgg11"}, {"layers": 18}, Shape(100, 3, 224), 129_176_036),
        ("resnet20", {"model": {"name": "resnet20", "width": 23}}, {}, SMALL, None),
        (
            "timm:vit_tiny_patch16_224",
            {"params": 4_000_000, "by": "embed_dim", "step": 3},
            {"depth": 3},
            Shape(10, 3, 224),
            4_000_000,
        ),
    ],
)
def test_the_count_is_met(
    digits: Recipe,
    name: str,
    match: object,
    arguments: dict[str, object],
    shape: Shape,
    wanted: int | None,
) -> None:
    recipe = sized(digits, name, match, **arguments)
    told = describe(recipe, shape)["sized"]
    assert wanted in (None, told["wanted"])
    assert recipe.model.match_params
    share = recipe.model.match_params.within
    assert abs(counted(recipe, shape) - told["wanted"]) <= share * told["wanted"]
    assert counted(recipe, shape) == told["parameters"] == describe(recipe, shape)["parameters"]


def test_it_is_the_argument_itself_that_is_found(digits: Recipe) -> None:
    recipe = sized(digits, "resnet20", {"model": {"name": "resnet20", "width": 23}})
    told = sizing.told(recipe.model, SMALL)
    assert told and (told["by"], told["value"], told["of"]) == ("width", 23, "resnet20")
    plain = digits.override({"model": {"name": "resnet20", "width": 23}})
    one, two = built(recipe, SMALL).state_dict(), built(plain, SMALL).state_dict()
    assert all(one[name].equal(two[name]) for name in two) and one.keys() == two.keys()
    assert "model = build(10, 3, width=23)" in loading_lines(recipe, SMALL, "x")


@given(wanted=st.integers(1, 10**9), power=st.sampled_from([1, 2, 3]), offset=st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_the_nearest_is_the_nearest(wanted: int, power: int, offset: int) -> None:
    def count(value: int) -> int:
        return offset + value**power

    found = sizing.nearest(count, wanted)
    others = [n for n in (found - 1, found + 1) if n >= 1]
    if found < sizing.MOST:
        assert all(abs(count(found) - wanted) <= abs(count(n) - wanted) for n in others)


@pytest.mark.parametrize(
    ("name", "match", "arguments", "path", "told"),
    [
        ("small_cnn", {"model": "resnet20", "by": "widht"}, {}, "model.match_params.by", "width"),
        ("mynet", 1_000_000, {}, "model.match_params.by", "which argument"),
        ("timm:resnet18", 1_000_000, {}, "model.match_params.by", "embed_dim"),
        ("small_cnn", "resnet200x", {}, "model.match_params.model", "resnet200x"),
        ("small_cnn", {"model": {"name": "resnet20", "depth": 3}}, {}, "model.match_params.model.depth", "depth"),
        ("small_cnn", {"model": "resnet20", "params": 3}, {}, "model.match_params", "either"),
        ("small_cnn", {"model": "resnet20", "withn": 3}, {}, "model.match_params.withn", "within"),
        ("small_cnn", "resnet20", {"width": 8}, "model.width", "leave model.width out"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_at_once(
    digits: Recipe, name: str, match: object, arguments: dict[str, object], path: str, told: str
) -> None:
    with pytest.raises(Refusal) as refused:
        sized(digits, name, match, **arguments)
    assert refused.value.path == path and told in str(refused.value)


def test_a_count_that_nothing_gives_tells_the_nearest(digits: Recipe) -> None:
    recipe = sized(digits, "vit", {"params": 90_000_000, "by": "layers"})
    with pytest.raises(Refusal) as refused:
        preview(recipe, Shape(100, 3, 224))
    assert refused.value.path == "model.match_params" and refused.value.value == 90_000_000
    assert f"{85_875_556 + 7_087_872:,}, at layers=13" in str(refused.value)


@pytest.mark.parametrize(("by", "told"), [("width", "12 heads"), ("dropout", "no whole number")])
def test_an_argument_that_takes_no_such_number_is_named(digits: Recipe, by: str, told: str) -> None:
    recipe = sized(digits, "vit", {"params": 90_000_000, "by": by})
    with pytest.raises(Refusal, match=told) as refused:
        preview(recipe, Shape(100, 3, 224))
    assert refused.value.path == "model.match_params.by" and refused.value.value == by


def test_what_is_wrong_without_it_is_told_as_it_is(digits: Recipe) -> None:
    with pytest.raises(Refusal, match="8 pixels") as refused:
        preview(sized(digits, "vit", 90_000_000), Shape(10, 3, 8))
    assert refused.value.path == "model.patch" and refused.value.value == 16


def test_what_is_found_does_not_change_what_the_run_is(digits: Recipe) -> None:
    recipe = sized(digits, "small_cnn", "resnet20")
    again = Recipe.check(recipe.plain())
    assert again == recipe and again.identity("d") == recipe.identity("d") != digits.identity("d")
