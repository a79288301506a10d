"""Patterns with braces mean the names that a shell makes of them."""

from __future__ import annotations

import pytest

from datasets.formats import braces
from datasets.refusal import Refusal


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{8..11}", ["a-8", "a-9", "a-10", "a-11"]),
        ("a-{08..11}", ["a-08", "a-09", "a-10", "a-11"]),
        ("{train,val}/{0..1}", ["train/0", "train/1", "val/0", "val/1"]),
        ("{a,}b", ["ab", "b"]),
    ],
)
def test_names(pattern: str, names: list[str]) -> None:
    assert braces.expanded(pattern) == names
    assert braces.has_braces(pattern) == (names != [pattern])


@pytest.mark.parametrize("pattern", ["{1..0}", "{x}", "{0..9999999}", "{0..9999}{0..9999}"])
def test_what_means_nothing_or_too_much_is_refused(pattern: str) -> None:
    with pytest.raises(Refusal) as caught:
        braces.expanded(pattern)
    assert caught.value.value == pattern
