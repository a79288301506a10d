"""A tiny CLIP trained here, put to work by texts: predict --texts, zero-shot and CoOp's protocols, one tower as a classifier."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from cluster import chosen, protocol
from cluster.evaluate import evaluate
from cluster.run import Run
from datasets import subsets
from datasets.refusal import Refusal
from search.protocols import page
from tests.commands import cli
from trainers import rooms

RECIPES = rooms.ROOT / "recipes"
QUICK = ["scale.device=cpu", "scale.threads=1", "log.tensorboard=false", "--quiet"]
NAMES = "[zero, one, two, three, four, five, six, seven, eight, nine]"


def trained(out: Path, recipe: str, *words: str) -> Run:
    said = cli("train", RECIPES / recipe, *QUICK, *words, "--out", out)
    assert said.code == 0, said.err
    (folder,) = out.iterdir()
    return Run.open(str(folder))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs: it has begun to learn."""
    short = ["phases.0.epochs=2", "data.size=8", "model.layers=1", "data.batch=128"]
    return trained(tmp_path_factory.mktemp("clip"), "clip_digits.yaml", *short)


@pytest.fixture(scope="module", params=["coop", "cocoop"])
def coop(
    request: pytest.FixtureRequest, clip: Run, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A context learnt from half of the classes."""
    task = f"name: {request.param}, context: 4, names: [five, six, seven, eight, nine]"
    half = f"phases.0.task={{{task}}}"
    words = ["data.size=8", "model.layers=1", "phases.0.steps=6", half]
    words += ["data.subset={classes: ['5', '6', '7', '8', '9'], shots: 4}"]
    out = tmp_path_factory.mktemp(request.param)
    return trained(out, "coop_digits.yaml", f"phases.0.init={clip.url}", *words)


@pytest.fixture(scope="module")
def picture(clip: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    from PIL import Image
    from sklearn.datasets import load_digits

    pixels = (load_digits().images[7] * 255 / 16).astype("uint8")
    file = tmp_path_factory.mktemp("pictures") / "seven.png"
    Image.fromarray(pixels).save(file)
    return str(file)


def test_zero_shot_is_what_the_run_was_scored_with(clip: Run) -> None:
    folder = protocol.run(clip, "zeroshot", {})
    found, scores = page.read(folder), evaluate(clip)
    assert found.scores["accuracy"] == pytest.approx(scores["val/accuracy"])
    assert found.scores["macro_recall"] == pytest.approx(scores["val/macro_recall"])
    assert found.scores["accuracy_low"] < found.scores["accuracy"] < found.scores["accuracy_high"]
    each = found.tables["templates"]
    assert len(each) == 4 and "the number {}." in set(each["template"])
    assert found.tables["classes"]["rows"].sum() == found.scores["rows"] == 268
    assert Path(page.write(folder)).read_text().count("template") > 3


def test_a_subset_has_every_class_in_proportion(clip: Run) -> None:
    found = page.read(protocol.run(clip, "zeroshot", {"subset": 50, "templates": ["{}"]}))
    assert found.scores["rows"] == 50
    assert (
        found.tables["classes"]["rows"].between(4, 6).all() and len(found.tables["classes"]) == 10
    )
    other = page.read(
        protocol.run(clip, "zeroshot", {"subset": 50, "templates": ["{}"], "seed": 1})
    )
    assert other.scores["rows"] == 50
    assert any("drawn with every class in proportion" in said for said in found.told["sentences"])


def test_a_subset_without_some_class_is_refused(clip: Run) -> None:
    with pytest.raises(Refusal, match="5 pictures of 10 classes") as caught:
        protocol.run(clip, "zeroshot", {"subset": 5})
    assert (caught.value.path, caught.value.value) == ("subset", 5)
    least = page.read(protocol.run(clip, "zeroshot", {"subset": 10}))
    assert len(least.tables["classes"]) == 10
    with pytest.raises(Refusal, match="no template") as caught:
        protocol.run(clip, "zeroshot", {"templates": []})
    assert caught.value.path == "templates"


@pytest.mark.parametrize("sizes", [(9, 9, 9), (3, 30, 300), (1, 2, 50), (7, 20, 33)])
def test_the_fewest_that_are_said_have_every_class(sizes: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(sizes)) * 2, sizes)  # and classes of which there are none
    with pytest.raises(Refusal) as caught:
        chosen._check_whole(labels, 1)
    least = int(caught.value.remedy.split()[1])
    chosen._check_whole(labels, least)
    for seed in range(5):
        ids = np.arange(len(labels))
        rows = subsets.chosen(labels, ids, fraction=least / len(labels), seed=seed)
        assert {*labels[rows]} == {*labels}


def test_equal_templates_are_not_ranked(clip: Run) -> None:
    found = page.read(protocol.run(clip, "zeroshot", {"templates": ["a {}", "a {}"]}))
    (said,) = [each for each in found.told["sentences"] if each.startswith("Alone, ")]
    assert said.startswith("Alone, each of the templates gives ") and " to " not in said


def test_other_data_have_classes_of_their_own(clip: Run) -> None:
    told = {"data": "digits", "names": NAMES.strip("[]").split(", ")}
    found = page.read(protocol.run(clip, "zeroshot", told))
    own = page.read(protocol.run(clip, "zeroshot", {}))
    assert found.scores["accuracy"] == own.scores["accuracy"]


def test_free_texts_of_a_picture(clip: Run, picture: str) -> None:
    texts = ["the number seven.", "the number two.", "a handwritten eight."]
    options = [word for text in texts for word in ("--texts", text)]
    said = cli("predict", clip.url, picture, *options, "--json")
    (row,) = json.loads(said.out)["predictions"]
    each = [row[f"p({text})"] for text in texts]
    assert sum(each) == pytest.approx(1.0) and row["probability"] == max(each)
    model = clip.best.model()
    with torch.no_grad():
        image = model(clip.best.transform(picture)[None])
        known = model.encode_text(open_clip.tokenize(texts, model.context_length), normalize=True)  # type: ignore[operator]
        expected = (model.logit_scale.exp() * image @ known.T)[0].softmax(0)  # type: ignore[operator]
    assert each == pytest.approx(expected.tolist(), rel=1e-4)
    lines = cli("predict", clip.url, picture, *options).out.splitlines()
    assert len(lines) == 4 and lines[1].endswith("the number seven.")


def test_a_run_of_texts_predicts_its_classes(clip: Run, picture: str) -> None:
    rows = clip.predict([picture])
    assert set(rows.columns) == {
        "image",
        "prediction",
        "probability",
        *(f"p({n})" for n in range(10)),
    }
    zero = cli("predict", clip.url, picture, *(w for n in range(10) for w in ("--texts", str(n))))
    assert zero.code == 0


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["--texts", "one text"], "--texts"),
        (["--texts", "a", "--texts", "b", "--pretrained", "openai"], "--pretrained"),
        (["--texts", "a cat", "--texts", "A  cat"], "--texts"),
        (["--texts", "a cat", "--texts", " "], "--texts"),
    ],
)
def test_texts_that_say_nothing(clip: Run, picture: str, words: list[str], path: str) -> None:
    said = cli("predict", clip.url, picture, *words, "--json")
    assert said.code == 2 and json.loads(said.out)["path"] == path
    assert said.err.count("\n") == 1


def test_a_model_of_open_clips_says_which_weights(picture: str) -> None:
    texts = ["--texts", "a cat", "--texts", "a dog"]
    said = cli("predict", "open_clip:ViT-B-32", picture, *texts, "--json")
    refusal = json.loads(said.out)
    assert refusal["path"] == "--pretrained" and "laion2b" in refusal["remedy"]
    wrong = cli("predict", "open_clip:RN50", picture, *texts, "--pretrained", "nobodys", "--json")
    assert json.loads(wrong.out)["value"] == "nobodys"
    quick = cli(
        "predict", "open_clip:ViT-B-32", picture, *texts, "--pretrained", "openai", "--json"
    )
    assert "ViT-B-32-quickgelu" in json.loads(quick.out)["remedy"]


def test_an_unknown_architecture_is_said_with_a_near_one(picture: str) -> None:
    said = cli("predict", "open_clip:ViT-B-99", picture, "--texts", "a", "--texts", "b", "--json")
    refusal = json.loads(said.out)
    assert said.code == 2 and refusal["value"] == "open_clip:ViT-B-99"
    assert "no architecture 'ViT-B-99'" in refusal["error"] and "ViT-B-" in refusal["remedy"]


def test_a_run_without_texts_reads_none(picture: str, tmp_path: Path) -> None:
    words = ["phases.0.epochs=null", "phases.0.steps=2", "model.width=4"]
    run = trained(tmp_path, "digits.yaml", *words)
    said = cli("predict", run.url, picture, "--texts", "a", "--texts", "b", "--json")
    assert said.code == 2 and "has no text tower" in json.loads(said.out)["error"]
    with pytest.raises(Refusal, match="no text tower"):
        protocol.run(run, "zeroshot", {})
    with pytest.raises(Refusal, match="learns no context"):
        protocol.run(run, "nearest_words", {})


def test_a_local_checkpoint_of_open_clips(picture: str, tmp_path: Path) -> None:
    """The smallest of its architectures, with weights of its own in a file."""
    torch.manual_seed(0)
    theirs = open_clip.create_model("ViT-S-32-alt").eval()
    file = tmp_path / "weights.safetensors"
    save_file({n: t.contiguous() for n, t in theirs.state_dict().items()}, str(file))
    texts = ["a cat", "a dog"]
    options = [word for text in texts for word in ("--texts", text)]
    said = cli(
        *("predict", "open_clip:ViT-S-32-alt", picture, *options, "--pretrained", file, "--json")
    )
    assert said.code == 0, said.err
    (row,) = json.loads(said.out)["predictions"]
    from PIL import Image

    show = open_clip.image_transform(224, is_train=False)
    with torch.no_grad():
        image = theirs.encode_image(show(Image.open(picture).convert("RGB"))[None], normalize=True)
        known = theirs.encode_text(open_clip.tokenize(texts), normalize=True)
        expected = (theirs.logit_scale.exp() * image @ known.T)[0].softmax(0)
    assert [row[f"p({t})"] for t in texts] == pytest.approx(expected.tolist(), rel=1e-3)


def test_the_words_nearest_to_what_was_learnt(coop: Run) -> None:
    found = page.read(protocol.run(coop, "nearest_words", {"count": 2}))
    words = found.tables["words"]
    assert len(words) == 4 * 2 and words["vector"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert (words["distance"].diff()[1::2] >= 0).all()
    assert found.scores["words_apart"] > 0


def test_base_to_new(coop: Run, clip: Run) -> None:
    names = {"names": ["zero", "one", "two", "three", "four"], "templates": ["{}"]}
    found = page.read(protocol.run(coop, "base_to_new", names))
    assert found.scores["base_learnt"] == pytest.approx(evaluate(coop)["val/accuracy"])
    table = found.tables["base_to_new"].set_index(["classes", "prompts"])
    assert table.loc[("base", "learnt"), "rows"] + table.loc[("new", "learnt"), "rows"] == 268
    one, other = found.scores["base_learnt"], found.scores["new_learnt"]
    assert found.scores["harmonic_learnt"] == pytest.approx(
        2 * one * other / (one + other) if one + other else 0
    )
    opened = coop.summary.get("opened", {}).get("test", 0)
    protocol.run(coop, "base_to_new", names, split="test")
    assert coop.summary["opened"]["test"] == opened + 1, "two halves, two classifiers: one opening"
    with pytest.raises(Refusal, match="learns no context"):
        protocol.run(clip, "base_to_new", {})


def test_the_new_classes_have_names_where_the_others_have(coop: Run) -> None:
    with pytest.raises(Refusal, match="'5' is 'five'") as caught:
        protocol.run(coop, "base_to_new", {})
    assert caught.value.path == "names" and "0, 1, 2, 3, 4" in caught.value.remedy


def test_the_image_tower_goes_on_as_a_classifier(clip: Run, tmp_path: Path) -> None:
    model = f"model={{name: clip_image, layers: 1, pretrained: {clip.url}}}"
    words = [model, "data.size=8", "phases.0.epochs=null", "phases.0.steps=1"]
    run = trained(tmp_path, "digits_plain.yaml", *words, "phases.0.train=[head]")
    own = load_file(f"{run.best.url}/model.safetensors")
    theirs = load_file(f"{clip.best.url}/model.safetensors")
    tower = {n: t for n, t in own.items() if n.startswith("0.")}
    assert tower and {n for n in own if not n.startswith("0.")} == {"1.weight", "1.bias"}
    assert all(torch.equal(t, theirs[f"visual.{n[2:]}"]) for n, t in tower.items())
    assert run.json("model.json")["input"]["mean"] == clip.json("model.json")["input"]["mean"]
    assert run.predict([torch.zeros(8, 8, dtype=torch.uint8).numpy()])["prediction"].notna().all()


def test_pictures_with_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits, words = load_digits(), ["zero", "one", "two", "three"]
    folder = tmp_path / "pictures"
    folder.mkdir()
    chosen = [n for n in range(400) if digits.target[n] < 4][:80]
    for number in chosen:
        pixels = (digits.images[number] * 255 / 16).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a photo of a {words[digits.target[number]]}")
    source = f"data.source={{name: captions, path: {folder}, tokens: 32}}"
    changes = [source, "phases.0.task=clip", "data.batch=16", "data.size=8", "model.layers=1"]
    changes += ["evals={pairs: {name: caption_retrieval}}", "keep.metric=val/text_recall_at_1"]
    run = trained(tmp_path / "runs", "clip_digits.yaml", *changes, "phases.0.epochs=2")
    assert 0 <= run.scores["test/text_recall_at_1"] <= 1
    rows = run.metrics()
    assert rows.loc[rows["split"] == "train", "loss"].notna().all()
    assert {"right_text", "scale", "chance"} <= {*rows.columns}
    without = cli("train", RECIPES / "clip_digits.yaml", "phases.0.task=clip", *QUICK, "--json")
    assert json.loads(without.out)["path"] == "phases.0.task"
    long = cli("pack", f"captions:{folder}", tmp_path / "packed", "tokens=4", "--json")
    assert long.code == 2 and "tokens long" in json.loads(long.out)["error"]
