"""The report of a study: what a reader must find on it, from folders that tell of runs of every end."""

from __future__ import annotations

import json
import re
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.environment import code
from search.studies import figures, page, table
from search.studies.folder import Folder

LR = "phases.0.optim.main.lr"
SEEDS = 3
ASKED = re.compile(r"""(?:src|href|action|poster)=["']([^"']*)|url\(["']?([^"')]*)|@import (.*)""")
Scores = dict[str, list[float | str]]
CLEAR: Scores = {
    "slow": [0.50, 0.52, 0.51],
    "good": [0.90, 0.91, 0.92],
    "as good": [0.91, 0.90, 0.925],
    "wild": ["diverged", "diverged", "diverged"],
}


def study(
    tmp_path: Path, arms: Scores, values: dict[str, Any] | None = None, **said: Any
) -> Folder:
    """A study's folder with a score, or the state it ended in, for each arm and seed."""
    runs = tmp_path / "runs"
    cells: list[dict[str, Any]] = []
    for arm, scores in arms.items():
        for seed, score in enumerate(scores):
            name = f"run-{len(cells):03d}"
            cells.append(_run(runs / name, arm, seed, score))
    tree = {
        "name": "asked",
        "question": "Which is better?",
        "recipe": "recipes/digits.yaml",
        "arms": {arm: {LR: 0.1} for arm in arms},
        "seeds": SEEDS,
        "metric": "test/accuracy",
        **said,
    }
    state = {
        "status": "finished",
        "arms": {arm: (values or {}).get(arm, {"arm": arm}) for arm in arms},
        "cells": cells,
    }
    put(runs / "asked" / "study.yaml", yaml.safe_dump(tree))
    put(runs / "asked" / "study.json", json.dumps(state))
    return Folder.open(str(runs / "asked"))


