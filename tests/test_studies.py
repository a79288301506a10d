"""Every shipped study is a lab note, is guarded, and its arms run two steps of each phase to a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datasets.sources.fashion_mnist import INSTALLED
from search.studies import drive, table
from search.studies.study import Study
from tests.commands import cli
from trainers.rooms import ROOT

STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
# Their test splits cost minutes on a CPU.
SLOW = {"fashion_pretrained"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_says_what_it_asks(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    schema, what, *_ = text.splitlines()
    assert schema == "# yaml-language-server: $schema=../docs/study.schema.json"
    assert what.startswith("# ") and f"python launch.py study studies/{path.name}" in text
    study = Study.load(str(path))
    assert study.name == path.stem and study.rows and study.question.endswith("?")
    assert len(study.run_seeds) >= 3, "fewer seeds tell next to nothing"
    for claim in study.claims:
        assert len(claim.source) > 8


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow if p.stem in SLOW else ()) for p in STUDIES],
    ids=lambda path: path.stem,
)
def test_a_study_runs_two_steps_of_each_arm(path: Path, tmp_path: Path) -> None:
    if path.stem.startswith("fashion") and not Path(INSTALLED).exists():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    short = ["set.phases.0.epochs=null", "set.phases.0.steps=2", "set.log.tensorboard=false"]
    study = Study.load(str(path), [*short, "set.scale.device=cpu", "seeds=1", "parallel=1"])
    folder = drive.run(study, out=str(tmp_path))
    assert folder.state["status"] == "finished"
    found = table.read(folder)
    assert all(row.results[0].entry.status == "finished" for row in found.rows)
    assert len(found.claims) == len(study.claims)


def test_studies_are_listed_with_their_rows() -> None:
    listed = json.loads(cli("list", "studies", "--json").out)
    assert [each["name"] for each in listed] == [path.stem for path in STUDIES]
    assert all(each["rows"] and each["doc"].endswith("?") for each in listed)
    everything = json.loads(cli("list", "--json").out)
    assert {"recipes", "studies", "models"} <= {each["kind"] for each in everything}
    schema = json.loads(cli("list", "studies", "--schema").out)
    assert schema == json.loads((ROOT / "docs" / "study.schema.json").read_text())
