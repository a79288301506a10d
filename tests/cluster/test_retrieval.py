"""Indexes of real pictures: the same here and by Ray tasks; of runs, models and modules; asked by file and by id."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cluster.retrieval.index import Made, alike, index, query
from cluster.run import Run, run
from datasets import pack
from datasets.refusal import Refusal
from datasets.shards import open_dataset
from tests.datasets.photographs import encoded
from tests.local_ray import local_ray
from trainers import anatomy
from trainers.recipe import Recipe
from trainers.retrieval.index import Index
from trainers.retrieval.scores import Ranking, score


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("packed") / "digits"
    pack.pack("digits", {}, str(folder), splits={"val": 0.15, "test": 0.15}, seed=0)
    return str(folder)


@pytest.fixture(scope="module")
def trained(digits: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = digits.override({"phases.0.epochs": 3, "model.width": 16})
    return run(recipe, out=str(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def whole(trained: Run, packed: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return index(trained.url, packed, out=str(tmp_path_factory.mktemp("index")))


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    with local_ray(2):
        yield


def precision(found: Index, k: int = 5) -> float:
    told = score(Ranking.of(found), [k], found.classes)
    return float(told["scores"][f"precision@{k}"])


def test_holds_every_picture_once(whole: Made, packed: str) -> None:
    dataset, found = open_dataset(packed), whole.index
    for split in ("train", "val", "test"):
        columns, rows = dataset.columns(split), found.splits == split
        np.testing.assert_array_equal(found.ids[rows], columns["id"])
        np.testing.assert_array_equal(found.labels[rows], columns["label"])
    assert whole.new and found.metric == "cosine"
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1, atol=1e-6)
    assert precision(found) > 0.9


def test_ray_tasks_write_the_same_file(
    whole: Made, trained: Run, packed: str, tmp_path: Path, ray_session: None
) -> None:
    made = index(trained.url, packed, out=str(tmp_path), workers=2)
    names = [Path(one.url, "index.arrow") for one in (made.index, whole.index)]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_a_task_says_what_is_wrong(packed: str, tmp_path: Path, ray_session: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(packed, copy)
    shard = max(copy.rglob("*.arrow"), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    out = tmp_path / "index"
    with pytest.raises(Refusal) as caught:
        index("small_cnn", str(copy), out=str(out), workers=2)
    assert str(copy) in str(caught.value)
    assert not out.exists()


def test_the_batch_changes_no_feature(
    whole: Made, trained: Run, packed: str, tmp_path: Path
) -> None:
    other = index(trained.url, packed, ["data.batch=13"], out=str(tmp_path)).index
    np.testing.assert_allclose(other.features, whole.index.features, atol=1e-5)
    assert other.identity == whole.index.identity


def test_what_is_there_is_not_made_again(whole: Made, trained: Run, packed: str) -> None:
    again = index(trained.url, packed, out=whole.index.url)
    assert not again.new and again.index.identity == whole.index.identity
    with pytest.raises(Refusal, match="another index lies here") as caught:
        index(trained.url, packed, metric="l2", out=whole.index.url)
    assert caught.value.path == "--out"


def test_a_picture_of_the_index_finds_itself(whole: Made, packed: str, tmp_path: Path) -> None:
    columns = open_dataset(packed).columns("test")
    files = []
    for row in range(5):
        files.append(str(tmp_path / f"{row}.png"))
        Image.fromarray(columns["image"][row][..., 0]).save(files[-1])
    answers = query(whole.index, files, k=4)
    for row, answer in enumerate(answers):
        told = answer.told(whole.index)
        assert told["itself"] and told["results"][0]["id"] == columns["id"][row]
        assert told["results"][0]["distance"] == pytest.approx(0, abs=1e-6)
        # By its id it finds the others, the same ones.
        others = alike(whole.index, int(columns["id"][row]), split="test", k=3)
        assert others.rows == answer.rows[1:] and not others.itself
    altered = np.roll(columns["image"][0][..., 0], 1, axis=0)
    Image.fromarray(altered).save(files[0])
    assert not query(whole.index, files[:1])[0].itself


def test_other_weights_are_refused(
    whole: Made, digits: Recipe, trained: Run, tmp_path: Path
) -> None:
    file = tmp_path / "q.png"
    Image.new("L", (8, 8)).save(file)
    moved = tmp_path / "moved"
    shutil.copytree(trained.url, moved)
    assert query(whole.index, [str(file)], model=str(moved))
    shutil.rmtree(moved / "checkpoints")
    with pytest.raises(Refusal, match="made with is gone") as caught:
        query(whole.index, [str(file)], model=str(moved))
    assert caught.value.value == whole.index.about["weights"]["checkpoint"]
    other = run(
        digits.override({"phases.0.epochs": 3, "model.width": 16, "seed": 1}), out=str(tmp_path)
    )
    with pytest.raises(Refusal, match="not the weights that the index was made with"):
        query(whole.index, [str(file)], model=other.url)


def test_a_module_is_taken_in_eval_mode_alone(trained: Run, packed: str, tmp_path: Path) -> None:
    body = anatomy.headless(trained.best.model()).eval()
    moments = [f"data.{k}={list(getattr(trained.best.shape, k))}" for k in ("mean", "std")]
    made = index(body, packed, moments, on="test", out=str(tmp_path / "module")).index
    by_run = index(trained.url, packed, on="test", out=str(tmp_path / "run")).index
    np.testing.assert_array_equal(made.features, by_run.features)
    file = tmp_path / "q.png"
    Image.new("L", (8, 8), 255).save(file)
    assert query(made, [str(file)], model=body)[0].rows == query(by_run, [str(file)])[0].rows
    with pytest.raises(Refusal, match="somebody's own code"):
        query(made, [str(file)])
    with pytest.raises(Refusal, match="in train mode") as caught:
        index(body.train(), packed, out=str(tmp_path / "train"))
    assert caught.value.path == "model"
    assert not (tmp_path / "train").exists()


def test_what_train_mode_would_have_cost(trained: Run, packed: str, tmp_path: Path) -> None:
    """Reports have been made of such features: they are a picture's and its batch's together."""
    body = anatomy.headless(trained.best.model())
    shape = trained.best.shape
    dataset = open_dataset(packed)
    labels = dataset.columns("test")["label"]
    # As a loop that walks through folders meets them: class by class.
    order = np.argsort(labels, kind="stable")
    pictures = torch.from_numpy(dataset.columns("test")["image"][order]).permute(0, 3, 1, 2) / 255
    inputs = (pictures - torch.tensor(shape.mean)) / torch.tensor(shape.std)
    scores = {}
    for mode in (False, True):
        body.train(mode)
        with torch.no_grad():
            parts = [body(rows) for rows in inputs.split(16)]
        features = nn.functional.normalize(torch.cat(parts)).numpy()
        own = np.arange(len(order))
        ranking = Ranking(features, labels[order], features, labels[order], own, "cosine")
        scores[mode] = score(ranking, [5], [*"0123456789"])["scores"]["precision@5"]
    assert scores[False] > scores[True] + 0.05


def test_a_subset_is_stratified_and_of_the_ids(packed: str, tmp_path: Path) -> None:
    few = index("small_cnn", packed, on="test", subset=50, out=str(tmp_path / "50")).index
    more = index("small_cnn", packed, on="test", subset=100, out=str(tmp_path / "100")).index
    other = index("small_cnn", packed, ["seed=1"], on="test", subset=50, out=str(tmp_path / "1"))
    assert len(few) == 50 and np.ptp(np.bincount(few.labels, minlength=10)) <= 1
    assert set(few.ids) < set(more.ids) and set(few.ids) != set(other.index.ids)
    with pytest.raises(Refusal) as caught:
        index("small_cnn", packed, on="test", subset=5000, out=str(tmp_path / "5000"))
    assert (caught.value.path, caught.value.value) == ("--subset", 5000)


def test_rows_28_and_29_on_pictures_in_afhqs_form(tmp_path: Path) -> None:
    """A dry run: pooled 2048 features of a resnet50, 5 nearest by L2 of normalised features (cosine's order)."""
    for split, rows in (("train", 18), ("val", 6)):
        for row in range(rows):
            place = tmp_path / "afhq" / split / ("cat", "dog", "wild")[row % 3]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{row}.jpg").write_bytes(encoded(row + 100 * (split == "val")))
    made = index(
        "timm:resnet50", f"afhq:{tmp_path / 'afhq'}", ["data.size=64"], out=str(tmp_path / "index")
    )
    found = made.index
    assert found.features.shape == (24, 2048) and found.classes == ["cat", "dog", "wild"]
    assert "random" in made.notes[0]
    asked = tmp_path / "afhq/val/dog/1.jpg"
    (answer,) = query(found, [str(asked)], k=5)
    told = answer.told(found)
    assert told["itself"] and told["results"][0]["path"] == "val/dog/1.jpg"
    # |a - b|^2 = 2 (1 - cos): one order.
    own = found.features[list(answer.rows)].astype(np.float64)
    apart = np.square(own - own[0]).sum(1) / 2
    np.testing.assert_allclose(apart, answer.distances, atol=1e-6)


@pytest.mark.parametrize(
    ("what", "data", "changes", "path", "told"),
    [
        ("resnet18x", "digits", [], "model", "did you mean"),
        ("runs/none", "digits", [], "runs/none", "no run here"),
        ("small_cnn", "digitz", [], "DATA", "did you mean 'digits'?"),
        ("small_cnn", "curve", [], "DATA", "is a table"),
        ("dcgan", "digits", [], "model", "takes noise, not pictures"),
        ("small_cnn", "digits", ["phases.0.epochs=3"], "phases.0.epochs", "says nothing"),
        ("small_cnn", "digits", ["data.eval.frame=center"], "data.eval.frame", "in files"),
        ("small_cnn", "digits", ["model.widht=8"], "model.widht", "did you mean 'width'"),
        ("RUN", "digits", ["model.width=8"], "model.width", "has its own model"),
    ],
)
def test_a_mistake_is_one_line(
    what: str, data: str, changes: list[str], path: str, told: str, trained: Run, tmp_path: Path
) -> None:
    with pytest.raises(Refusal) as caught:
        index(trained.url if what == "RUN" else what, data, changes, out=str(tmp_path / "out"))
    assert path in caught.value.path and told in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_no_such_split(packed: str, whole: Made, tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught:
        index("small_cnn", packed, on="tset", out=str(tmp_path))
    assert (caught.value.path, caught.value.remedy) == ("--on", "did you mean 'test'?")
    with pytest.raises(Refusal) as caught:
        Ranking.of(whole.index, "tset", "train")
    assert (caught.value.path, caught.value.remedy) == ("--queries", "did you mean 'test'?")


def test_one_split_asks_another(whole: Made) -> None:
    ranking = Ranking.of(whole.index, "test", "train")
    assert len(ranking.queries) == (whole.index.splits == "test").sum()
    assert (ranking.own == -1).all()
