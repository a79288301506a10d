"""Simple fits beside a regression: what they come to, what lies beyond, the page, mistakes in a line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from cluster import protocol
from cluster.protocols import baselines
from cluster.run import Run, run
from datasets.refusal import Refusal
from search.protocols import page
from tests.commands import cli
from trainers.recipe import Recipe

CURVE = "recipes/curve.yaml"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short fit that is judged beyond what it learns from."""
    recipe = Recipe.load(CURVE).override(
        {
            "phases.0.epochs": 60,
            "data.source.test_low": -3.0,
            "data.source.test_high": 5.0,
            "scale.device": "cpu",
            "log.tensorboard": False,
        }
    )
    return run(recipe, out=str(tmp_path_factory.mktemp("fits")))


@pytest.fixture(scope="module")
def put(fitted: Run) -> page.Found:
    return page.read(protocol.run(fitted, "baselines", {}, split="test"))


def test_the_models_score_is_what_evaluate_says(fitted: Run, put: page.Found) -> None:
    for name in ("rmse", "rmse_beyond"):
        expected = fitted.scores[f"test/{name}"]
        assert put.scores[f"model_{name}"] == pytest.approx(expected, rel=1e-5)


def test_progress_counts_fits(fitted: Run) -> None:
    said = cli("evaluate", fitted.url, "--protocol", "baselines")
    assert "4 of 4 fits" in said.err and "pictures" not in said.err


def test_a_spline_fits_what_a_line_does_not(put: page.Found) -> None:
    table = put.tables["baselines"].set_index("fit")["rmse"]
    assert table["spline"] < 0.05 < 1 < min(table["ridge"], table["mean"])
    assert table.to_dict() == pytest.approx(
        {name: put.scores[f"{name}_rmse"] for name in baselines.NAMES}
    )
    first, second = put.told["sentences"]
    assert first.startswith("RMSE on ") and "learnt from the same 340 rows" in first
    assert second.startswith("On ") and "beyond the range that was learnt from" in second


def test_ridge_without_a_penalty_is_least_squares() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 2))
    y = x @ [2.0, -1.0] + 3 + draw.normal(size=80)
    rows = baselines.Rows(x, y, np.zeros(80, bool))
    found = baselines.fitted(rows, x, knots=5, degree=3, strengths=[1e-9])
    np.testing.assert_allclose(found["ridge"], LinearRegression().fit(x, y).predict(x), rtol=1e-6)
    np.testing.assert_allclose(found["mean"], y.mean())


def test_opening_the_test_split_is_counted_and_the_page_is_drawn(
    fitted: Run, put: page.Found
) -> None:
    opened = json.loads(Path(fitted.url, "summary.json").read_text())["opened"]
    assert opened["test"] >= 2
    drawn = Path(page.write(put.url)).read_text()
    assert "the spline" in drawn and drawn.count("<img") == 1


def test_by_hand_through_the_command(fitted: Run) -> None:
    said = cli("evaluate", fitted.url, "--protocol", "baselines", "knots=6")
    assert said.code == 0 and "RMSE on 60 rows of the val split" in said.out


@pytest.mark.parametrize(
    ("words", "path"),
    [(["knots=1"], "knots"), (["strengths=[]"], "strengths"), (["knotts=3"], "knotts")],
)
def test_mistakes_are_one_line(fitted: Run, words: list[str], path: str) -> None:
    said = cli("evaluate", fitted.url, "--protocol", "baselines", *words)
    assert said.code == 2 and said.err.startswith(f"error: {path}: ")
    assert len(said.err.splitlines()) == 1


def test_pictures_have_no_baselines(finished: Run) -> None:
    with pytest.raises(Refusal, match="has no x and y to fit") as caught:
        protocol.run(finished, "baselines", {})
    assert caught.value.path == finished.url
