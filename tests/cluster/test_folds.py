"""Folds and leaks from the command line: packed once, trained on any fold; what leaks is refused before it is paid for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cluster.run import Run
from datasets import shards
from search.ledger import prove
from tests.cluster.conftest import DIGITS, SMALL
from tests.commands import Said, cli
from tests.datasets.photographs import encoded

SHORT = [*SMALL, "phases.0.epochs=null", "phases.0.steps=4", "data.ledger=true", "--quiet"]
FOLDED = ["data.splits.folds=4", "data.splits.test=0.1"]


def train(out: Path, *words: str) -> Run:
    before = set(out.iterdir()) if out.exists() else set()
    said = cli("train", DIGITS, *SHORT, *words, "--out", out)
    assert said.code == 0, said.err
    (folder,) = set(out.iterdir()) - before
    return Run.open(str(folder))


def test_each_fold_is_a_run_of_its_own_on_one_packed_set(
    tmp_path: Path, session_cache: Path
) -> None:
    before = set((session_cache / "packed").glob("digits-*"))
    runs = [train(tmp_path, *FOLDED, f"data.fold={fold}") for fold in (0, 3)]
    assert len(set((session_cache / "packed").glob("digits-*")) - before) == 1, "packed once"
    judged = []
    for run, fold in zip(runs, (0, 3), strict=True):
        assert prove(run).holds
        data = run.json("data.json")
        assert data["packed"]["fold"] == fold
        assert data["rows"].keys() == {"train", "val", "test"}
        table = pd.read_parquet(f"{run.url}/predictions.parquet")
        judged.append(set(table.query("split == 'val'")["id"]))
        said = cli("evaluate", run.url, "--on", "val", "--json")
        assert said.code == 0, said.err
    assert judged[0] and not judged[0] & judged[1]
    tests = [pd.read_parquet(f"{r.url}/predictions.parquet").query("split == 'test'") for r in runs]
    assert set(tests[0]["id"]) == set(tests[1]["id"])


def test_a_set_in_folds_asks_for_one(tmp_path: Path) -> None:
    url, out = tmp_path / "set", tmp_path / "out"
    said = cli("pack", "digits", url, "--folds", 3, "--test", 0.1, "--json")
    assert said.code == 0, said.err
    rows = json.loads(said.out)["rows"]
    assert rows.keys() == {"test", "fold-0", "fold-1", "fold-2"} and sum(rows.values()) == 1797
    words = [*SHORT, "data.source=null", f"data.url={url}", "--out", out]
    for more, part in (([], "3 folds, 0 .. 2"), (["data.fold=3"], "no fold 3")):
        refused = cli("train", DIGITS, *words, *more)
        assert refused.code == 2 and part in refused.err and "data.fold" in refused.err
    assert not out.exists()
    early = cli("train", DIGITS, *SHORT, *FOLDED, "data.fold=4", "--out", out)
    assert early.code == 2 and "fold 4 is none of splits.folds=4" in early.err


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs with official splits; two of train are in test by other names."""
    root = tmp_path_factory.mktemp("photographs")
    for row in range(90):
        split = "train" if row < 60 else "val" if row < 75 else "test"
        place = root / split / ("down", "right")[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row}.img.jpg").write_bytes(encoded(row % 60 if row >= 88 else row))
    return root


def packed(leaking: Path, url: Path, *words: object) -> Said:
    said = cli("pack", f"imagefolder:{leaking}", url, "--val", 0, "--test", 0, *words)
    assert said.code == 0, said.err
    return said


def test_leaks_are_told_when_packing_and_refused_when_training(
    leaking: Path, tmp_path: Path
) -> None:
    url, out = tmp_path / "set", tmp_path / "out"
    said = packed(leaking, url, "--no-tile")
    assert "warning: 2 of test's rows are pictures of train" in said.err
    size = ["data.size=16", "model={name: small_cnn, width: 8}", "data.batch=16"]
    words = [*SHORT, *size, "data.source=null", f"data.url={url}", "--out", out]
    recipe = DIGITS.replace("digits.yaml", "images.yaml")
    refused = cli("train", recipe, *words)
    assert refused.code == 2 and not out.exists()
    assert "2 of test's rows are pictures of train" in refused.err
    assert "data.allow_leaks=[train/test]" in refused.err and refused.err.count("\n") == 1
    doctor = cli("doctor", recipe, *words[:-2][len(SHORT) :], "--out", tmp_path / "probe")
    assert "share pictures" in doctor.out
    allowed = cli("train", recipe, *words, "data.allow_leaks=[train/test]")
    assert allowed.code == 0, allowed.err
    (folder,) = out.iterdir()
    notes = Run.open(str(folder)).summary["notes"]
    assert any("data.allow_leaks allows: 2 of test's rows" in note for note in notes)


def test_raw_folds_with_altered_copies_train(leaking: Path, tmp_path: Path) -> None:
    url = tmp_path / "set"
    packed(leaking, url, "--raw", 16, "--folds", 3, "--extra", "mirror", "--extra", "rotate:30")
    dataset = shards.open_fold(str(url), 1)
    val, train_ = dataset.columns("val"), dataset.columns("train")
    assert len(val["id"]) == 25 and len(train_["id"]) == 150
    assert not np.isin(train_["origin"], val["id"]).any()
    words = ["data.source=null", f"data.url={url}", "data.fold=1", "data.batch=16"]
    allowed = ["data.allow_leaks=[train/test, val/test]"]
    run = train(tmp_path / "out", *words, *allowed)
    assert prove(run).holds
