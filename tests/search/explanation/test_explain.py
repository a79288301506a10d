"""`explain` as a user has it: the folder, the page, the numbers; and what is refused, in one line and for nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from cluster.explain import Subject
from cluster.run import Run, run
from datasets.refusal import Refusal
from search.explanation.explain import explain
from search.explanation.wanted import Wanted, names
from tests.commands import cli
from trainers import checkpoint
from trainers.recipe import Recipe


@pytest.fixture(scope="module")
def told(of_digits: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = str(tmp_path_factory.mktemp("explain"))
    said = cli("explain", of_digits.url, "--images", 6, "--points", 60, "--out", out, "--json")
    assert said.code == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def data(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match
    found: dict[str, Any] = json.loads(match[1])
    return found


def test_the_page_is_whole_and_needs_nothing_else(told: dict[str, Any]) -> None:
    page = Path(told["report"]).read_text()
    outside = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page)
    assert (
        not outside
        and "@import" not in page
        and "http" not in page.replace("http://www.w3.org", "")
    )
    for heading in (
        "surest mistakes",
        "Classified correctly",
        "Who is taken",
        "Features",
        "Hard to learn",
    ):
        assert heading in page
    assert "Where it looks" not in page  # digits have no boxes
    assert page.count('class="card"') == 12


def test_every_cell_leads_to_its_pictures(told: dict[str, Any]) -> None:
    found = data(Path(told["report"]).read_text())
    counts = pd.read_csv(Path(told["report"]).with_name("confusion.csv"), index_col="true")
    assert counts.to_numpy().sum() == told["rows"]
    assert counts.to_numpy().sum() - counts.to_numpy().trace() == told["wrong"]
    for cell, rows in found["cells"].items():
        true, predicted = map(int, cell.split(","))
        listed = [found["rows"][row] for row in rows]
        assert {(row[2], row[3]) for row in listed} == {(true, predicted)}
        sure = [row[4] for row in listed]
        assert sure == sorted(sure, reverse=True)
        assert len(rows) == min(counts.iloc[true, predicted], 6 if true == predicted else 24)
    assert len(found["cells"]) == (counts.to_numpy() > 0).sum()
    assert len(found["thumbs"]) == len(found["rows"])


def test_predictions_and_mistakes_are_the_runs_own(told: dict[str, Any], of_digits: Run) -> None:
    shown = pd.read_csv(Path(told["report"]).with_name("shown.csv"), dtype={"true": str})
    known = pd.read_parquet(Path(of_digits.url) / "predictions.parquet")
    known = known[known["split"] == "val"].set_index("id")
    assert told["rows"] == len(known)
    assert told["wrong"] == (known["label"] != known["prediction"]).sum()
    wrong = shown[shown["sheet"] == "wrong"]
    assert (
        wrong["confidence"].is_monotonic_decreasing
        and (wrong["true"] != wrong["predicted"].astype(str)).all()
    )
    for _, line in shown.iterrows():
        own = known.loc[line["id"]]
        assert own["probabilities"].max() == pytest.approx(line["confidence"], abs=1e-5)
        assert str(own["label"]) == line["true"] and own["prediction"] == line["predicted"]


def test_train_and_the_split_are_in_one_projection(told: dict[str, Any]) -> None:
    found = data(Path(told["report"]).read_text())
    points = pd.read_csv(Path(told["report"]).with_name("points.csv"))
    assert points["split"].value_counts().to_dict() == {"train": 60, "val": 60}
    assert {"pca_x", "pca_y", "tsne_x", "tsne_y"} <= set(points)
    assert [plane["name"] for plane in found["planes"]] == ["pca", "tsne"]
    assert all(len(plane["points"]) == len(found["which"]) == 120 for plane in found["planes"])
    assert [found["rows"][row][1] for row in found["which"]] == points["id"].tolist()
    for name in ("pca.png", "tsne.png", "wrong.png", "right.png"):
        with Image.open(Path(told["report"]).with_name(name)) as picture:
            assert min(picture.size) > 100


def test_the_folder_is_of_one_explanation(of_digits: Run, tmp_path: Path) -> None:
    wanted = Wanted(classes=("3", "8"), images=2, embed=("pca",), points=20, out=str(tmp_path))
    first = explain(of_digits, wanted)
    assert first["classes"] == ["3", "8"]
    assert pd.read_csv(tmp_path / "points.csv")["true"].isin([3, 8]).all()
    assert pd.read_csv(tmp_path / "hardest.csv")["true"].isin([3, 8]).all()
    explain(of_digits, Wanted(images=0, embed=(), out=str(tmp_path)))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        *("report.html", "explain.json", "confusion.csv", "pairs.csv"),
        "shown.csv",
        "hardest.csv",
    }


def test_a_single_class_is_shown_beside_those_it_is_taken_for(
    of_digits: Run, tmp_path: Path
) -> None:
    counts = (
        pd.read_csv(Path(of_digits.url) / "tables" / "val_confusion.csv").iloc[:, 1:].to_numpy()
    )
    off = counts - np.diag(np.diag(counts))
    worst = int((off.sum(0) + off.sum(1)).argmax())
    explain(
        of_digits,
        Wanted(classes=(str(worst),), images=1, embed=("tsne",), points=8, out=str(tmp_path)),
    )
    cells = data((tmp_path / "report.html").read_text())["cells"]
    assert len(cells) > 1 and len(pd.read_csv(tmp_path / "points.csv")) == 16


def test_a_network_that_diverged_is_refused(of_digits: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(of_digits.url, tmp_path / "run"))
    for folder in (copy / "checkpoints").glob("step-*"):
        weights, marker = folder / "model.safetensors", folder / "complete.json"
        nothing = {name: each * float("nan") for name, each in load_file(weights).items()}
        save_file(
            {name: nothing[name].to(each.dtype) for name, each in load_file(weights).items()},
            weights,
        )
        sums = {**json.loads(marker.read_text()), weights.name: checkpoint.checksum(weights)}
        marker.write_text(json.dumps(sums))
    with pytest.raises(Refusal, match="diverged"):
        Subject(Run.open(str(copy))).predicted("val")


def test_what_is_shown_is_the_same_again(of_digits: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        explain(of_digits, Wanted(images=3, points=40, out=str(tmp_path / name)))
    for file in ("shown.csv", "points.csv", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_where_it_looks_at_birds(of_birds: Run, tmp_path: Path) -> None:
    """A net that tells birds by a patch of colour looks at the patch, and so nearest to the beak, which lies in it."""
    told = explain(of_birds, Wanted(on="train", images=2, embed=(), out=str(tmp_path)))
    assert told["wrong"] <= told["rows"] // 4, "the net has not learnt enough to be asked"
    game = told["pointing"]
    assert game["rows"] == told["rows"] > 30
    assert game["score"] > game["chance"] + 0.2
    low, high = game["interval"]
    assert low < game["score"] <= high + 1e-9
    assert "beak" in game["parts"]
    rows = pd.read_csv(tmp_path / "pointing.csv")
    assert rows["inside"].mean() == pytest.approx(game["score"])
    page = (tmp_path / "report.html").read_text()
    assert "Where it looks" in page and "Nearest part" in page


def test_opening_the_test_is_counted(of_digits: Run, tmp_path: Path) -> None:
    before = of_digits.summary["opened"]["test"]
    explain(of_digits, Wanted(on="test", images=1, embed=(), out=str(tmp_path)))
    assert of_digits.summary["opened"]["test"] == before + 1
    assert f"opened {before + 1} times" in (tmp_path / "report.html").read_text()


def test_a_run_without_a_ledger_is_told_how_to_get_one(of_birds: Run, tmp_path: Path) -> None:
    explain(of_birds, Wanted(images=0, embed=(), pointing=0, out=str(tmp_path)))
    assert "data.ledger=true" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "hardest.csv").exists()


def test_features_are_what_the_head_takes(of_digits: Run) -> None:
    import torch

    subject = Subject(of_digits)
    rows = subject.dataset.columns("val")["id"][:0].astype("int64")
    rows = pd.RangeIndex(5).to_numpy()
    features = torch.from_numpy(subject.features("val", rows))
    logits = subject.network.get_submodule("head")(features)
    expected = subject.predicted("val").probabilities[:5]
    assert torch.allclose(logits.softmax(1).double(), torch.from_numpy(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["--layer", "feature.9"],
            "error: --layer: the model has no layer 'feature.9' -- the nearest with a map: features.",
        ),
        (["--layer", "head"], "error: --layer: the layer 'head' has no map"),
        (["--classes", "3,11"], "error: --classes: the run knows no class '11' -- "),
        (["--on", "vla"], "error: --on: the data have no split 'vla' -- did you mean 'val'?"),
        (["--method", "gradcam+"], "error: --method: 'gradcam+' is none of gradcam, "),
        (["--embed", "umap"], "error: --embed: 'umap' is none of pca, tsne"),
        (["--checkpoint", "worst"], "error: --checkpoint: 'worst' is none of best, last"),
    ],
    ids=lambda words: "".join(words) if isinstance(words, list) else "",
)
def test_mistakes_are_one_line_and_open_nothing(
    words: list[str], error: str, of_digits: Run, tmp_path: Path
) -> None:
    before = of_digits.summary
    said = cli(
        "explain",
        of_digits.url,
        *(["--on", "test"] if "--on" not in words else []),
        *words,
        "--out",
        tmp_path,
    )
    assert said.code == 2 and said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(error), line
    assert of_digits.summary == before and not list(tmp_path.iterdir())


def test_a_run_that_does_not_classify_is_refused(tmp_path: Path) -> None:
    recipe = Recipe.load("recipes/curve.yaml").override(
        {"scale.device": "cpu", "log.tensorboard": False, "phases.0": _short("recipes/curve.yaml")}
    )
    done = run(recipe, out=str(tmp_path))
    said = cli("explain", done.url)
    assert said.code == 2
    assert (
        "does not tell classes of pictures apart" in said.err and "run that classifies" in said.err
    )


def _short(path: str) -> dict[str, Any]:
    phase: dict[str, Any] = Recipe.load(path).plain()["phases"][0]
    return {**phase, "epochs": None, "steps": 3}


def test_names_of_classes_may_hold_commas() -> None:
    assert names("a, b", ["a", "b"], "--classes") == ("a", "b")
    assert names("a, b", ["a, b", "c"], "--classes") == ("a, b",)
    with pytest.raises(Refusal, match="no name is said"):
        names(" ", ["a"], "--classes")
