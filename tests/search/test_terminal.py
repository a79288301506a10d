"""Tables that fit a line of 80 columns and print names as they are."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from rich.console import Console

from search import results, terminal


def printed(frame: pd.DataFrame, title: str = "") -> str:
    stream = io.StringIO()
    Console(file=stream, width=80).print(terminal.table(frame, title))
    return stream.getvalue()


def test_the_list_of_runs_fits(finished: Path, variant: Callable[..., Path]) -> None:
    variant("a_rather_long_name_of_a_run-bbbb0002", {"name": "[red]x"})
    text = printed(results.frame(results.runs(str(finished.parent))), "Runs")
    assert max(map(len, text.splitlines())) <= 80
    assert "not shown:" in text
    assert "a_rather_long_name_of_a_run-bbbb0002" in text
    assert "finished" in text
    assert "test/accuracy" in text


def test_headline_scores_outlive_the_others(finished: Path, variant: Callable[..., Path]) -> None:
    names = ("accuracy", "calibration_error", "loss", "macro_f1", "macro_recall", "top5")
    scores = {f"{split}/{name}": 0.5 for split in ("val", "test") for name in names}
    variant("digits-bbbb0002", {}, {"scores": scores})
    frame = results.frame(results.runs(str(finished.parent)))
    text = printed(frame)
    assert "test/accuracy" in text
    assert "val/accuracy" in text
    assert "not shown: name, images_per_second, workers, seed and" in text
    kept = terminal.table(frame, keep=["val/loss"])
    assert "val/loss" in [str(column.header) for column in kept.columns]


def test_a_comparison_formats_by_row(finished: Path, variant: Callable[..., Path]) -> None:
    variant("digits-bbbb0002", {"model": {"name": "resnet18"}}, {"scores": {"test/accuracy": 0.5}})
    both = results.compare(results.runs(str(finished.parent)))
    assert "50.0 %" in printed(both.scores)
    differences = printed(both.differences)
    assert "model.width" in differences
    assert "–" in differences


def test_brackets_are_not_markup() -> None:
    assert "[bold]a[/bold]" in printed(pd.DataFrame({"run": ["[bold]a[/bold]"]}))


def test_numbers_and_gaps() -> None:
    frame = pd.DataFrame({"run": ["a", "b"], "steps": [12345, None], "none": [None, None]})
    text = printed(frame)
    assert "12,345" in text
    assert "none" not in text
