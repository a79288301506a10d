"""What a CLIP's tasks demand is refused at load, in one line, before there is a folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.commands import cli
from trainers import demands, rooms
from trainers.recipe import Recipe

RECIPES = rooms.ROOT / "recipes"
QUICK = ["scale.device=cpu", "scale.threads=1", "log.tensorboard=false", "--json"]


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty digits, each with a caption beside it."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits, words = (
        load_digits(),
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    )
    folder = tmp_path_factory.mktemp("captions")
    for number in range(60):
        pixels = (digits.images[number] * 255 / 16).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a photo of a {words[digits.target[number]]}")
    return folder


def refused(out: Path, recipe: str, *words: str) -> dict[str, str]:
    said = cli("train", RECIPES / recipe, *QUICK, *words, "--out", out)
    assert said.code == 2 and "Traceback" not in said.err and " steps -> " not in said.err
    assert not out.exists() or not any(out.iterdir()), "no run folder"
    found: dict[str, str] = json.loads(said.out)
    return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One step of the tiny CLIP: weights that are there."""
    out = tmp_path_factory.mktemp("clip")
    words = ["data.size=8", "model.layers=1", "phases.0.epochs=null", "phases.0.steps=1"]
    said = cli("train", RECIPES / "clip_digits.yaml", *QUICK, *words, "--out", out)
    assert said.code == 0, said.err
    return str(json.loads(said.out)["run"])


def of_captions(folder: Path, tokens: int) -> list[str]:
    source = f"data.source={{name: captions, path: {folder}, tokens: {tokens}}}"
    judged = ["evals={pairs: {name: caption_retrieval, on: val}}", "keep.metric=null"]
    size = ["data.batch=16", "data.size=8", "model.layers=1"]
    return ["phases.0.task={name: clip}", source, *judged, *size]


def test_captions_wider_than_the_context_are_refused(captions: Path, tmp_path: Path) -> None:
    found = refused(tmp_path / "runs", "clip_digits.yaml", *of_captions(captions, 77))
    assert (found["path"], found["value"]) == ("data.source.tokens", 77)
    assert "77 tokens" in found["error"] and "context is 32" in found["error"]
    assert found["remedy"] == "set data.source.tokens=32"


def test_what_a_task_refuses_is_named_where_it_stands(tmp_path: Path) -> None:
    found = refused(tmp_path / "runs", "clip_digits.yaml", "phases.0.task.names=[a, b]")
    assert found["path"] == "phases.0.task.names" and "2 names for 10 classes" in found["error"]


def test_captions_narrower_than_the_context_are_the_same(captions: Path, tmp_path: Path) -> None:
    losses: list[list[float]] = []
    for tokens in (32, 12):
        out = tmp_path / str(tokens)
        words = [*of_captions(captions, tokens), "phases.0.epochs=null", "phases.0.steps=2"]
        said = cli("train", RECIPES / "clip_digits.yaml", *QUICK, *words, "--out", out)
        assert said.code == 0, said.err
        (folder,) = out.iterdir()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if line["split"] == "train"])
    assert losses[0] and losses[0] == pytest.approx(losses[1], rel=1e-5)


SHOTS, PLACES = "data.subset.shots", "phases.0.task.shots"
TIP = ["data.size=8", "model.layers=1", "phases.0.task.alphas=[1]", "phases.0.task.betas=[1]"]


@pytest.mark.parametrize(
    ("words", "path", "value", "error"),
    [
        ([f"{SHOTS}=1", f"{PLACES}=4"], PLACES, 4, "to hold 4 pictures of each class, and no class"),
        ([f"{SHOTS}=5", f"{PLACES}=4"], SHOTS, 5, "has 5 pictures to learn from, the cache holds 4"),
        ([f"{SHOTS}=1", "phases.0.task.betas=[1,2,3]", "phases.0.epochs=2"],
         "phases.0.epochs", 2, "3 pairs of alpha and beta .* 2 epochs"),
    ],
)  # fmt: skip
def test_a_cache_gets_what_it_was_asked_to_hold(
    clip: str, tmp_path: Path, words: list[str], path: str, value: int, error: str
) -> None:
    begun = f"phases.0.init={clip}"
    found = refused(tmp_path / "runs", "tip_adapter_digits.yaml", begun, *TIP, *words)
    assert (found["path"], found["value"]) == (path, value)
    assert re.search(error, found["error"])


def test_what_is_asked_for_is_taken(clip: str, tmp_path: Path) -> None:
    words = [
        *TIP,
        f"phases.0.init={clip}",
        f"{SHOTS}=2",
        f"{PLACES}=2",
        "phases.0.epochs=1",
        "--out",
        str(tmp_path),
    ]
    said = cli("train", RECIPES / "tip_adapter_digits.yaml", *QUICK, *words)
    assert said.code == 0, said.err


@pytest.mark.parametrize("task", ["clip_labels", "clip"])
def test_a_batch_of_one_has_nothing_to_tell_apart(
    captions: Path, tmp_path: Path, task: str
) -> None:
    words = of_captions(captions, 32) if task == "clip" else ["data.size=8", "model.layers=1"]
    found = refused(tmp_path / "runs", "clip_digits.yaml", *words, "data.batch=1")
    assert (found["path"], found["value"]) == ("data.batch", 1)
    assert f"task '{task}' sets a picture beside the others" in found["error"]
    rows = {"clip": 42, "clip_labels": 1259}[task]  # to learn from
    tail = ["data.tail=keep", f"data.batch={rows - 1}"]
    found = refused(tmp_path / "runs", "clip_digits.yaml", *words, *tail)
    assert found["path"] == "data.tail" and f"one picture of {rows:,}" in found["error"]


@pytest.mark.parametrize("task", ["coop", "clip_labels", "zero_shot", "tip_adapter", "clip_linear"])
def test_two_classes_of_one_name_are_refused_with_both_labels(
    clip: str, tmp_path: Path, task: str
) -> None:
    names = "[zero, one, two, One, four, five, six, seven, eight, nine]"
    words = ["data.size=8", "model.layers=1", f"phases.0.task={{name: {task}, names: {names}}}"]
    words.append(f"phases.0.init={clip}")
    if task == "tip_adapter":
        words.append("data.subset.shots=16")
    found = refused(tmp_path / "runs", "clip_digits.yaml", *words)
    assert (found["path"], found["value"]) == ("phases.0.task.names", "One")
    assert "classes '1' and '3' are both called 'One'" in found["error"]


@pytest.mark.parametrize("task", ["coop", "tip_adapter", "clip_linear", "zero_shot"])
def test_beside_random_weights_nothing_is_learnt(clip: str, tmp_path: Path, task: str) -> None:
    words = ["data.size=8", "model.layers=1", f"phases.0.task={task}", "phases.0.steps=1"]
    found = refused(tmp_path / "runs", "coop_digits.yaml", *words)
    assert found["path"] == "phases.0.init" and "weights are random" in found["error"]
    assert f"'{task}'" in found["error"] and "model.pretrained" in found["remedy"]
    recipe = Recipe.load(str(RECIPES / "coop_digits.yaml"), words)
    demands.check_begun(recipe.override({"model.pretrained": clip}))
    demands.check_begun(recipe.override({"phases.0.init": clip}))
    first = Recipe.load(str(RECIPES / "clip_digits.yaml")).plain()["phases"][0]
    demands.check_begun(recipe.override({"phases": [first, recipe.plain()["phases"][0]]}))
