"""Tables that fit a line of 80 columns and print names as they are."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from search import results, terminal


def printed(frame: pd.DataFrame, title: str = "", width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(terminal.table(frame, title, width=width))
    return stream.getvalue()


def test_the_list_of_runs_fits(finished: Path, variant: Callable[..., Path]) -> None:
    variant("a_rather_long_name_of_a_run-bbbb0002", {"name": "[red]x"})
    text = printed(results.frame(results.runs(str(finished.parent))), "Runs")
    assert max(map(len, text.splitlines())) <= 80
    assert "left out for want of width: name" in text
    assert "a_rather_long_name_of_a_run-bbbb0002" in text
    assert "finished" in text
    assert "test/ " in text and "accuracy" in text


def test_headline_scores_outlive_the_others(finished: Path, variant: Callable[..., Path]) -> None:
    names = ("accuracy", "calibration_error", "loss", "macro_f1", "macro_recall", "top5")
    scores = {f"{split}/{name}": 0.5 for split in ("val", "test") for name in names}
    variant("digits-bbbb0002", {}, {"scores": scores})
    frame = results.frame(results.runs(str(finished.parent)))
    text = printed(frame)
    left = text.partition("left out for want of width: ")[2].replace("\n", " ").partition(";")[0]
    left_out = {*left.split(", ")}
    shown = [str(column.header).replace("\n", "") for column in terminal.table(frame).columns]
    assert left_out and not left_out & {*shown}
    assert {*shown, *left_out} >= {"test/accuracy", "val/accuracy", "val/loss", "name", "task"}
    assert "test/accuracy" in shown and "val/accuracy" in shown
    assert left.startswith("name, images_per_second, workers, seed")
    needed = int(text.partition("COLUMNS=")[2].partition(",")[0])
    assert "left out" not in printed(frame, width=needed), "as many columns show them"
    assert "left out" in printed(frame, width=needed - 1)
    kept = terminal.table(frame, keep=["val/loss"])
    assert "val/loss" in [str(column.header) for column in kept.columns]


def test_headings_are_broken_before_columns_go() -> None:
    frame = pd.DataFrame([[0.5] * 5], columns=[f"val/macro_recall_{n}" for n in range(5)])
    assert "val/macro_recall_4" in printed(frame, width=98)
    text = printed(frame, width=80)
    assert "left out" not in text and "macro_recall_4" in text
    assert "val/macro_recall_4" not in text and "left out" not in printed(frame, width=44)


def test_a_pipe_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    with contextlib.redirect_stdout(io.StringIO()):
        assert terminal.line() > 1_000
        monkeypatch.setenv("COLUMNS", "90")
        assert terminal.line() == 90, "what is said aloud is kept to"


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
