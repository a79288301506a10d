"""The page of a run: whole, half-written, damaged and hostile folders."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from datasets import store
from datasets.refusal import Refusal
from search import numbers, report, results
from tests.search.fabricate import put

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects what a browser would fetch, what it would run and what it would show."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        wanted = ("src", "href", "xlink:href", "srcset", "action", "poster", "data")
        self.links += [value or "" for name, value in attrs if name in wanted]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).split())


def drawn(folder: Path) -> Page:
    url = report.write(str(folder))
    assert url == f"{folder}/report.html"
    page = Page(Path(url).read_text())
    assert page.open == []
    assert page.tags.count("script") == 1
    return page


@pytest.fixture
def quiet(finished: Path) -> Path:
    """A run with nothing to draw, so that many pages cost little."""
    (finished / "metrics.jsonl").write_text("")
    for table in (finished / "tables").glob("*confusion*"):
        table.unlink()
    return finished


def test_a_finished_run_says_everything(finished: Path) -> None:
    said = drawn(finished).said
    score = json.loads((finished / "summary.json").read_text())["scores"]["test/accuracy"]
    low, high = numbers.wilson(score, 270)
    assert f"Accuracy {numbers.percent(score)} on the test split" in said
    assert f"95 % interval {100 * low:.1f} to {numbers.percent(high)}, n = 270" in said
    assert "The checkpoint of step 228 was chosen by val/accuracy" in said
    assert "The test split was opened once." in said
    for word in ("12.4 s", "93,322", "1.25 M", "train 1,257", "8 × 8 × 1", "label_smoothing"):
        assert word in said, word
    assert 'run = Run.open("' in said
    assert "checkpoints/step-00000228/model.safetensors" in said
    assert "source digits, seed 0" in said
    assert "git checkout 3f9c2a7b51d0 python launch.py train" in said
    assert "Not in the folder" not in said


def test_the_page_asks_for_nothing(finished: Path) -> None:
    page = drawn(finished)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    text = (finished / "report.html").read_text()
    css = text[text.index("<style>") : text.index("</style>")]
    assert not re.search(r"url\(|@import", css)
    assert len(text) < 600_000


def test_sections_come_in_order(finished: Path) -> None:
    text = (finished / "report.html").read_text() if drawn(finished) else ""
    ids = re.findall(r'<section id="([\w-]+)"', text)
    assert ids == [
        "curves",
        "scores",
        "split-test",
        "data",
        "model",
        "use",
        "recipe",
        "environment",
    ]


def test_names_are_never_markup(finished: Path) -> None:
    evil = "<script>alert(1)</script>"
    shown = {"true": [evil, "b"], evil: [3, 0], "b": [1, 4]}
    pd.DataFrame(shown).to_csv(finished / "tables" / "test_confusion.csv", index=False)
    classes = pd.DataFrame({"class": [evil, "b"], "recall": [0.75, 1.0]})
    classes.to_csv(finished / "tables" / "test_classes.csv", index=False)
    (finished / "recipe.yaml").write_text(f"name: '{evil}'\ndata: {{note: '{evil}'}}\n# {evil}\n")
    summary = json.loads((finished / "summary.json").read_text())
    put(finished, "summary.json", summary | {"notes": [evil], "status": evil})
    put(finished, "data.json", {"classes": [evil], "counts": {"train": {evil: 3}}, "name": evil})
    page = drawn(finished)
    assert page.said.count(evil) >= 7


FILES = [
    *list(report.PARTS)[1:],
    "predictions.parquet",
    "tables/test_confusion.csv",
    "tables/test_classes.csv",
    "figures/data_examples.png",
]


@pytest.mark.parametrize("name", FILES)
def test_what_is_gone_is_said(quiet: Path, name: str) -> None:
    (quiet / name).unlink(missing_ok=True)
    said = drawn(quiet).said
    if name in report.PARTS:
        assert report.PARTS[name] in said


@pytest.mark.parametrize("harm", ["empty", "noise", "cut"])
@pytest.mark.parametrize("name", [*FILES, "all"])
def test_no_damage_stops_the_page(quiet: Path, name: str, harm: str) -> None:
    for file in FILES if name == "all" else [name]:
        content = (quiet / file).read_bytes() if (quiet / file).exists() else b"{}"
        kept = {"empty": b"", "noise": b"\x00\xff{]\n", "cut": content[: len(content) // 2]}
        (quiet / file).write_bytes(kept[harm])
    said = drawn(quiet).said
    if harm == "noise" and name.endswith((".json", ".parquet")):
        assert f"{name} is damaged" in said


@pytest.mark.parametrize("value", [None, [], "x", 3, {"a": None}, [None]])
def test_values_of_a_wrong_kind_stop_nothing(quiet: Path, value: object) -> None:
    for name in ("summary.json", "env.json", "model.json", "data.json"):
        tree = json.loads((quiet / name).read_text())
        put(quiet, name, dict.fromkeys(tree, value))
    drawn(quiet)


def test_a_folder_with_a_recipe_alone(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: young\n")
    said = drawn(tmp_path).said
    assert "In an unknown state, no score is on record yet." in said
    assert "the summary (scores, timings, the chosen checkpoint)" in said


def test_no_run_no_page(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no run here"):
        report.write(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ({"status": "running", "scores": {}, "best": None}, "Still running at step 228, no score"),
        ({"status": "failed", "error": "loss is nan"}, "It ended with: loss is nan"),
        ({"status": "stopped"}, "Stopped at step 228 before its end: Accuracy"),
        ({"opened": {}}, "The test split was never opened."),
        ({"opened": {"test": 4}}, "The test split was opened 4 times:"),
        (
            {"scores": {"val/accuracy": 0.9}},
            "90.0 % on the validation split (95 % interval",
        ),
        ({"best": {}}, "none was chosen by a validation metric"),
        ({"notes": ["Batch norm is not synchronised."]}, "Batch norm is not synchronised."),
        ({"restarts": 2}, "2 restarts"),
        ({"restarts": [5, 9], "preemptions": [9]}, "1 restart, 1 preemption"),
    ],
)
def test_the_verdict_is_honest(quiet: Path, summary: dict, said: str) -> None:
    put(quiet, "summary.json", json.loads((quiet / "summary.json").read_text()) | summary)
    assert said in drawn(quiet).said


def test_a_dirty_checkout_is_said(quiet: Path) -> None:
    put(quiet, "env.json", json.loads((quiet / "env.json").read_text()) | {"dirty": True})
    assert "uncommitted changes" in drawn(quiet).said


def test_a_regression_has_no_interval(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: curve\n")
    summary = {
        "status": "finished",
        "scores": {"test/rmse": 0.0512, "test/r2": 0.98},
        "best": {"step": 90, "metric": "val/rmse", "score": 0.05},
        "opened": {"test": 1},
    }
    put(tmp_path, "summary.json", summary)
    put(
        tmp_path,
        "data.json",
        {"kind": "table", "rows": {"train": 200, "test": 50}, "classes": None},
    )
    said = drawn(tmp_path).said
    assert "Finished: RMSE 0.0512 on the test split. The checkpoint of step 90 was" in said
    assert "interval" not in said


def test_a_gan_has_pictures_and_no_test_score(finished: Path) -> None:
    figure = (finished / "figures" / "data_examples.png").read_bytes()
    (finished / "figures" / "val_samples.png").write_bytes(figure)
    for table in (finished / "tables").iterdir():
        table.unlink()
    summary = {"status": "finished", "scores": {"val/sliced_wasserstein": 1.7}, "best": None}
    put(finished, "summary.json", summary)
    page = drawn(finished)
    assert "Samples, val split" in page.said
    assert "Sliced wasserstein 1.7 on the validation split." in page.said
    assert page.tags.count("img") == 2


def test_a_remote_folder_is_read_and_written_as_a_local_one(finished: Path) -> None:
    url = f"memory://reports/{finished.name}"
    store.upload(finished, url)
    assert report.write(url) == f"{url}/report.html"
    page = Page(store.read_bytes(f"{url}/report.html").decode())
    assert "Finished: Accuracy" in page.said
    assert [run.name for run in results.runs("memory://reports")] == [finished.name]
