"""The page of a search: whole for whatever happened in it, and harmless whatever is written in it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from search.trials import page
from tests.commands import cli
from tests.search.test_report import Page
from tests.search.trials.conftest import Make
from tests.search.trials.searched import BATCH, LR, NAME, Searched, row

MODEL = "choice({name: small_cnn, width: 8}, {name: small_cnn, width: 16}, resnet20)"
ODD = {
    "model": MODEL,
    "scale.sync_bn": "choice(true, false)",
    "phases.0.optim.main.clip": "choice(null, 0.5, 2)",
    "phases.0.optim.main.weight_decay": "lognormal(-8, 1)",
    "phases.0.optim.main.momentum": "normal(0.8, 0.01)",
    LR: "loguniform(2e-3, 8e-3)",
    BATCH: "weighted(32: 3, 64: 1)",
    "seed": "randint(0, 50)",
}
SECTIONS = ["went", "mattered", "slices", "trials", "use", "best", "recipe"]


def drawn(search: Searched) -> Page:
    text = page.html(search.read())
    shown = Page(text)
    assert shown.open == [] and all(link.startswith(("data:", "#")) for link in shown.links)
    assert not re.search(r"\b(nan|None|<NA>)\b", shown.said)
    return shown


def sections(search: Searched) -> list[str]:
    return re.findall(r'<section id="([\w-]+)"', page.html(search.read()))


def test_a_search_says_everything(seen: Searched) -> None:
    seen.folder.amend(status="finished", notes=["a note"], error="it broke")
    Path(seen.folder.url, "best.yaml").write_text("name: best\n")
    assert sections(seen) == SECTIONS
    said = drawn(seen).said
    assert "Trial 0001 is the best: validation accuracy 95.0 %" in said
    assert "1 failed: Refusal: the batch <b>burnt</b> & fell" in said
    assert "a note" in said and "It ended with: it broke" in said
    assert "phases.0.optim.main.lr" in said and "search.trials=28" in said


def test_no_trial(make: Make) -> None:
    assert sections(make()) == ["use", "recipe"]
    assert "no trial was begun" in drawn(make()).said


@pytest.mark.parametrize("end", ["ended", "pruned", "failed", "running"])
@pytest.mark.parametrize("trials", [1, 6])
def test_all_trials_ended_alike(make: Make, end: str, trials: int) -> None:
    search = make(space=ODD)
    for number in range(trials):
        if end == "ended":
            search.ended(0.9 - number / 50, curve=[0.5, 0.9 - number / 50])
        elif end == "pruned":
            search.pruned([0.1, 0.2 + number / 50])
        elif end == "failed":
            search.failed("it burnt")
        else:
            search.ask()
    shown = drawn(search)
    assert ("How it went" in shown.said) is (end in ("ended", "pruned"))
    assert ("Setting by setting" in shown.said) is (end in ("ended", "pruned"))
    assert "0000" in shown.said


@pytest.mark.parametrize("space", [ODD, {LR: "loguniform(1e-4, 1)"}, {NAME: "choice(sgd)"}])
def test_every_kind_of_setting_is_drawn(make: Make, space: dict) -> None:
    search = make(space=space)
    for number in range(12):
        search.ended(0.8 + number / 100, hits=row(0.8 + number / 100), curve=[0.5, 0.8])
    said = drawn(search).said
    assert all(path in said for path in space)
    if space is ODD:
        for name in ("small_cnn, width 8", "small_cnn, width 16", "null", "true"):
            assert name in said, name


def test_two_goals(make: Make) -> None:
    goals = [{"metric": "val/accuracy"}, {"metric": "latency", "mode": "min"}]
    search = make(objectives=goals)
    for number in range(8):
        search.ended(0.8 + number / 100, 0.001 + number / 2000)
    said = drawn(search).said
    assert "val/accuracy against latency" in said and "For val/accuracy." in said
    assert "0.002" in said, "a latency of milliseconds is not 0"


def test_three_goals(make: Make) -> None:
    names = ("val/accuracy", "parameters", "multiply_adds")
    search = make(objectives=[{"metric": n, "mode": "max" if "/" in n else "min"} for n in names])
    for number in range(6):
        search.ended(0.8 + number / 100, 10.0 ** (number + 1), 1e9)
    assert "val/accuracy against parameters" in drawn(search).said


def test_a_goal_that_never_changed(make: Make) -> None:
    search = make()
    for _ in range(6):
        search.ended(0.5, curve=[0.5, 0.5])
    assert "they all came to the same" in drawn(search).said


def test_nothing_in_it_is_markup(make: Make) -> None:
    evil = "<img src=x onerror=alert(1)>&\"'"
    search = make(space={"phases.0.train": "choice(['*'], ['<script>&'])", LR: "uniform(0, 1)"})
    search.failed(evil)
    for number in range(6):
        search.ended(number / 10)
    search.ended(0.9, point={"phases.0.train": ["<script>&"], LR: 0.5})
    search.folder.amend(notes=[evil], error=evil, status=evil)
    shown = drawn(search)
    assert "img" not in shown.tags and shown.tags.count("script") == 1
    assert shown.said.count("onerror=alert(1)") >= 4 and '["<script>&"]' in shown.said


def test_a_folder_with_a_space_can_be_pasted(make: Make) -> None:
    search = make("my runs")
    search.ended(0.5)
    assert f"search '{search.folder.url}' search.trials=21" in drawn(search).said


def test_three_hundred_trials_take_seconds_and_megabytes(make: Make) -> None:
    """Generous bounds: 6 s and 0.9 MB on two shared cores."""
    search = make(space=ODD)
    random = np.random.Generator(np.random.PCG64(0))
    for _ in range(300):
        score, end = 0.8 + 0.1 * random.random(), random.random()
        if end < 0.7:
            search.ended(score, curve=[score - 0.2, score])
        elif end < 0.9:
            search.pruned([score - 0.3])
        else:
            search.failed("it burnt")
    text = page.html(search.read())
    assert len(text) < 3_000_000
    assert text.count("<tr>") == 301


def test_report_draws_the_page(seen: Searched) -> None:
    said = cli("report", seen.folder.url)
    assert said.code == 0, said.err
    assert said.out.strip() == f"{seen.folder.url}/report.html"
    assert "Trial 0001 is the best" in Path(said.out.strip()).read_text()
