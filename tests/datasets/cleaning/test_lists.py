"""The list of labels as a file, and the view that does as it says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import noise, shards, subsets
from datasets.cleaning import lists, view
from datasets.cleaning.lists import Labels
from datasets.order import Plan
from datasets.refusal import Refusal
from datasets.sampling.samplers import Shuffled
from datasets.shards import Dataset
from datasets.stream import TrainStream

CLASSES = ("cat", "dog", "a, b")
NOISE = {"name": "symmetric", "rate": 0.1, "seed": 0}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sixty pictures to learn from, twelve of which have an altered copy, and two other splits."""
    url = str(tmp_path_factory.mktemp("packed") / "set")
    pixels = np.random.default_rng(0).integers(0, 256, (92, 4, 4, 1), dtype=np.uint8)
    ids, labels = np.arange(92) * 3, np.arange(92) % 3
    ids[60:72] = 100_000 + np.arange(12)
    origins = ids.copy()
    origins[60:72] = ids[:12]
    labels[60:72] = labels[:12]
    whole = {"image": pixels, "label": labels, "id": ids, "origin": origins}
    bounds = {"train": slice(0, 72), "val": slice(72, 82), "test": slice(82, 92)}
    shards.write(
        url,
        {
            split: {name: values[rows] for name, values in whole.items()}
            for split, rows in bounds.items()
        },
        name="pets",
        kind="image",
        shape=(4, 4, 1),
        classes=CLASSES,
        packed={},
    )
    return shards.open_dataset(url)


def listed(dataset: Dataset, **changes: Any) -> Labels:
    """A list that drops id 0, calls id 3 another, weighs id 6 down and keeps id 9."""
    given = np.array([0, 1, 2, 0])
    said = Labels(
        ids=np.array([0, 3, 6, 9]),
        given=given,
        suggested=np.array([1, 2, 0, 0]),
        scores=np.array([0.01, 0.2, 0.25, 0.9]),
        actions=np.array(["drop", "relabel", "downweight", "keep"]),
        weights=np.array([0.0, 1.0, 0.25, 1.0]),
        made={"digest": dataset.manifest.digest, "data": "pets", "noise": None},
    )
    return dataclasses.replace(said, **changes)


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_a_list_comes_back_as_it_was_the_lowest_score_first(
    packed: Dataset, tmp_path: Path, name: str
) -> None:
    shuffled = np.array([2, 0, 3, 1])
    whole = listed(packed)
    columns = ("ids", "given", "suggested", "scores", "actions", "weights")
    mixed = {column: getattr(whole, column)[shuffled] for column in columns}
    url = str(tmp_path / name)
    lists.write(url, dataclasses.replace(whole, **mixed), CLASSES)
    back = lists.read(url, packed.manifest, noise=None, path="data.cleaned")
    for column in columns:
        assert getattr(back, column).tolist() == getattr(whole, column).tolist()
    assert back.made == whole.made


