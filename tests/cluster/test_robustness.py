"""The robustness protocol on a run of digits: exact, the same again, told in tables and on a page, mistakes in a line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cluster import protocol
from cluster.evaluate import evaluate
from cluster.run import Run
from datasets.refusal import Refusal
from search.protocols import page
from tests.commands import cli
from trainers import rooms

ROOT = Path(__file__).resolve().parent.parent.parent
FEW: dict[str, Any] = {
    "corruptions": ["gaussian_noise", "contrast", "glass_blur"],
    "severities": [1, 5],
    "occlusions": [0.25],
    "epsilons": [8.0, 32.0],
    "steps": 3,
    "attacked": 40,
}
WORDS = [f"{name}={value}".replace("'", "") for name, value in FEW.items()]


@pytest.fixture(scope="module")
def put(finished: Run) -> page.Found:
    """The validation split through a few conditions."""
    folder = protocol.run(finished, "robustness", FEW)
    assert folder.startswith(f"{finished.url}/evaluations/robustness-val-attacked-corruptions-")
    return page.read(folder)


def test_without_corruption_it_is_what_evaluate_says(finished: Run, put: page.Found) -> None:
    scores = evaluate(finished)
    assert put.scores["accuracy"] == pytest.approx(scores["val/accuracy"])
    assert put.scores["calibration_error"] == pytest.approx(
        scores["val/calibration_error"], abs=1e-6
    )


def test_tables_agree_with_scores(put: page.Found) -> None:
    each, means = put.tables["corruptions"], put.tables["corruption_means"]
    rows = put.tables["calibration"]["rows"].iloc[0]
    assert len(each) == 3 * 2
    assert set(each["rows"]) == {rows}
    assert put.scores["mean_corruption_error"] == pytest.approx(1 - each["accuracy"].mean())
    wanted = each.groupby("corruption")["accuracy"].mean()
    assert means.set_index("corruption")["accuracy"].to_dict() == pytest.approx(wanted.to_dict())
    low, high = (put.scores[f"mean_corruption_error_{end}"] for end in ("low", "high"))
    assert low < put.scores["mean_corruption_error"] < high
    hard = each[each["severity"] == 5]["accuracy"].mean()
    assert hard < each[each["severity"] == 1]["accuracy"].mean()


def test_attacks_are_on_as_many_pictures_as_asked(put: page.Found) -> None:
    attacks = put.tables["attacks"].set_index(["attack", "epsilon"])["accuracy"]
    assert set(put.tables["attacks"]["rows"]) == {40}
    assert put.scores["attacked_rows"] == 40
    assert attacks["pgd", 32] <= attacks["pgd", 8] <= attacks["none", 0]
    assert attacks["pgd", 32] == pytest.approx(put.scores["pgd_32_accuracy"])
    assert len(put.tables["attack_loss"]) == 4
    assert set(put.tables["gradients"]["sound"]) <= {"yes", "no"}


def test_the_same_again_whatever_the_batch(finished: Run, put: page.Found, tmp_path: Path) -> None:
    """Micro-batches of 7 rows read, corrupt and attack the same pictures in other company."""
    import shutil

    copied = tmp_path / finished.name
    shutil.copytree(finished.url, copied)
    recipe = (copied / "recipe.yaml").read_text()
    assert "micro_batch: null" in recipe
    (copied / "recipe.yaml").write_text(recipe.replace("micro_batch: null", "micro_batch: 7"))
    again = page.read(protocol.run(Run.open(str(copied)), "robustness", FEW))
    assert again.scores == pytest.approx(put.scores, abs=0.006)  # a picture on a border may tip
    same = [name for name in put.tables if put.tables[name].shape == again.tables[name].shape]
    assert same == list(put.tables)


def test_against_its_equal_mce_is_one(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="a checkpoint beside itself"):
        protocol.run(finished, "robustness", {**FEW, "reference": finished.url})
    equal = shutil.copytree(finished.url, tmp_path / "equal")
    few = {**FEW, "attacks": ["pgd"], "attacked": 16, "reference": str(equal)}
    found = page.read(protocol.run(finished, "robustness", few))
    assert found.scores["mce"] == pytest.approx(1)
    assert found.scores["relative_mce"] == pytest.approx(1)
    assert found.scores["reference_accuracy"] == found.scores["accuracy"]
    attacks = found.tables["attacks"].set_index(["attack", "epsilon"])["accuracy"]
    # What fools a model from its own gradient is carried over whole.
    assert attacks["transfer", 32] == pytest.approx(attacks["pgd", 32], abs=0.07)
    assert "reference" in set(found.tables["calibration"]["model"])


def test_parts_can_be_left_out(finished: Run, tmp_path: Path) -> None:
    nothing = {"corruptions": [], "attacks": [], "occlusions": []}
    found = page.read(protocol.run(finished, "robustness", nothing))
    assert set(found.scores) == {"accuracy", "calibration_error"}
    assert found.tables == {}, "those of before are gone"
    assert Path(page.write(found.url)).exists()


def test_the_verb_tells_draws_and_counts(finished: Run) -> None:
    opened = finished.summary["opened"]["test"]
    said = cli(
        "evaluate", finished.url, "--protocol", "robustness", "--on", "test", "--json", *WORDS
    )
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert finished.summary["opened"]["test"] == opened + 1
    assert told["scores"]["robustness/mean_corruption_error"] > 0
    assert told["said"]
    folder = Path(told["report"]).parent
    assert folder.name.startswith("robustness-test-attacked-")
    drawn = {path.stem for path in (folder / "figures").iterdir()}
    assert drawn == {
        *("radar", "severities", "calibration", "attacks", "attack_loss", "occlusion"),
        *("examples", "attacked"),
    }
    html = (folder / "report.html").read_text()
    assert html.count("<svg") == 6
    assert "http" not in html.replace("http://www.w3.org", "")
    for sentence in told["said"]:
        assert sentence.split("'")[0] in html
    (folder / "report.html").unlink()
    assert cli("report", folder).out.strip() == str(folder / "report.html")
    assert len((folder / "report.html").read_text()) == len(html)


@pytest.mark.parametrize(
    ("word", "path", "remedy"),
    [
        ("corruptionz=[fog]", "corruptionz", "did you mean 'corruptions'"),
        ("corruptions=fog", "corruptions", "corruptions=[fog]"),
        ("severities=[0]", "severities.0", ""),
        ("epsilons=[300]", "epsilons.0", ""),
        ("attacks=[cw]", "attacks.0", "fgsm, pgd"),
        ("occlusions=[1.5]", "occlusions.0", ""),
        ("steps=0", "steps", ""),
        ("steps", "", "data.batch=128"),
    ],
)
def test_a_mistake_is_a_line(word: str, path: str, remedy: str) -> None:
    with pytest.raises(Refusal) as caught:
        protocol.checked("robustness", [word])
    assert caught.value.path == path
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("arguments", "path", "remedy"),
    [
        ({"corruptions": ["fogg"]}, "corruptions.0", "did you mean 'fog'"),
        ({"severities": []}, "severities", "corruptions=[]"),
        ({"epsilons": []}, "epsilons", "attacks=[]"),
        ({"reference": "nowhere"}, "reference", "results"),
    ],
)
def test_a_mistake_that_the_schema_cannot_see_opens_nothing(
    finished: Run, arguments: dict[str, Any], path: str, remedy: str
) -> None:
    before = finished.summary["opened"]
    with pytest.raises(Refusal) as caught:
        protocol.run(finished, "robustness", arguments, split="test")
    assert (caught.value.path, finished.summary["opened"]) == (path, before)
    assert remedy in caught.value.remedy


def test_arguments_without_a_protocol_are_refused(finished: Run) -> None:
    said = cli("evaluate", finished.url, "steps=3")
    assert said.code == 2
    assert "--protocol" in said.err


def test_a_run_that_names_no_classes_of_pictures_is_refused(tmp_path: Path) -> None:
    words = ["phases.0.epochs=1", "log.tensorboard=false", "--quiet", "--out", tmp_path]
    said = cli("train", ROOT / "recipes" / "curve.yaml", *words)
    assert said.code == 0, said.err
    (folder,) = tmp_path.iterdir()
    said = cli("evaluate", folder, "--protocol", "robustness")
    assert said.code == 2
    assert "names no classes of pictures" in said.err


def test_a_misspelt_argument_costs_no_torch() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import launch
for words in (["--protocol", "robustnes"], ["--protocol", "robustness", "stepz=3"]):
    try:
        launch.app(["evaluate", "anywhere", *words])
    except SystemExit as end:
        assert end.code == 2, end.code
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_protocol_takes_what_the_engine_knows() -> None:
    for door in rooms.doors("protocols").values():
        assert set(door.positional) <= {"saved", "split", "shown", "workers"}
        assert door.doc


def test_a_protocol_without_figures_of_its_own_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(
        json.dumps({"protocol": "linear", "split": "test", "scores": {"linear/accuracy": 0.5}})
    )
    (tmp_path / "tables").mkdir()
    pd.DataFrame({"shots": [1, 4], "accuracy": [0.25, 0.5]}).to_csv(
        tmp_path / "tables" / "by_shots.csv", index=False
    )
    html = Path(page.write(str(tmp_path))).read_text()
    assert "<h1>Linear</h1>" in html
    assert "50.0 %" in html
