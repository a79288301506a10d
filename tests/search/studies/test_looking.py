"""What `table`, `status` and `diff` show of a folder: what the given file and its words ask for, of the runs that are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from search.studies import drive
from search.studies.amounts import spread
from search.studies.folder import Folder
from search.studies.study import Study
from tests.commands import cli

LR = "phases.0.optim.main.lr"
Write = Callable[..., Path]


def cells(*words: object) -> dict[str, list[str]]:
    """Arm -> the states of its cells."""
    found: dict[str, list[str]] = {}
    for each in json.loads(cli("study", *words, "status", "--json").out)["cells"]:
        found.setdefault(each["arm"], []).append(each["state"])
    return found


def test_a_look_shows_what_is_asked_and_not_what_ran(written: Write, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    drive.run(Study.load(str(written())), out=str(out))
    asked = [written(), "--out", out]
    assert cells(*asked) == {"lr 0.1": ["finished"] * 2, "lr 0.02": ["finished"] * 2}
    by_loss = cli("study", *asked, "table", "metric=val/loss")
    assert "val/loss, mean" in by_loss.out, by_loss.err
    assert "has no score 'val/los'" in cli("study", *asked, "table", "metric=val/los").err
    for place in (asked, [out / "small"]):
        fewer = cli("study", *place, "table", "seeds=1").out
        assert "(1 seed)" in fewer and "Left out: seed 1, of which 2 runs" in fewer
    assert cells(*asked, "seeds=3")["lr 0.1"] == ["finished", "finished", "missing"]
    assert "incomplete: 4 of 6 runs" in cli("study", *asked, "status", "seeds=3").out
    wider = cells(*asked, f"factors.{LR}=[0.1, 0.3]")
    assert wider == {"lr 0.1": ["finished"] * 2, "lr 0.3": ["missing"] * 2}
    assert Folder.open(str(out / "small")).study.run_seeds == [0, 1], "a look changes nothing"


def test_runs_of_other_recipes_are_not_shown_as_those_of_the_file(
    written: Write, base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    drive.run(Study.load(str(written(seeds=1))), out=str(out))
    longer = cli("study", written(seeds=1), "table", "set.phases.0.epochs=4", "--out", out)
    assert "Of lr 0.1, lr 0.02 other recipes have run than the study now asks for" in longer.out
    assert str(out / "small") in longer.out and "No run counts yet." in longer.out
    base.write_text(base.read_text().replace("epochs: 3", "epochs: 5"))
    edited = cells(written(seeds=1), "--out", out)
    assert edited == {"lr 0.1": ["missing"], "lr 0.02": ["missing"]}
    assert cells(out / "small") == {"lr 0.1": ["finished"], "lr 0.02": ["finished"]}
    other = cli("study", written(question="Does momentum help?"), "table", "--out", out)
    assert other.code == 2 and "the folder holds another study" in other.err
    assert other.err.count("\n") == 1 and not other.out


def test_a_broken_file_of_the_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "small" / "study.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("name: [")
    said = cli("study", file.parent, "table")
    assert said.code == 2 and said.err.startswith(f"error: {file}: not readable as YAML")


def test_one_point_is_one() -> None:
    assert [spread("val/accuracy", x) for x in (0.01, 0.02, 0.015)] == [
        *("1 point", "2 points", "1.5 points")
    ]
