"""`results` of a search: a table for any width, files that keep what they were given, the winner as a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from search.trials import listing
from tests.commands import Said, cli
from tests.search.trials.conftest import Make
from tests.search.trials.searched import BATCH, LR, MOMENTUM, NAME, Searched, row
from trainers.recipe import Recipe

CLIP, MODEL = "phases.0.optim.main.clip", "model"


@pytest.fixture
def mixed(make: Make) -> Searched:
    """Values of every kind, some of them not there."""
    space = {
        MODEL: "choice({name: small_cnn, width: 8}, resnet20)",
        CLIP: "choice(null, 0.5)",
        "scale.sync_bn": "choice(true, false)",
        "data.splits.seed": "choice(0, 1)",
        LR: "loguniform(1e-6, 1)",
        MOMENTUM: "uniform(0.5, 0.99) if scale.sync_bn == true",
    }
    search = make(space=space)
    small = {"name": "small_cnn", "width": 8}
    point: dict[str, Any] = {CLIP: None, "data.splits.seed": 1, LR: 1.23456789012345e-6}
    search.ended(
        0.875, point={MODEL: small, "scale.sync_bn": True, MOMENTUM: 1 / 1.7, **point}, seconds=2.5
    )
    search.ended(0.9, point={**point, MODEL: "resnet20", "scale.sync_bn": False, CLIP: 0.5})
    search.failed("it burnt,\nit \"fell\"")  # fmt: skip
    return search


def one_line(said: Said) -> str:
    assert said.code == 2 and said.out == "", said
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("width", [80, 150])
def test_the_table_fits_the_line(
    seen: Searched, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = cli("results", seen.folder.url)
    assert said.code == 0, said.err
    table, words = said.out.split("\n\n", 1)
    assert all(len(line) <= width for line in table.splitlines())
    first = next(n for n, line in enumerate(table.splitlines()) if line.startswith("trial"))
    heading = ["trial", "state", "accuracy" if first else "val/accuracy"]  # below its split
    assert table.splitlines()[first].split()[:3] == heading
    numbers = [line.split()[0] for line in table.splitlines()[first + 1 : first + 9]]
    assert numbers == ["0001", "0003", "0000", "0002", "0004", "0005", "0006", "0007"]
    assert ("left out for want of width:" in table) is (width == 80) and "optim.name" in table
    assert words.startswith("Trial 0001 is the best: validation accuracy 95.0 %")


def test_every_value_is_said_as_a_recipe_has_it(
    mixed: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = cli("results", mixed.folder.url).out
    assert '{"name": "small_cnn", "width": 8}' in out and "null" in out and "false" in out
    assert "None" not in out and "nan" not in out and "False" not in out


def test_json_is_one_object(mixed: Searched) -> None:
    said = cli("results", mixed.folder.url, "--json")
    tree = json.loads(said.out)
    assert (tree["search"], tree["status"]) == (mixed.folder.url, "running")
    assert [each["trial"] for each in tree["trials"]] == [1, 0, 2]
    assert tree["trials"][1][LR] == 1.23456789012345e-6 and tree["trials"][1][MOMENTUM] == 1 / 1.7
    assert tree["trials"][1][MODEL] == {"name": "small_cnn", "width": 8}
    assert tree["trials"][0][MOMENTUM] is None and tree["trials"][2]["val/accuracy"] is None
    assert tree["trials"][0]["scale.sync_bn"] is False
    assert tree["said"][0].startswith("Trial 0001 is the best")


def test_nothing_yet_is_no_mistake(make: Make) -> None:
    search = make()
    assert json.loads(cli("results", search.folder.url, "--json").out)["trials"] == []
    said = cli("results", search.folder.url)
    assert said.code == 0 and "no trial was begun" in said.out


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_a_saved_table_is_what_was_found(mixed: Searched, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "new" / f"trials.{kind}"
    said = cli("results", mixed.folder.url, "--save", path)
    assert (said.code, said.out.strip()) == (0, str(path)), said.err
    frame = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json}[kind](path)
    if "trial" in frame:
        frame = frame.set_index("trial")
    assert [*frame.index] == [1, 0, 2]
    assert frame.at[0, LR] == pytest.approx(1.23456789012345e-6, rel=1e-15)
    assert frame.at[0, MOMENTUM] == pytest.approx(1 / 1.7, rel=1e-15)
    assert pd.isna(frame.at[1, MOMENTUM]) and pd.isna(frame.at[2, "val/accuracy"])
    assert pd.isna(frame.at[0, CLIP]) and frame.at[1, CLIP] == 0.5
    assert frame.at[1, "scale.sync_bn"] in (False, 0.0)
    assert frame.at[0, "data.splits.seed"] == 1 and frame.at[0, "seconds"] == 2.5
    assert frame.at[2, "why"] == 'it burnt,\nit "fell"' and pd.isna(frame.at[0, "why"])
    model = frame.at[0, MODEL]
    assert (model if kind == "json" else json.loads(model)) == {"name": "small_cnn", "width": 8}
    assert frame.at[1, MODEL] == "resnet20"
    assert "nan" not in frame[MODEL].tolist()


def test_a_part_that_is_not_there_is_no_text(make: Make, tmp_path: Path) -> None:
    search = make(space={NAME: "choice(sgd, adamw)", MODEL: f"choice({{name: small_cnn}}, resnet20) if {NAME} == sgd"})  # fmt: skip
    search.ended(0.9, point={NAME: "sgd", MODEL: {"name": "small_cnn"}})
    search.ended(0.8, point={NAME: "sgd", MODEL: "resnet20"})
    search.ended(0.7, point={NAME: "adamw"})
    listing.save(search.read(), f"{tmp_path}/trials.parquet")
    saved = pd.read_parquet(f"{tmp_path}/trials.parquet")[MODEL]
    assert saved.isna().tolist() == [False, False, True]


def test_the_best_is_a_recipe_that_trains(make: Make, tmp_path: Path) -> None:
    search = make()
    sgd = {NAME: "sgd", MOMENTUM: 0.8, BATCH: 32}
    search.ended(0.5, point={**sgd, LR: 1e-4}, hits=row(0.5))
    search.ended(0.9, point={**sgd, LR: 0.05}, hits=row(0.9))
    search.folder.amend(best={"trial": 0})  # of an earlier end: it has gone on since
    path = tmp_path / "winner.yaml"
    said = cli("results", search.folder.url, "--best", path)
    assert said.code == 0 and said.out.strip() == str(path), said.err
    text = path.read_text()
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert head[0].startswith(f"# The winner of {search.folder.name}: trial 0001, chosen on the")
    assert "McNemar" in " ".join(head) and all(len(line) <= 120 for line in head)
    recipe = Recipe.load(str(path))
    main = recipe.phases[0].optim["main"]
    assert recipe.search is None and (main.lr, recipe.data.batch) == (0.05, 32)
    assert yaml.safe_load(text)["keep"] == {**yaml.safe_load(text)["keep"], "mode": "max"}
    trained = cli("train", path, "phases.0.epochs=1", "scale.threads=1", "--out", tmp_path / "runs", "--quiet")  # fmt: skip
    assert trained.code == 0, trained.err


def test_both_can_be_written_at_once(seen: Searched, tmp_path: Path) -> None:
    words = ("--save", tmp_path / "t.csv", "--best", tmp_path / "w.yaml")
    said = cli("results", seen.folder.url, *words)
    assert said.out.split() == [str(tmp_path / "t.csv"), str(tmp_path / "w.yaml")]
    assert json.loads(cli("results", seen.folder.url, *words, "--json").out)["trials"]


def test_mistakes_are_told_in_a_line(make: Make, tmp_path: Path) -> None:
    search = make()
    search.pruned([0.5])
    url = search.folder.url
    assert "no trial has run to its end" in one_line(cli("results", url, "--best", tmp_path / "w"))
    assert not (tmp_path / "w").exists()
    assert ".csv, .parquet, .json" in one_line(cli("results", url, "--save", tmp_path / "t.xlsx"))
    assert ".csv" in one_line(cli("results", url, "--save", tmp_path / "csv"))
    for option, value in (("--sort", "x"), ("--since", "7d"), ("--where", "a=b"), ("--out", "x")):
        assert f"{option}: goes not with a search" in one_line(cli("results", url, option, value))
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("name: x\n")
    assert "--save: the curves of runs are a picture" in one_line(
        cli("results", run, "--save", "t.csv")
    )
    assert "--best: is of a search" in one_line(cli("results", "--best", "w.yaml"))
    Path(url, "search.journal").unlink()
    assert "no records yet" in one_line(cli("results", url))
    assert "no records yet" in one_line(cli("report", url))
    Path(url, "search.yaml").write_text("name: [")
    assert "YAML" in one_line(cli("results", url))