def _run(run: Path, arm: str, seed: int, score: float | str) -> dict[str, Any]:
    cell = {"arm": arm, "seed": seed, "run": run.name, "digest": "5a939f59"}
    if score in ("missing", "running"):
        return {**cell, "run": "" if score == "missing" else run.name, "status": score}
    reached, ended = (score, True) if isinstance(score, float) else (0.1, False)
    lines = [
        {"step": step, "split": "val", "val/accuracy": reached * step / 3} for step in (1, 2, 3)
    ]
    put(run / "metrics.jsonl", "\n".join(json.dumps(line) for line in lines))
    scores = {"test/accuracy": score} if ended else {}
    put(run / "summary.json", json.dumps({"status": "finished", "seconds": 2.0, "scores": scores}))
    put(run / "env.json", json.dumps({"commit": "3f9c2a7b51", "code": code(), "python": "3.11"}))
    if ended:
        return {**cell, "status": "finished"}
    return {**cell, "status": "failed", "why": "loss became nan" if score == "diverged" else score}


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def words(html: str) -> str:
    """What a reader sees, tags apart."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def section(html: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', html, flags=re.DOTALL)
    assert found, f"no section {name}"
    return words(found[0])


def test_the_question_is_the_title_and_the_answer_the_first_sentence(tmp_path: Path) -> None:
    html = page.html(table.read(study(tmp_path, CLEAR)))
    assert "<h1>Which is better?</h1>" in html
    answer = re.search(r'<p class="verdict">(.*?)</p>', html)
    assert answer and answer[1].startswith("as good has the best mean: test accuracy 91.2 %")
    assert "A tie with good" in words(html), "what cannot be told from the best is said"


def test_each_arm_has_its_row_and_each_run_its_line(tmp_path: Path) -> None:
    html = page.html(table.read(study(tmp_path, CLEAR)))
    means, cells = section(html, "table"), section(html, "cells")
    for arm in CLEAR:
        assert f" {arm} " in means and cells.count(f" {arm} ") >= SEEDS
    assert "91.0 % ± 1.0" in means and "+40.0" in means and "better, = best" in means
    assert "3 diverged (seeds 0, 1, 2)" in means
    assert cells.count("loss became nan") == SEEDS and "run-000" in cells and "3f9c2a7b" in cells


def test_no_warning_is_lost_however_many(tmp_path: Path) -> None:
    more = dict.fromkeys([f"wild {n}" for n in range(8)], CLEAR["wild"])
    found = table.read(study(tmp_path, {**CLEAR, **more}, ceiling=0.6))
    assert len(found.warnings) > 8
    said = words(page.html(found))
    for warning in found.warnings:
        assert warning in said


def test_claims_stand_beside_what_came_out(tmp_path: Path) -> None:
    claims = [
        {"arm": "good", "value": 0.91, "source": "R1, table 1", "scale": None},
        {"arm": "slow", "value": 0.91, "source": "R1, table 2", "scale": None, "tolerance": 0.01},
        {
            "arm": "wild",
            "value": 0.91,
            "source": "R2, row 4",
            "note": "a warm start",
            "scale": None,
        },
        {"arm": "good", "over": "slow", "value": 0.1, "source": "R3, page 5"},
    ]
    found = table.read(study(tmp_path, CLEAR, claims=claims))
    told = section(page.html(found), "claims")
    assert [each.verdict for each in found.claims] == [
        *("reproduced", "not reproduced", "not run", "not comparable")
    ]
    for each in found.claims:
        assert f" {each.verdict}: " in told and each.claim.source in told
    assert "a warm start" in told and "good beside slow" in told


def test_pictures_are_drawn_and_nothing_is_asked_of_a_network(tmp_path: Path) -> None:
    arms: Scores = {
        f"lr {lr}": scores for lr, scores in zip((0.01, 0.1, 1.0), CLEAR.values(), strict=False)
    }
    values = {arm: {LR: float(arm.split()[1])} for arm in arms}
    html = page.html(table.read(study(tmp_path, arms, values)))
    assert html.count("<svg") == html.count("<figcaption>") == 3
    assert "Test accuracy against lr" in html and "Validation accuracy while training" in html
    asked = ["".join(found) for found in ASKED.findall(html)]
    assert asked and all(address.startswith(("data:", "#")) for address in asked), asked
    assert not re.search(r"https?://(?!www\.w3\.org/)", html), "its name spaces alone"
    colours = {
        *re.findall(r"(?<!, )#[0-9a-f]{6}", "".join(re.findall(r"<svg.*?</svg>", html, re.S)))
    }
    assert colours <= {"#000000"}, "a colour that does not follow the page's"


def test_an_arm_without_a_run_that_counts_is_in_the_pictures(tmp_path: Path) -> None:
    drawn = figures.dots(table.read(study(tmp_path, CLEAR)))
    assert drawn
    axes = drawn.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [*CLEAR]
    assert [text.get_text() for text in axes.texts] == ["3 diverged"]


def test_what_is_not_tested_is_no_tie_and_what_is_alone_not_the_best(tmp_path: Path) -> None:
    scores: Scores = {"one": [0.9, 0.91, 0.92], "other": [0.8, "diverged", "diverged"]}
    told = words(page.html(table.read(study(tmp_path / "two", scores))))
    assert "Best: one" in told and "0 of 1 other arm with a score, 1 untested" in told
    assert "Not all runs count: of other 1 of 3 (2 diverged)." in told
    alone: Scores = {"one": [0.9, "missing", "missing"], "other": ["missing"] * SEEDS}
    told = words(page.html(table.read(study(tmp_path / "one", alone))))
    assert "one alone has a score: test accuracy 90.0 % (1 seed). Nothing is compared." in told
    assert "Only one has a score" in told and "Best: " not in told and "Ties with" not in told


def test_every_pair_in_a_matrix(tmp_path: Path) -> None:
    told = section(page.html(table.read(study(tmp_path, CLEAR, compare="all"))), "compared")
    assert "1 · as good tie +40.2 – " in told and "3 · slow -40.2 -40.0 – " in told.replace(
        "−", "-"
    )
    assert "All comparisons: 6 rows" in told
    assert "1 · " not in page.html(table.read(study(tmp_path, CLEAR)))


def test_what_a_tie_is_stands_under_the_table(tmp_path: Path) -> None:
    told = section(page.html(table.read(study(tmp_path, CLEAR, margin=0.02))), "table")
    assert "a paired t-test" in told and "no more than 2.0 points, it is a tie" in told
    told = section(page.html(table.read(study(tmp_path, CLEAR, paired=False))), "table")
    assert "Welch's t-test" in told and "no more than" not in told


def test_names_are_text(tmp_path: Path) -> None:
    name, question = '<b>"a" & b</b>', "Is <i>x</i> & y > z?"
    claims = [{"arm": name, "value": 0.5, "source": "<u>R1</u> & more"}]
    arms: Scores = {name: [0.5, 0.6, 0.55], "plain": [0.8, 0.81, 0.8]}
    html = page.html(table.read(study(tmp_path, arms, question=question, claims=claims)))
    for text in (name, question, "<u>R1</u> & more"):
        assert text not in html and text in words(html)
    assert f"<h1>{escape(question)}</h1>" in html


@pytest.mark.parametrize("state", ["missing", "running", "failed", "diverged"])
def test_a_study_of_which_no_run_counts_is_drawn(tmp_path: Path, state: str) -> None:
    arms: Scores = {"one": [state] * SEEDS, "other": [state] * SEEDS}
    html = page.html(table.read(study(tmp_path, arms, compare="all", ceiling=0.5)))
    assert "No run counts yet." in html and f"3 {state} (seeds 0, 1, 2)" in section(html, "table")
    assert " one " in words(html) and " other " in words(html)


def test_a_study_before_its_first_cell_is_drawn(tmp_path: Path) -> None:
    folder = study(tmp_path, {"one": [], "other": []})
    assert "Which is better?" in page.html(table.read(folder))


def test_it_is_drawn_again_where_something_changed_alone(tmp_path: Path) -> None:
    folder = study(tmp_path, CLEAR)
    url = Path(page.refreshed(table.read(folder)))
    assert url == Path(folder.url, "report.html") and "Which is better?" in url.read_text()
    url.write_text("as it was")
    page.refreshed(table.read(folder))
    assert url.read_text() == "as it was"
    run = tmp_path / "runs" / "run-000" / "summary.json"
    run.write_text(run.read_text().replace("0.5", "0.6"))
    page.refreshed(table.read(folder))
    assert "Which is better?" in url.read_text()


def test_a_difference_is_to_one_arm_in_points_said_once(tmp_path: Path) -> None:
    told = section(page.html(table.read(study(tmp_path, CLEAR))), "compared")
    assert "Arm Seeds Difference to slow, points Verdict" in told and "Beside" not in told
    assert "good 3 +40.0 better" in told and "+40.0 points" not in told
    told = section(page.html(table.read(study(tmp_path, CLEAR, compare="all"))), "compared")
    assert "Arm Beside Seeds Difference, points" in told


def test_what_was_checked_is_said_of_an_old_folder_too(tmp_path: Path) -> None:
    told = section(page.html(table.read(study(tmp_path, CLEAR, ceiling=0.91))), "checked")
    assert "Leaks between splits not written down: the same command does" in told
    assert "Ceiling 2 runs beyond 91.0 %" in told
    assert "Collapse and divergence 3 diverged of 12 runs that came to an end" in told
    assert "Test split not opened yet" in told
