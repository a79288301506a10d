"""`study STUDY diff A B`: two arms beside each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.commands import cli

LR = "phases.0.optim.main.lr"
Write = Callable[..., Path]


def test_of_a_study_that_has_not_run_the_recipes_are_told(written: Write, tmp_path: Path) -> None:
    said = cli("study", written(), "diff", "lr 0.1", "lr 0.02", "--out", tmp_path / "runs")
    assert said.code == 0, said.err
    lines = [line.split() for line in said.out.splitlines()]
    assert ["0", "–", "–", "–"] in lines and ["1", "–", "–", "–"] in lines, "its seeds"
    assert [LR, "0.1", "0.02"] in lines
    assert "–, untested" in said.out
