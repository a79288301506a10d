"""The table of layers that `describe` prints."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from search.layers import folded, layers
from trainers.build import Shape
from trainers.describe import describe
from trainers.recipe import Recipe


def printed(recipe: Recipe, *, fold: bool = True, classes: int = 10) -> str:
    found = describe(recipe, Shape(classes, channels=3, size=224))
    console = Console(file=io.StringIO(), width=120)
    console.print(layers(found, fold=fold))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_equal_blocks_are_folded(digits: Recipe) -> None:
    text = printed(digits.override(model="torchvision:resnet152"), classes=200)
    assert "layer3.2 to 35" in text and "34 more like it" in text
    assert "layer3.1.conv1" in text and "layer3.2.conv1" not in text
    assert "58,553,608 parameters" in text and "--layers lists every one" in text
    whole = printed(digits.override(model="torchvision:resnet152"), fold=False, classes=200)
    assert "layer3.35.conv1" in whole and len(whole.splitlines()) > 3 * len(text.splitlines())


def test_names_are_never_cut(digits: Recipe) -> None:
    found = describe(digits.override(model="torchvision:vit_b_16"), Shape(100, 3, 224))
    console = Console(file=io.StringIO(), width=80)
    console.print(layers(found))
    assert isinstance(console.file, io.StringIO)
    assert "…" not in console.file.getvalue()
    assert "1,771,776" in console.file.getvalue()


def test_what_was_found_for_a_count_is_told(digits: Recipe) -> None:
    text = printed(digits.override({"model": {"name": "resnet20", "match_params": 510_000}}))
    assert "width=22 was found: 508,672 parameters beside the 510,000" in text


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=12))
def test_nothing_is_lost_in_a_fold(kinds: list[str]) -> None:
    rows = [
        {"name": f"blocks.{n}.{part}", "kind": kind, "output": [1, 2], "parameters": size, "trainable": 1}
        for n, kind in enumerate(kinds)
        for part, size in (("first", 3), ("second", 4))
    ]  # fmt: skip
    out = folded(rows)
    for count in ("parameters", "trainable"):
        assert sum(row[count] for row in out) == sum(row[count] for row in rows)
    assert len(out) <= len(rows)
    assert folded(out) == out
