"""Listing, choosing and comparing runs, from folders alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import binomtest

from datasets.refusal import Refusal
from search import results
from search.trials import doubt

Variant = Callable[..., Path]


@pytest.fixture
def out(finished: Path, variant: Variant) -> str:
    """Four runs, a stray folder and a nested run that must not be found."""
    variant(
        "digits-bbbb0002",
        {"data.batch": 128, "phases.0.optim.main.lr": 3e-4},
        {"scores": {"val/accuracy": 0.99, "val/loss": 0.5}},
    )
    variant(
        "resnet-cccc0003",
        {"model": {"name": "resnet18"}, "name": "resnet"},
        {"status": "running", "scores": {"val/accuracy": 0.5, "val/loss": 0.1}},
        {"started": (datetime.now(UTC) - timedelta(hours=30)).isoformat()},
    )
    bare = finished.parent / "bare-dddd0004"
    bare.mkdir()
    (bare / "recipe.yaml").write_text("name: bare\nmodel: resnet18\n")
    (finished.parent / "notes").mkdir()
    (finished.parent / "searches" / "deep-eeee0005").mkdir(parents=True)
    (finished.parent / "searches" / "deep-eeee0005" / "recipe.yaml").write_text("name: deep\n")
    return str(finished.parent)


def chosen(out: str, **wish: object) -> list[str]:
    return results.select(results.runs(out), **wish)["run"].str[-4:].tolist()  # type: ignore[arg-type]


def test_runs_lie_one_level_deep(out: str) -> None:
    found = [run.name for run in results.runs(out)]
    assert found == ["bare-dddd0004", "digits-1a2b3c4d", "digits-bbbb0002", "resnet-cccc0003"]
    assert [run.name for run in results.runs(f"{out}/bare-dddd0004/")] == ["bare-dddd0004"]
    assert results.runs(f"{out}/nowhere") == []


def test_frame_is_tidy_and_copes_with_a_bare_folder(out: str) -> None:
    frame = results.frame(results.runs(out))
    assert list(frame.columns[: len(results.COLUMNS)]) == list(results.COLUMNS)
    line = frame.loc[f"{out}/digits-1a2b3c4d"]
    assert (line["model"], line["task"], line["batch"]) == ("small_cnn", "classify", 64)
    assert (line["workers"], line["steps"], line["status"]) == (1, 228, "finished")
    assert line["started"] == pd.Timestamp("2026-11-20T09:15:04Z")
    bare = frame.loc[f"{out}/bare-dddd0004"]
    assert (bare["model"], bare["status"]) == ("resnet18", "unknown")
    assert pd.isna(bare["val/accuracy"])


def test_frame_of_no_runs() -> None:
    assert list(results.select([], where=["model=x"], sort="run").columns) == list(results.COLUMNS)


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        (["model=resnet18"], ["0004", "0003"]),
        (["model.width=32"], ["3c4d", "0002"]),
        (["data.batch=64"], ["3c4d", "0003"]),
        (["data.batch=64.0", "status=running"], ["0003"]),
        (["phases.0.optim.main.lr=3e-4"], ["0002"]),
        (["phases.0.optim.main.lr=.0003"], ["0002"]),
        (["phases.0.task=classify"], ["3c4d", "0002", "0003"]),
        (["phases.0.steps=null", "seed=0"], ["3c4d", "0002", "0003"]),
        (["scale.sync_bn=true", "name=resnet"], ["0003"]),
        (["scale.sync_bn=1"], []),
        (["phases.0.train=[*]"], []),
        (["workers=1"], ["3c4d", "0002", "0003"]),
        (["status=finished"], ["3c4d", "0002"]),
    ],
)
def test_where_speaks_the_grammar_of_recipes(out: str, where: list[str], wanted: list[str]) -> None:
    assert chosen(out, where=where) == wanted


def test_sort_puts_the_best_first_and_the_unmeasured_last(out: str) -> None:
    assert chosen(out, sort="val/accuracy") == ["0002", "3c4d", "0003", "0004"]
    assert chosen(out, sort="-val/accuracy") == ["0003", "3c4d", "0002", "0004"]
    assert chosen(out, sort="val/loss")[:2] == ["0003", "0002"]
    assert chosen(out, sort="-val/loss")[:2] == ["0002", "0003"]
    assert chosen(out, sort="run")[0] == "0004"
    assert chosen(out, sort="started")[0] in ("0003", "3c4d")


def test_since(out: str) -> None:
    hours = (datetime.now(UTC) - datetime(2026, 11, 20, 9, 15, 4, tzinfo=UTC)) / timedelta(hours=1)
    assert chosen(out, since="2026-11-20T09:15:05", where=["name=digits"]) == []
    assert chosen(out, since="2026-11-20T09:15:03", where=["name=digits"]) == ["3c4d", "0002"]
    assert chosen(out, since=f"{hours + 1}h", where=["name=digits"]) == ["3c4d", "0002"]
    assert chosen(out, since="12h", where=["name=resnet"]) == []
    assert chosen(out, since="7d", where=["name=resnet"]) == ["0003"]


@pytest.mark.parametrize(
    ("wish", "remedy"),
    [
        ({"sort": "val/acuracy"}, "val/accuracy"),
        ({"where": ["modle=resnet18"]}, "model"),
        ({"where": ["data.bacth=64"]}, "data.batch"),
        ({"where": ["resnet18"]}, "dotted.path=value"),
        ({"since": "yesterday"}, "7d"),
        ({"since": "7"}, "7d"),
    ],
)
def test_mistakes_are_refused_with_a_remedy(out: str, wish: dict, remedy: str) -> None:
    with pytest.raises(Refusal) as refused:
        results.select(results.runs(out), **wish)
    assert remedy in str(refused.value)


def test_listing_is_ready_at_once() -> None:
    code = (
        "import sys, search.results, search.terminal, search.report; "
        "print([m for m in ('torch', 'ray', 'pandas', 'matplotlib', 'jinja2') if m in sys.modules])"
    )
    root = Path(results.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_flatten() -> None:
    tree = {"a": {"b": [1, {"c": None}], "d": {}}, "e": "x"}
    assert results.flatten(tree) == {"a.b.0": 1, "a.b.1.c": None, "a.d": {}, "e": "x"}
    assert results.flatten({}) == {}


def test_compare_shows_only_what_differs(finished: Path, variant: Variant) -> None:
    variant("digits-bbbb0002", {"data.batch": 128})
    both = results.compare(results.runs(str(finished.parent)))
    assert both.differences.to_dict("index") == {
        "data.batch": {"digits-1a2b3c4d": 64, "digits-bbbb0002": 128}
    }
    assert "test/accuracy" in both.scores.index
    assert both.warnings == []
    titles = [axes.get_title(loc="left") for axes in both.figure().axes]
    assert titles[:2] == ["Training loss, smoothed", "val/accuracy"]


def test_scores_are_read_with_their_intervals(finished: Path, variant: Variant) -> None:
    scores = {"val/accuracy": 0.9, "val/loss": 0.25}
    variant("digits-bbbb0002", summary={"scores": scores})
    read = results.compare(results.runs(str(finished.parent))).readable
    low, high = binomtest(243, 270).proportion_ci(method="wilson")
    expected = f"90.0 % ({100 * low:.1f} to {100 * high:.1f} %, n\xa0=\xa0270)"
    assert read.loc["val/accuracy", "digits-bbbb0002"] == expected
    assert read.loc["val/loss", "digits-bbbb0002"] == "0.25"
    assert read.loc["test/accuracy", "digits-bbbb0002"] == "–"


def test_runs_are_held_against_the_first_on_the_same_rows(finished: Path, variant: Variant) -> None:
    others = [variant("digits-bbbb0002"), variant("digits-cccc0003"), variant("digits-dddd0004")]
    for run, wrong in zip(others, (0, 10, None), strict=True):
        file = run / "predictions.parquet"
        if wrong is None:
            file.unlink()  # kept none: it is left out
            continue
        table = pd.read_parquet(file)
        hits = table.index[(table["split"] == "val") & (table["label"] == table["prediction"])]
        table.loc[hits[:wrong], "prediction"] = (table.loc[hits[:wrong], "label"] + 1) % 10
        table.to_parquet(file)
    runs = results.runs(str(finished.parent))
    found = doubt.against_first(runs)
    assert found.to_dict("index") == {
        "digits-bbbb0002": {"only digits-1a2b3c4d": 0, "only this run": 0, "rows": 270, "p": 1.0},
        "digits-cccc0003": {
            "only digits-1a2b3c4d": 10,
            "only this run": 0,
            "rows": 270,
            "p": pytest.approx(2 * 0.5**10),
        },
    }
    assert doubt.against_first(runs[3:]).empty


def test_compare_marks_what_a_recipe_lacks(finished: Path, variant: Variant) -> None:
    variant("other-bbbb0002", {"model": {"name": "resnet18"}})
    both = results.compare(results.runs(str(finished.parent)))
    assert both.differences.loc["model.width", "other-bbbb0002"] is pd.NA
    assert both.differences.loc["model.name"].tolist() == ["small_cnn", "resnet18"]


@pytest.mark.parametrize(
    ("recipe", "summary", "said"),
    [
        ({}, {"data": "ffff" * 8}, "The data differ"),
        ({"data.splits": {"val": 0.3, "test": 0.15, "seed": 0}}, {}, "The splits differ"),
        ({"data.splits.seed": 7}, {}, "The seeds of the splits differ"),
        ({}, {"status": "failed"}, "is failed, not finished"),
        ({"evals.accuracy.on": "test"}, {}, "looked at different splits"),
        ({"keep.metric": "val/loss"}, {}, "chosen by different metrics"),
        ({}, {"opened": {"test": 3}}, "opened the test split 3 times"),
        ({}, {"scores": {"val/rmse": 0.1}}, "No score was measured in all"),
    ],
)
def test_compare_warns(
    finished: Path, variant: Variant, recipe: dict, summary: dict, said: str
) -> None:
    variant("digits-bbbb0002", recipe, summary)
    warnings = results.compare(results.runs(str(finished.parent))).warnings
    assert len(warnings) == 1
    assert said in warnings[0]


def test_folds_of_one_set_are_told_from_other_data(finished: Path, variant: Variant) -> None:
    for fold in (0, 1):
        run = variant(f"fold-{fold}", {"data.fold": fold}, {"data": f"{fold}" * 32})
        packed = {"fold": fold, "stored": "abcd" * 8}
        (run / "data.json").write_text(json.dumps({"packed": packed, "rows": {"val": 10 + fold}}))
    folds = [one for one in results.runs(str(finished.parent)) if one.name.startswith("fold-")]
    warnings = results.compare(folds).warnings
    assert len(warnings) == 1
    assert "different folds (fold-0: 0, fold-1: 1)" in warnings[0]


def test_compare_needs_two(finished: Path) -> None:
    with pytest.raises(Refusal, match="two or more"):
        results.compare(results.runs(str(finished)))
