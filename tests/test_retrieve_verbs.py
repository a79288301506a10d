"""`launch.py retrieve ...`: what it prints, what it leaves behind, and when it exits with 2."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

import launch
from tests.commands import cli
from verbs.retrieve import retrieve


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits' test split by a random network: what is printed does not hang on how good it is."""
    folder = tmp_path_factory.mktemp("index") / "digits"
    said = cli("retrieve", "index", "small_cnn", "digits", "--on", "test", "--out", folder)
    assert said.code == 0, said.err
    assert said.out.splitlines() == ["270 pictures, 64 features each, cosine", str(folder)]
    assert "note: the weights of small_cnn are random" in said.err
    assert "index digits: 270 of 270 pictures" in said.err
    assert [path.name for path in folder.iterdir()] == ["index.arrow"]
    return folder


def test_help_of_a_retrieve_verb_has_an_example_that_parses() -> None:
    for verb in retrieve.registered_commands:
        said = cli("retrieve", str(verb.name), "--help")
        assert said.code == 0
        example = re.search(r"Example: python launch\.py (.*)$", " ".join(said.out.split()))
        assert example
        words = shlex.split(example[1])
        assert words[:2] == ["retrieve", verb.name]
        group = get_command(launch.app).commands["retrieve"]  # type: ignore[attr-defined]
        group.commands[verb.name].make_context(verb.name, words[2:])


def test_the_same_again_is_there_already(index: Path) -> None:
    before = (index / "index.arrow").stat().st_mtime_ns
    said = cli("retrieve", "index", "small_cnn", "digits", "--on", "test", "--out", index)
    assert said.out.splitlines()[0] == "270 pictures, 64 features each, cosine (there already)"
    assert (index / "index.arrow").stat().st_mtime_ns == before


def test_json_says_how_it_was_made(index: Path) -> None:
    words = ("retrieve", "index", "small_cnn", "digits", "--on", "test", "--out", index, "--json")
    told = json.loads(cli(*words).out)
    assert (told["index"], told["rows"], told["features"]) == (str(index), 270, 64)
    assert told["recipe"]["model"]["name"] == "small_cnn" and told["metric"] == "cosine"
    assert told["data"]["rows"] == {"test": 270} and len(told["data"]["digest"]) == 64
    assert len(told["weights"]["digest"]) == 64


def test_query_prints_a_table_and_draws_a_sheet(index: Path, tmp_path: Path) -> None:
    picture, sheet = tmp_path / "q.png", tmp_path / "sheet.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(picture)
    said = cli("retrieve", "query", index, picture, "--k", 3, "--out", sheet)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == f"{picture}, by cosine distance"
    assert lines[1].split() == ["id", "split", "class", "distance"]
    assert [line.split()[0] for line in lines[2:5]] == ["1", "2", "3"]
    assert lines[-1] == str(sheet)
    drawn = np.asarray(Image.open(io.BytesIO(sheet.read_bytes())))
    assert drawn.shape[1] > 2 * drawn.shape[0]  # one line of four pictures
    told = json.loads(cli("retrieve", "query", index, picture, "--k", 3, "--json").out)
    (answer,) = told["answers"]
    assert answer["image"] == str(picture) and not answer["itself"]
    assert [row["rank"] for row in answer["results"]] == [1, 2, 3]
    assert set(answer["results"][0]) == {"rank", "id", "split", "label", "class", "distance"}


def test_query_by_id(index: Path) -> None:
    rows = json.loads(cli("retrieve", "query", index, "--id", 314, "--k", 269, "--json").out)
    found = [row["id"] for row in rows["answers"][0]["results"]]
    assert len(set(found)) == 269 and 314 not in found


def test_score_prints_scores_with_their_doubt(index: Path) -> None:
    said = cli("retrieve", "score", index, "--k", "1,5")
    assert said.code == 0, said.err
    assert said.out.splitlines()[0] == "270 queries against 270 pictures"
    for name in ("precision@1", "precision@5", "recall@5", "hit@5", "map"):
        assert re.search(rf"^{name} +0\.\d{{4}} +± 0\.\d{{4}}$", said.out, re.MULTILINE), said.out
    assert "Precision of a random order: 0.09" in said.out and "By class" in said.out
    told = json.loads(cli("retrieve", "score", index, "--k", "1,5", "--json").out)
    assert told["queries"] == 270 and len(told["classes"]) == 10
    assert told["scores"]["precision@5"] > told["chance"]


@pytest.mark.parametrize(
    ("words", "path", "hint"),
    [
        (["score", "{tmp}"], "{tmp}", "no index here"),
        (["score", "{index}", "--k", "1,x"], "--k", "write --k 1,5,10"),
        (["score", "{index}", "--k", "270"], "--k", "from 1 to 269"),
        (["score", "{index}", "--queries", "train"], "--queries", "has no split 'train'"),
        (["query", "{index}"], "IMAGE", "nothing is asked for"),
        (["query", "{index}", "{tmp}/absent.png"], "{tmp}/absent.png", "absent.png"),
        (["query", "{index}", "{tmp}/broken.png"], "{tmp}/broken.png", "not readable"),
        (["query", "{index}", "{tmp}/good.png", "--k", "271"], "--k", "has 270 pictures"),
        (["query", "{index}", "--id", "5000"], "--id", "has this id"),
        (["index", "small_cnn", "digits", "--metric", "l1"], "--metric", "none of cosine, l2"),
        (["index", "small_cnn", "digits", "--workers", "0"], "--workers", "use 1 or more"),
        (["index", "small_cnn", "digits", "--approximate", "lsh"], "--approximate", "ivf, hnsw"),
        (["index", "small_cn", "digits"], "model", "small_cnn"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(
    words: list[str], path: str, hint: str, index: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    known = {"tmp": tmp_path, "index": index}
    said = cli("retrieve", *(word.format(**known) for word in words), "--json")
    assert said.code == 2 and "Traceback" not in said.err
    (line,) = said.err.splitlines()
    assert line.startswith("error: ") and hint in line and path.format(**known) in line
    assert set(json.loads(said.out)) == {"error", "path", "value", "remedy"}
