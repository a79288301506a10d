"""`launch.py data ...`: what it prints, what it leaves behind, and when it exits with 2."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

import launch
from datasets import pack, shards
from tests.commands import cli
from tests.datasets.test_raw import folder, small
from verbs.data import data


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "digits"
    pack.pack("digits", {}, str(folder), splits={"val": 0.15, "test": 0.15}, seed=0)
    return folder


@pytest.fixture(scope="module")
def leaking(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits whose first five rows of train are in test too, by other ids."""
    columns = {s: dict(shards.open_dataset(str(digits)).columns(s)) for s in ("train", "test")}
    for name, values in columns["test"].items():
        new = columns["train"][name][:5] + (10_000 if name == "id" else 0)
        columns["test"][name] = np.concatenate([values, new])
    folder = tmp_path_factory.mktemp("leaking") / "digits"
    shards.write(
        str(folder),
        columns,
        name="digits",
        kind="image",
        shape=(8, 8, 1),
        classes=tuple("0123456789"),
        packed={},
    )
    return folder


def test_help_of_a_data_verb_has_an_example_that_parses() -> None:
    for verb in data.registered_commands:
        said = cli("data", str(verb.name), "--help")
        assert said.code == 0
        example = re.search(r"Example: python launch\.py (.*)$", " ".join(said.out.split()))
        assert example
        words = shlex.split(example[1], comments=True)
        assert words[:2] == ["data", verb.name]
        group = get_command(launch.app).commands["data"]  # type: ignore[attr-defined]
        group.commands[verb.name].make_context(verb.name, words[2:])


def test_what_an_option_cannot_change_is_said(tmp_path: Path) -> None:
    said = cli("pack", "digits", tmp_path / "digits", "--no-raw")
    assert said.code == 0
    assert "'digits' has pixels in memory, not files: --no-raw changes nothing" in said.err


def test_a_clean_set_ends_with_the_path_of_its_card(digits: Path, tmp_path: Path) -> None:
    said = cli("data", "card", digits, "--out", tmp_path / "card")
    assert said.code == 0
    verdict, path = said.out.splitlines()
    assert verdict.startswith("No picture is in two splits.")
    assert path == str(tmp_path / "card" / "card.html") and Path(path).exists()
    assert "1,797 of 1,797 pictures" in said.err
    assert sorted(p.name for p in (tmp_path / "card").iterdir()) == ["card.html", "card.json"]


def test_without_a_folder_it_lies_beside_the_manifest(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, copy := tmp_path / "digits")
    told = json.loads(cli("data", "card", copy, "--json").out)
    assert told["page"] == str(copy / "card.html")
    assert told["name"] == "digits" and told["duplicates"]["leaks"] == []
    assert {key: told[key] for key in told if key != "page"} == json.loads(
        (copy / "card.json").read_text()
    )
    assert cli("data", "card", copy).code == 0, "again"


def test_a_leak_is_one_line_and_two_unless_it_is_allowed(leaking: Path, tmp_path: Path) -> None:
    words = ["data", "card", leaking, "--out", tmp_path]
    said = cli(*words)
    assert said.code == 2 and said.out == "" and (tmp_path / "card.html").exists()
    (line,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert "5 of test's 275 rows (1.8%) are in train too, pixel for pixel" in line
    assert str(tmp_path / "card.html") in line and "--allow-leaks" in line
    assert "Traceback" not in said.err
    told = json.loads(cli(*words, "--json").out)
    assert set(told) == {"error", "path", "value", "remedy"}
    assert told["value"] == [{"split": "test", "in": "train", "exact": 5, "near": 0, "rows": 275}]
    said = cli(*words, "--allow-leaks")
    assert said.code == 0 and said.out.splitlines()[0].startswith("Leak: 5 of test's")
    assert said.out.splitlines()[-1] == str(tmp_path / "card.html")


def test_mistakes_are_one_line(digits: Path, tmp_path: Path) -> None:
    for words in (["card", tmp_path], ["card", digits, "--near", 40, "--out", tmp_path / "x"]):
        said = cli("data", *words)
        assert said.code == 2 and "Traceback" not in said.err
        assert sum(line.startswith("error: ") for line in said.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
    shutil.copytree(digits, copy := tmp_path / "digits")
    shard = next(copy.glob("train-*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    assert str(shard) in cli("data", "card", copy).err
    assert not (copy / "card.html").exists()


def test_arguments_of_a_source_go_behind_the_place(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", [small(n) for n in range(20)])
    names = sorted(path.relative_to(tmp_path) for path in root.rglob("*.jpg"))
    rows = [f"{name},{name.parent.name}" for name in names]
    (tmp_path / "list.csv").write_text("\n".join(["file,kind", *rows]))
    source = f"listed:{tmp_path}/list.csv"
    said = cli("pack", source, tmp_path / "set", "image=file", "label=kind", "--json")
    assert sum(json.loads(said.out)["rows"].values()) == 20, said.err
    for words, told in (
        ((), "say which with image=NAME behind `pack SOURCE URL`"),
        (("image=file", "lable=kind"), "source.lable: unknown key 'lable' -- did you mean 'label'"),
        (("image",), "is not dotted.path=value"),
        (("name=digits",), "the source is named already"),
    ):
        said = cli("pack", source, tmp_path / "other", *words)
        assert (said.code, said.err.count("\n")) == (2, 1) and told in said.err, said.err
