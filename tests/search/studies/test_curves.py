"""The curves of a study: which are drawn, of which arms, and what is read for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.run import Run
from search.studies import curves, figures, page, table
from search.studies.folder import Folder
from search.studies.rows import Table
from tests.search.studies.test_page import CLEAR, put, study

STEPS = 40


def told(folder: Folder, rows: Callable[[int, int], list[Mapping[str, Any]]]) -> Table:
    """The table of a study whose runs say `rows(number of the run, step)`."""
    for number, run in enumerate(sorted(Path(folder.url).parent.glob("run-*"))):
        lines = [json.dumps(line) for step in range(1, STEPS + 1) for line in rows(number, step)]
        put(run / "metrics.jsonl", "\n".join(lines) + "\n")
    return table.read(folder)


def full(number: int, step: int) -> list[Mapping[str, Any]]:
    loss = 1000.0 / step**3 if number < 3 else 0.5
    train = {"step": step, "split": "train", "loss": loss, "accuracy": step / 80, "lr": 0.1 / step}
    if step % 10:
        return [train]
    score = {"step": step, "split": "val", "val/accuracy": step / 50, "val/loss": 1 / step}
    return [train, score]


def test_five_pictures_of_a_study_of_classifiers(tmp_path: Path) -> None:
    drawn = curves.read(told(study(tmp_path, CLEAR), full))
    assert [(each.column, each.title) for each in drawn] == [
        ("val/accuracy", "Validation accuracy while training"),
        ("val/loss", "Validation loss"),
        ("loss", "Training loss, smoothed"),
        ("accuracy", "Training accuracy, smoothed"),
        ("lr", "Learning rate"),
    ]
    for each in drawn:
        assert [row.arm for row, _ in each.arms] == [*CLEAR], "in the order of the study"
        assert [*each.arms[0][1].columns] == [0, 1, 2], "by seed"
    judged, rate = drawn[0].arms[0][1], drawn[-1].arms[0][1]
    assert [*judged.index] == [10, 20, 30, 40] and judged.loc[30, 1] == pytest.approx(0.6)
    assert rate.loc[20, 0] == pytest.approx(0.005), "what was set is not smoothed"
    steep = drawn[2]
    assert steep.steep and not drawn[3].steep
    assert figures.curve(steep).axes[0].get_yscale() == "log"


def test_a_loss_that_is_the_score_is_drawn_once(tmp_path: Path) -> None:
    drawn = curves.read(told(study(tmp_path, CLEAR, metric="test/loss"), full))
    assert [each.column for each in drawn] == ["val/loss", "loss", "accuracy", "lr"]


def test_a_rate_that_is_one_number_is_no_picture(tmp_path: Path) -> None:
    def constant(number: int, step: int) -> list[Mapping[str, Any]]:
        return [{"step": step, "split": "train", "loss": 1 / step, "lr": 0.1}]

    def differing(number: int, step: int) -> list[Mapping[str, Any]]:
        return [{"step": step, "split": "train", "loss": 1 / step, "lr": 0.1 * (1 + number // 3)}]

    found = curves.read(told(study(tmp_path / "one", CLEAR), constant))
    assert [each.column for each in found] == ["loss"], "nor is a score that nobody looked at"
    found = curves.read(told(study(tmp_path / "two", CLEAR), differing))
    assert [each.column for each in found] == ["loss", "lr"]


def test_both_networks_of_a_gan_are_told(tmp_path: Path) -> None:
    def gan(number: int, step: int) -> list[Mapping[str, Any]]:
        losses = {"critic_loss": 1 / step, "generator_loss": step, "critic_accuracy": 0.5}
        rates = {"generator_lr": 0.1 / step, "critic_lr": 0.1}
        return [{"step": step, "split": "train", **losses, **rates}]

    drawn = curves.read(told(study(tmp_path, CLEAR), gan))
    assert [each.title for each in drawn] == [
        "Training critic loss, smoothed",
        "Training generator loss, smoothed",
        "Training critic accuracy, smoothed",
        "Learning rate of the generator",
    ]


def test_the_best_of_many_arms_are_drawn_and_their_metrics_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"arm {n}": [0.5 + n / 100] * 2 for n in range(9)}
    found = told(study(tmp_path, many, seeds=2), full)
    read: list[str] = []
    metrics = Run.metrics
    monkeypatch.setattr(Run, "metrics", lambda run: (read.append(run.url), metrics(run))[1])
    drawn = curves.read(found)
    assert [row.arm for row, _ in drawn[0].arms] == [f"arm {n}" for n in range(3, 9)]
    assert len(read) == len({*read}) == 2 * curves.MOST_ARMS


def test_a_spike_is_no_slope_and_arms_far_apart_stand_on_a_logarithm(tmp_path: Path) -> None:
    """An exponential mean of the numbers themselves would fall by a straight line for the rest of the run."""

    def spiked(number: int, step: int) -> list[Mapping[str, Any]]:
        wild = number >= 9
        loss = 1e15 if wild and step == 6 else 100.0 if wild else 0.5
        rates = {"lr": 1000.0 if wild else 0.1}
        return [{"step": step, "split": "train", "loss": loss, **rates}]

    loss, rate = curves.read(told(study(tmp_path, CLEAR), spiked))
    assert loss.steep and rate.steep
    (wild,) = [found for row, found in loss.arms if row.arm == "wild"]
    assert 100 <= wild.loc[STEPS, 0] < 200 and wild.loc[6, 0] > 1e5


def test_runs_that_do_not_count_are_dotted_or_left_out(tmp_path: Path) -> None:
    arms: dict[str, list[float | str]] = {**CLEAR, "half": [0.6, "diverged", 0.7]}
    found = told(study(tmp_path, arms), full)
    (drawn, *_) = curves.read(found)
    seeds = {row.arm: [*told.columns] for row, told in drawn.arms}
    assert seeds["half"] == [0, 2] and seeds["wild"] == [0, 1, 2]
    lines = figures.curve(drawn).axes[0].lines
    styles = {str(line.get_label()): line.get_linestyle() for line in lines}
    assert styles == {**dict.fromkeys(arms, "-"), "wild": ":"}
    assert "dotted: no run counts" in page.html(found)


def test_what_did_not_stay_a_number_is_left_out(tmp_path: Path) -> None:
    def lost(number: int, step: int) -> list[Mapping[str, Any]]:
        loss = float("nan") if number == 11 and step > 5 else 1.0
        return [{"step": step, "split": "train", "loss": loss}]

    (loss,) = curves.read(told(study(tmp_path, CLEAR), lost))
    (wild,) = [found for row, found in loss.arms if row.arm == "wild"]
    assert len(wild) == STEPS and wild[2].count() == 5
    assert figures.curve(loss).axes[0].lines


def test_a_long_run_is_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search import plots

    monkeypatch.setattr(plots, "POINTS", 10)
    drawn = curves.read(told(study(tmp_path, CLEAR), full))
    assert {len(found) for each in drawn for _, found in each.arms} == {4, 10}