def test_a_person_may_change_the_csv(packed: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    lists.write(str(path), listed(packed), CLASSES)
    lines = path.read_text().splitlines()
    assert lines[0].startswith('# {"data": "pets"') and len(lines) == 6
    edited = [lines[0], lines[1], lines[2].replace("drop", "keep")]
    path.write_text("\n".join(edited) + "\n")
    back = lists.read(str(path), packed.manifest, noise=None, path="data.cleaned")
    assert back.ids.tolist() == [0] and not back.changed.any()


def broken(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "path", "value", "says"),
    [
        ('"drop"', '"dropp"', "file", "dropp", "'dropp', of id"),
        ('"cat"', '"cow"', "file", "cow", "'cow' is no class"),
        ('"downweight",0.25', '"downweight",0', "file", 0.0, "the weight of id 6 is 0"),
        ('"downweight",0.25', '"downweight",1.5', "file", 1.5, "the weight of id 6 is 1.5"),
        ("\n3,", "\n0,", "file", 0, "id 0 is listed twice"),
        ("\n3,", "\nx,", "file", None, "is no list of labels"),
        ('"action"', '"actions"', "file", "action", "the list has no 'action'"),
        ("# {", "{", "file", None, "is no list of labels"),
        ('"digest"', '"other"', "data.cleaned", "url", "does not say of which data"),
        ('"noise": null', '"noise": {"rate": 0.5}', "data.cleaned", "url", "of labels with noise"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    packed: Dataset, tmp_path: Path, old: str, new: str, path: str, value: object, says: str
) -> None:
    file = tmp_path / "labels.csv"
    lists.write(str(file), listed(packed), CLASSES)
    file.write_text(broken(file.read_text(), old, new))
    with pytest.raises(Refusal, match=says) as refused:
        lists.read(str(file), packed.manifest, noise=None, path="data.cleaned")
    assert refused.value.path == (str(file) if path == "file" else path)
    assert refused.value.value == (str(file) if value == "url" else value)
    assert refused.value.remedy and "\n" not in str(refused.value)


def test_a_list_of_other_data_or_other_noise_is_refused(packed: Dataset, tmp_path: Path) -> None:
    url = str(tmp_path / "labels.parquet")
    lists.write(url, listed(packed), CLASSES)
    other = dataclasses.replace(packed.manifest, name="birds", digest="f" * 64)
    with pytest.raises(Refusal, match=r"of other data, 'pets' .* these are 'birds' \(ffffffff\)"):
        lists.read(url, other, noise=None, path="data.cleaned")
    with pytest.raises(Refusal, match="with noise none, the recipe has"):
        lists.read(url, packed.manifest, noise=NOISE, path="data.cleaned")
    for bad, says in ((str(tmp_path / "no.csv"), "no list of labels at"), ("l.txt", "a .csv or a")):
        with pytest.raises(Refusal, match=says):
            lists.read(bad, packed.manifest, noise=None, path="data.cleaned")
    with pytest.raises(Refusal, match="a .csv or a"):
        lists.write(str(tmp_path / "l.txt"), listed(packed), CLASSES)
    Path(url).write_bytes(b"no parquet")
    with pytest.raises(Refusal, match="is no list of labels"):
        lists.read(url, packed.manifest, noise=None, path="data.cleaned")


def test_a_list_of_which_no_line_applies_is_refused(packed: Dataset) -> None:
    elsewhere = listed(packed, ids=np.array([900_000, 900_003, 900_006, 900_009]))
    with pytest.raises(Refusal, match="none of the list's 4 ids is among") as told:
        view.cleaned(packed, elsewhere, other=True)
    assert (told.value.path, told.value.value) == ("data.cleaned", 900_000)


def test_samples_are_dropped_relabelled_and_weighed_with_their_copies(packed: Dataset) -> None:
    found = view.cleaned(packed, listed(packed), other=True)
    columns = found.columns("train")
    whole = packed.columns("train")
    kept = whole["origin"] != 0
    assert np.array_equal(columns["id"], whole["id"][kept]) and 100_000 not in columns["id"]
    changed = columns["label"] != whole["label"][kept]
    assert sorted(columns["id"][changed].tolist()) == [3, 100_001]
    assert columns["label"][changed].tolist() == [2, 2]
    light = columns["weight"] != 1
    assert sorted(columns["id"][light].tolist()) == [6, 100_002]
    assert columns["weight"].dtype == np.float32 and set(columns["weight"][light]) == {0.25}
    for split in ("val", "test"):
        assert np.array_equal(found.columns(split)["label"], packed.columns(split)["label"])
        assert (found.columns(split)["weight"] == 1).all()
    sampler = Shuffled(found.manifest.split("train"), Plan(70, 10, 10, "keep"))
    stream = TrainStream(found, "train", sampler=sampler, seed=0)
    batches = [*stream.epoch(0, 0)]
    shown = {
        int(i): (int(label), float(weight))
        for batch in batches
        for i, label, weight in zip(batch["id"], batch["label"], batch["weight"], strict=True)
    }
    assert shown == {
        int(i): (int(label), float(weight))
        for i, label, weight in zip(columns["id"], columns["label"], columns["weight"], strict=True)
    }


def test_what_changes_is_other_data_and_what_changes_nothing_is_not(packed: Dataset) -> None:
    one = view.cleaned(packed, listed(packed), other=True).manifest.digest
    assert one != packed.manifest.digest
    again = listed(packed, scores=np.array([0.3, 0.1, 0.2, 0.5]))
    assert view.cleaned(packed, again, other=True).manifest.digest == one, "scores do nothing"
    other = listed(packed, suggested=np.array([1, 0, 0, 0]))
    assert view.cleaned(packed, other, other=True).manifest.digest != one
    assert (
        view.cleaned(packed, listed(packed), other=False).manifest.digest == packed.manifest.digest
    )
    none = listed(packed, ids=np.zeros(0, np.int64))
    assert view.cleaned(packed, none, other=True) is packed


def test_a_list_of_other_labels_or_that_leaves_nothing_is_refused(packed: Dataset) -> None:
    wrong = listed(packed, given=np.array([0, 0, 2, 0]))
    with pytest.raises(Refusal, match="id 3 as 'cat', the data have it as 'dog'") as refused:
        view.cleaned(packed, wrong, other=True)
    assert (refused.value.path, refused.value.value) == ("data.cleaned", 3)
    columns = packed.columns("train")
    own = columns["id"] == columns["origin"]
    num = int(own.sum())
    everything = Labels(
        columns["id"][own],
        columns["label"][own],
        columns["label"][own],
        np.zeros(num),
        np.full(num, "drop"),
        np.zeros(num),
    )
    with pytest.raises(Refusal, match="drops every sample"):
        view.cleaned(packed, everything, other=True)


def test_class_weights_are_multiplied_with_the_lists(packed: Dataset) -> None:
    found = subsets.weighted(view.cleaned(packed, listed(packed), other=True))
    columns = found.columns("train")
    plain = view.cleaned(packed, listed(packed), other=True).columns("train")["weight"]
    sizes = np.bincount(columns["label"], plain)
    expected = plain * (sizes.sum() / (3 * sizes))[columns["label"]]
    assert columns["weight"] == pytest.approx(expected, rel=1e-6)
    assert (columns["weight"] * 1.0).sum() == pytest.approx(plain.sum(), rel=1e-5)


def test_parts_held_out_are_a_stratified_partition_of_what_is_learnt_from(packed: Dataset) -> None:
    noisy = subsets.noisy(packed, noise.symmetric(rate=0.3))
    views = [subsets.held_out(noisy, fold=fold, folds=5, seed=1) for fold in range(5)]
    tests = [one.columns("test") for one in views]
    every = np.concatenate([one["id"] for one in tests])
    own = packed.columns("train")["id"] == packed.columns("train")["origin"]
    assert sorted(every.tolist()) == sorted(packed.columns("train")["id"][own].tolist())
    counts = np.array([np.bincount(one["label"], minlength=3) for one in tests])
    assert (np.ptp(counts, axis=0) <= 1).all() and np.ptp(counts.sum(1)) <= 1
    for one, test in zip(views, tests, strict=True):
        train = one.columns("train")
        assert not set(train["origin"].tolist()) & set(test["id"].tolist()), "nor their copies"
        assert len(train["id"]) + np.isin(packed.columns("train")["origin"], test["id"]).sum() == 72
        assert np.array_equal(one.columns("val")["id"], packed.columns("val")["id"])
        given = dict(
            zip(noisy.columns("train")["id"], noisy.columns("train")["label"], strict=True)
        )
        assert [given[i] for i in test["id"]] == test["label"].tolist(), "labels as they are given"
    other = subsets.held_out(noisy, fold=0, folds=5, seed=2).columns("test")["id"]
    assert set(other.tolist()) != set(tests[0]["id"].tolist())


def test_more_parts_than_rows_are_refused(packed: Dataset) -> None:
    with pytest.raises(Refusal, match="60 rows to learn from make no 61 parts") as refused:
        subsets.held_out(packed, fold=0, folds=61)
    assert (refused.value.path, refused.value.value) == ("data.held_out.folds", 61)
