"""Protocols of frozen features on a SimCLR run of digits: nothing is learnt or chosen by what is judged; mistakes in a line."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import protocol
from cluster.backbone import Backbone
from cluster.protocols import knn, linear
from cluster.run import Run
from datasets.progress import silent
from datasets.refusal import Refusal
from search.protocols import page
from tests.commands import cli
from trainers.task import Scalar

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ["model.width=8", "scale.device=cpu", "log.tensorboard=false", "data.batch=64"]


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """SimCLR for three epochs."""
    out = tmp_path_factory.mktemp("views")
    recipe = str(ROOT / "recipes" / "simclr_digits.yaml")
    said = cli("train", recipe, *SMALL, "phases.0.steps=57", "--out", out, "--quiet")
    assert said.code == 0, said.err
    (folder,) = out.iterdir()
    return Run.open(str(folder))


def put(run: Run, name: str, *, on: str = "val", **arguments: Any) -> page.Found:
    return page.read(protocol.run(run, name, arguments, split=on))


def test_linear_learns_from_train_and_chooses_by_val(views: Run) -> None:
    found = put(views, "linear", on="test", reference="random")
    scores = found.scores
    assert scores["accuracy"] > 0.8 and scores["accuracy_low"] < scores["accuracy"]
    assert scores["accuracy_gain"] == pytest.approx(
        scores["accuracy"] - scores["reference_accuracy"]
    )
    told = found.tables["strengths"]
    best = told[told["accuracy"] == told["accuracy"].max()]["strength"].max()
    assert scores["strength"] == pytest.approx(best)
    classes = found.tables["classes"]
    assert (classes["rows"] * classes["recall"]).sum() == pytest.approx(
        scores["accuracy"] * classes["rows"].sum()
    )
    assert "chosen by val" in found.told["sentences"][0]


def test_on_val_something_else_chooses(views: Run) -> None:
    judge = Backbone.of(views.best, "val")
    learn, by, said = judge.chosen_by()
    judged = {*judge.known("val").ids.tolist()}
    assert not judged & {*learn.ids.tolist(), *by.ids.tolist()}
    assert not {*learn.ids.tolist()} & {*by.ids.tolist()}
    assert "fifth of train" in said
    assert "fifth of train" in put(views, "linear").told["sentences"][0]


def test_one_draw_has_no_spread(views: Run) -> None:
    words = ["--protocol", "shots", "draws=1", "shots=[1]", "reference=random", "strength=0.00001"]
    said = cli("evaluate", views.url, *words, "--on", "test")
    assert said.code == 0 and "one draw of the labels" in said.out
    page_ = Path(said.out.splitlines()[-1]).read_text()
    for text in (said.out, re.sub(r"(?s)<style.*?</style>|<script.*?</script>", "", page_)):
        assert not re.search(r"\bnan\b|[+-]inf\b", text)


def test_small_scores_are_not_printed_as_nothing(views: Run) -> None:
    said = cli("evaluate", views.url, "--protocol", "linear", "strength=0.00001")
    assert re.search(r"linear/strength +1e-05$", said.out, re.MULTILINE)


def test_other_arguments_have_a_folder_of_their_own_and_their_command(views: Run) -> None:
    """What stands under "Again" on the page finds the same folder."""
    many: list[dict[str, Any]] = [
        {}, {"k": 3}, {"k": 3, "data": "digits"}, {"k": 4},
    ]  # fmt: skip
    folders = [protocol.run(views, "knn", each, split="test") for each in many]
    last = protocol.run(views, "knn", {}, split="test", checkpoint="last")
    assert len({*folders, last}) == 5 and folders[0] == f"{views.url}/evaluations/knn-test"
    assert Path(folders[2]).name.startswith("knn-test-data-k-")
    usual = protocol._all_of("knn", {})
    assert protocol.run(views, "knn", usual, split="test") == folders[0]
    for folder in (*folders, last):
        line = page._command(page.read(folder))
        shown = re.sub("<[^>]+>", "", Path(page.write(folder)).read_text())
        assert line in html.unescape(shown)
        words = shlex.split(line)
        assert words[:2] == ["python", "launch.py"]
        said = cli(*words[2:], "--json")
        assert said.code == 0 and json.loads(said.out)["report"] == f"{folder}/report.html"


@pytest.mark.parametrize("build", [linear.build, knn.build])
def test_labels_of_the_judged_split_change_nothing_that_is_learnt(
    views: Run, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(outcome: Any) -> list[float]:
        kept = ("strength", "k")
        return [f.value for f in outcome.findings if isinstance(f, Scalar) and f.name in kept]

    before = build(views.best, "test", silent, None)
    own = Backbone.known

    def turned(judge: Backbone, split: str) -> Any:
        known = own(judge, split)
        if split != "test":
            return known
        return type(known)(known.ids, (known.labels + 1) % 10, known.features)

    monkeypatch.setattr(Backbone, "known", turned)
    after = build(views.best, "test", silent, None)
    assert chosen(before) == chosen(after)
    accuracy = [next(f.value for f in o.findings if f.name == "accuracy") for o in (before, after)]
    assert accuracy[1] < 0.3 < accuracy[0]


def test_knn_takes_the_k_that_it_is_told(views: Run) -> None:
    found = put(views, "knn", k=7)
    assert found.scores["k"] == 7 and "neighbours" not in found.tables
    chosen = put(views, "knn", on="test")
    table = chosen.tables["neighbours"]
    assert chosen.scores["k"] == table["k"][int(table["accuracy"].argmax())]


def test_few_labels_draw_a_curve(views: Run) -> None:
    found = put(views, "shots", shots=[4, 1, 16], draws=3, reference="random")
    table = found.tables["shots"]
    own = table[table["model"] == "run"]
    assert own["shots"].tolist() == [1, 4, 16] and set(table["draws"]) == {3}
    assert own["accuracy"].is_monotonic_increasing
    assert (own["low"] <= own["accuracy"]).all() and (own["sd"] > 0).all()
    assert found.scores["accuracy_16_shots"] == pytest.approx(own["accuracy"].iloc[-1])
    gains = found.tables["gains"].set_index("shots")["gain"]
    beside = table[table["model"] == "reference"].set_index("shots")["accuracy"]
    assert gains[4] == pytest.approx(own["accuracy"].iloc[1] - beside[4])
    html = Path(page.write(found.url)).read_text()
    assert "<svg" in html and "labels a class" in html and "Beside the reference" in html
    assert (Path(found.url) / "figures" / "shots.png").stat().st_size > 5_000


def test_retrieval_is_that_of_an_index(views: Run, tmp_path: Path) -> None:
    found = put(views, "retrieval", ks=[1, 5])
    out = str(tmp_path / "index")
    assert cli("retrieve", "index", views.url, "digits", "--out", out).code == 0
    words = ["--queries", "val", "--against", "val", "--k", "1,5", "--json"]
    said = cli("retrieve", "score", out, *words)
    assert said.code == 0, said.err
    scores = json.loads(said.out)["scores"]
    assert scores["map"] == pytest.approx(found.scores["map"], abs=1e-6)
    assert scores["precision@5"] == pytest.approx(found.scores["precision_at_5"], abs=1e-6)


def test_fine_tuning_is_a_run_of_its_own(views: Run) -> None:
    found = put(views, "finetune", shots=4, steps=60, batch=20)
    tuned = Run.open(found.told["sentences"][1].split()[-1].rstrip("."))
    assert Path(tuned.url).parent == Path(views.url).parent and tuned.finished
    recipe = tuned.recipe
    assert recipe.phases[0].init == views.best.url and recipe.phases[0].train == ["*"]
    assert recipe.keep.metric is None, "nothing is chosen by val"
    assert "test" not in tuned.summary.get("opened", {})
    assert found.scores["accuracy"] == pytest.approx(tuned.scores["val/accuracy"])
    steps = tuned.summary["steps"]
    opened = views.summary.get("opened", {}).get("test", 0)
    put(views, "finetune", on="test", shots=4, steps=60, batch=20)
    assert tuned.summary["steps"] == steps == 60, "the same run"
    assert tuned.summary["opened"] == {"test": 1}
    assert views.summary["opened"]["test"] == opened + 1


def test_opening_the_test_is_counted_once(views: Run) -> None:
    opened = views.summary.get("opened", {}).get("test", 0)
    put(views, "knn", on="test", k=3, reference="random")
    assert views.summary["opened"]["test"] == opened + 1
    put(views, "knn", k=3)
    assert views.summary["opened"]["test"] == opened + 1


def test_labels_are_those_of_the_whole_train_split(finished: Run, tmp_path: Path) -> None:
    """Whatever the run itself has learnt from."""
    words = [
        "data.subset.shots=2",
        "data.batch=20",
        "data.noise.name=symmetric",
        "phases.0.epochs=1",
    ]
    recipe = str(ROOT / "recipes" / "digits.yaml")
    few = ["model.width=8", "scale.device=cpu", "log.tensorboard=false"]
    assert cli("train", recipe, *few, *words, "--out", tmp_path, "--quiet").code == 0
    (folder,) = tmp_path.iterdir()
    own = Backbone.of(Run.open(str(folder)).best, "val").known("train")
    whole = Backbone.of(finished.best, "val").known("train")
    assert np.array_equal(own.ids, whole.ids) and np.array_equal(own.labels, whole.labels)


def test_another_reference_on_the_same_pictures(views: Run, finished: Run) -> None:
    found = put(views, "knn", k=5, reference=finished.url)
    alone = put(finished, "knn", k=5)
    assert found.scores["reference_accuracy"] == pytest.approx(alone.scores["accuracy"])


def test_a_reference_that_has_learnt_what_is_judged_is_refused(
    views: Run, finished: Run, tmp_path: Path
) -> None:
    recipe = str(ROOT / "recipes" / "digits.yaml")
    few = ["model.width=8", "scale.device=cpu", "log.tensorboard=false", "phases.0.epochs=1"]
    said = cli("train", recipe, *few, "data.splits.seed=1", "--out", tmp_path, "--quiet")
    assert said.code == 0, said.err
    (other,) = tmp_path.iterdir()
    with pytest.raises(Refusal, match="has learnt from .* pictures of this val split") as caught:
        put(views, "linear", reference=str(other))
    assert caught.value.path == "reference" and caught.value.remedy


@pytest.mark.parametrize(
    ("name", "words", "path", "error"),
    [
        ("linear", ["--on", "train"], "--on", "nothing is judged on them"),
        ("linear", ["--on", "tset"], "--on", "no split 'tset'"),
        ("linear", ["strength=0"], "strength", "should be above 0"),
        ("linear", ["data=nowhere"], "data", "neither a packed data set nor a source"),
        ("linear", ["data=curve"], "data", "no labels"),
        ("linear", ["reference=/nowhere"], "reference", "no run here"),
        ("knn", ["k=100000"], "k", "more than the"),
        ("shots", ["shots=[500]"], "shots", "samples to learn from, not 500"),
        ("shots", ["shots=[]"], "shots", "is empty"),
        ("finetune", ["shots=500"], "shots", "samples to learn from, not 500"),
        ("retrieval", ["ks=[100000]"], "ks", "other pictures to find"),
    ],
)
def test_mistakes_are_one_line(
    views: Run, name: str, words: list[str], path: str, error: str
) -> None:
    said = cli("evaluate", views.url, "--protocol", name, *words)
    lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert said.code == 2 and len(lines) == 1 and "Traceback" not in said.err
    assert lines[0].startswith(f"error: {path}") and error in lines[0]
    assert " -- " in lines[0] or path == "strength", "the remedy"


def test_a_table_has_no_features_of_pictures(tmp_path: Path) -> None:
    recipe = str(ROOT / "recipes" / "curve.yaml")
    words = ["phases.0.epochs=1", "scale.device=cpu", "log.tensorboard=false"]
    assert cli("train", recipe, *words, "--out", tmp_path, "--quiet").code == 0
    (folder,) = tmp_path.iterdir()
    with pytest.raises(Refusal, match="not pictures"):
        put(Run.open(str(folder)), "linear")
