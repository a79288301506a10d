"""A finished study, again: known to be whole without the library that trained it, and never where anything has changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.refusal import Refusal
from search.studies import drive, ended
from search.studies.study import Study
from tests.commands import cli
from trainers.rooms import ROOT

Write = Callable[..., Path]
AGAIN = """
import sys
sys.argv = ["launch.py", "study", *sys.argv[1:]]
import launch
try:
    launch.app()
finally:
    print([name for name in ("torch", "ray", "matplotlib") if name in sys.modules], file=sys.stderr)
"""


def again(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AGAIN, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)


def test_a_finished_study_is_drawn_without_torch(written: Write, tmp_path: Path) -> None:
    path, out = written(seeds=1), tmp_path / "runs"
    first = cli("study", path, "--out", out)
    state = (out / "small" / "study.json").read_bytes()
    for place in ([path, "--out", out], [out / "small"]):
        told = again(*place)
        assert told.returncode == 0 and told.stdout.splitlines()[-1] == first.out.splitlines()[-1]
        assert "has the best mean" in told.stdout and "lr 0.02" in told.stdout
        assert told.stderr == "[]\n"
    assert (out / "small" / "study.json").read_bytes() == state


def test_a_mistake_in_an_arm_is_refused_without_torch(written: Write, tmp_path: Path) -> None:
    refused = again(written(), "factors.model.widht=[8, 16]", "--out", tmp_path)
    assert refused.returncode == 2 and "widht" in refused.stderr
    assert refused.stderr.endswith("\n[]\n")


def test_what_may_have_changed_is_looked_at_whole(
    written: Write, base: Path, tmp_path: Path
) -> None:
    path, out = written(seeds=1), str(tmp_path / "runs")
    folder = drive.run(Study.load(str(path)), out=out)

    def found(*words: str) -> object:
        return ended.whole(Study.load(str(path), words), out)

    assert found() == folder
    for words in (
        ["seeds=2"],
        ["set.phases.0.epochs=4"],
        ["ceiling=0.5"],
        ["scale=null", "name=x"],
    ):
        assert found(*words) is None, words
    entries = folder.entries
    folder.write_entries([*entries[:1], *(_of_other_data(each) for each in folder.entries[1:])])
    assert found() is None, "of other data"
    folder.write_entries(entries)
    said = base.read_text()
    base.write_text(said.replace("epochs: 3", "epochs: 5"))
    assert found() is None, "the recipe is another one"
    base.write_text(said)
    assert found() == folder
    shutil.rmtree(folder.run_url(entries[0]))
    assert found() is None, "a run is gone"
    with pytest.raises(Refusal, match="widht"):
        found("factors.model.widht=[8, 16]")


def _of_other_data(entry: drive.Entry) -> drive.Entry:
    entry.digest = "0" * 16
    return entry
