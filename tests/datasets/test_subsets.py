"""Subsets, noise and weights: functions of (seed, id), the same from memory and from files, and no file is copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import assembled, frames, noise, shards, subsets
from datasets.order import Plan
from datasets.packing import encoded
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from datasets.sampling.mixture import Mixture
from datasets.sampling.samplers import Shuffled
from datasets.shards import Dataset
from datasets.source import Source
from datasets.stream import EvalStream, TrainStream, View
from tests.datasets.photographs import source as photographs

NUM = 120
IDS = np.arange(5000, dtype=np.int64) * 7
LABELS = np.random.default_rng(0).integers(0, 10, 5000)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Photographs in files, in several shards."""
    url = str(tmp_path_factory.mktemp("packed") / "set")
    source = photographs(tmp_path_factory.mktemp("photographs"), NUM)
    splits = {"train": np.arange(90), "val": np.arange(90, NUM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.packing.writing.SMALL_SHARD_BYTES", 50_000)
        encoded.write(url, source, splits, name="p", options=Options(tile=False), packed={}, seed=0)
    return shards.open_dataset(url)


@pytest.mark.parametrize("seed", [0, 1])
def test_few_shots_are_nested_and_equal(seed: int) -> None:
    former: set[int] = set()
    for shots in (1, 2, 4, 8, 16):
        rows = subsets.chosen(LABELS, IDS, shots=shots, seed=seed)
        assert np.bincount(LABELS[rows]).tolist() == [shots] * 10
        assert former <= set(rows.tolist())
        former = set(rows.tolist())
    assert former != set(subsets.chosen(LABELS, IDS, shots=16, seed=seed + 1).tolist())


def test_fractions_are_nested_and_stratified() -> None:
    former: set[int] = set()
    sizes = np.bincount(LABELS)
    for fraction in (0.01, 0.1, 0.25, 0.5, 1.0):
        rows = subsets.chosen(LABELS, IDS, fraction=fraction)
        assert len(rows) == round(fraction * len(LABELS)) and former <= set(rows.tolist())
        assert np.abs(np.bincount(LABELS[rows], minlength=10) - fraction * sizes).max() <= 1
        former = set(rows.tolist())


def test_a_choice_belongs_to_the_sample_and_not_to_its_place() -> None:
    shuffled = np.random.default_rng(1).permutation(5000)
    for how in ({"shots": 3}, {"fraction": 0.03}):
        one = set(IDS[subsets.chosen(LABELS, IDS, **how)].tolist())  # type: ignore[arg-type]
        two = IDS[shuffled][subsets.chosen(LABELS[shuffled], IDS[shuffled], **how)]  # type: ignore[arg-type]
        assert one == set(two.tolist())


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
def test_noise_has_its_rate_and_never_draws_the_true_class(rate: float) -> None:
    symmetric = noise.symmetric(rate=rate)(LABELS, IDS, 10)
    wrong = symmetric != LABELS
    assert abs(wrong.mean() - rate) < 3 * (rate * (1 - rate) / 5000) ** 0.5 + 1e-12
    if rate == 1.0:  # every other class equally often: 555 each, give or take
        moved = np.bincount((symmetric - LABELS) % 10, minlength=10)
        assert moved[0] == 0 and moved[1:].min() > 470 and moved[1:].max() < 640
    pairs = noise.pairwise(rate=rate)(LABELS, IDS, 10)
    changed = pairs != LABELS
    assert ((pairs - LABELS) % 10)[changed].tolist() == [1] * int(changed.sum())


def test_more_noise_changes_what_less_noise_changes() -> None:
    little, much = (noise.symmetric(rate=rate)(LABELS, IDS, 10) for rate in (0.1, 0.4))
    hit = little != LABELS
    assert (little[hit] == much[hit]).all() and (much != LABELS).sum() > hit.sum()
    assert (noise.symmetric(rate=0.1, seed=1)(LABELS, IDS, 10) != little).any()


def streamed(dataset: Dataset, view: View, world: int = 1) -> dict[str, torch.Tensor]:
    """An epoch of train, ranks in turn."""
    split = dataset.manifest.split("train")
    sampler = Shuffled(split, Plan(split.rows, 8, 4, "keep"))
    parts = [
        list(
            TrainStream(
                dataset, "train", sampler=sampler, seed=1, rank=rank, world=world, view=view
            ).epoch(0, 0)
        )
        for rank in range(world)
    ]
    batches = [b for step in zip(*parts, strict=True) for b in step if not b.weightless]
    return {name: torch.cat([b[name] for b in batches]) for name in batches[0].columns}


def test_pictures_of_a_subset_are_those_of_the_whole(pictures: Dataset) -> None:
    view = View(frames.center(), 24, threads=2)
    whole = streamed(pictures, view)
    by_id = {int(i): n for n, i in enumerate(whole["id"])}
    few = subsets.of_train(pictures, shots=5, fraction=None)
    for world in (1, 3):
        found = streamed(few, view, world)
        assert sorted(found["id"].tolist()) == sorted(few.columns("train")["id"].tolist())
        places = [by_id[int(i)] for i in found["id"]]
        assert torch.equal(found["image"], whole["image"][places])
        assert torch.equal(found["label"], whole["label"][places])
    assert few.manifest.split("val").rows == 30
    assert np.array_equal(few.picture("train", 3), whole_picture(pictures, few, 3))


def whole_picture(pictures: Dataset, few: Dataset, row: int) -> np.ndarray:
    ids = pictures.columns("train")["id"]
    return pictures.picture("train", int(np.flatnonzero(ids == few.columns("train")["id"][row])[0]))


def test_classes_are_taken_from_all_splits_and_numbered_anew(
    packed: Dataset, pictures: Dataset
) -> None:
    some = subsets.of_classes(packed, ["7", "1"])
    for split in ("train", "test"):
        before, after = packed.columns(split), some.columns(split)
        wanted = {7: 0, 1: 1}
        kept = [n for n, label in enumerate(before["label"].tolist()) if label in wanted]
        assert after["id"].tolist() == before["id"][kept].tolist()
        assert after["label"].tolist() == [wanted[n] for n in before["label"][kept].tolist()]
        assert np.array_equal(after["image"], before["image"][kept])
    assert some.manifest.classes == ("7", "1")
    names = pictures.manifest.classes[::-1][:2]
    two = subsets.of_classes(pictures, names)
    view = View(frames.center(), 16, threads=1)
    judged = torch.cat([b["label"] for b in EvalStream(two, "val", batch=7, view=view)])
    assert judged.tolist() == two.columns("val")["label"].tolist() and judged.max() == 1


def test_noise_and_weights_reach_the_batches(packed: Dataset, pictures: Dataset) -> None:
    for dataset, view in ((packed, View()), (pictures, View(frames.center(), 16, threads=1))):
        wrong = subsets.noisy(dataset, noise.symmetric(rate=0.4))
        changed = subsets.weighted(wrong)
        found, plain = streamed(changed, view), streamed(dataset, view)
        assert torch.equal(found["id"], plain["id"]) and torch.equal(found["image"], plain["image"])
        assert 0.2 < (found["label"] != plain["label"]).float().mean() < 0.6
        counts = torch.bincount(found["label"])
        classes = torch.count_nonzero(counts)
        expected = counts.sum() / (classes * counts[found["label"]].float())
        torch.testing.assert_close(found["weight"], expected)
        torch.testing.assert_close(found["weight"].mean(), torch.tensor(1.0))
        others = [name for name in dataset.manifest.splits if name != "train"]
        for split in others:
            before, after = dataset.columns(split)["label"], changed.columns(split)["label"]
            assert np.array_equal(before, after)


def test_mixed_sets_fill_their_slots(packed: Dataset, tmp_path: Path) -> None:
    columns = packed.columns("train")
    few = {name: values[:50] for name, values in columns.items()}
    few["label"] = 1 - (few["label"] % 2)
    shards.write(
        str(tmp_path / "odd"),
        {"train": few},
        name="odd",
        kind="image",
        shape=(8, 8, 1),
        classes=("1", "0"),
        packed={},
    )
    odd = shards.open_dataset(str(tmp_path / "odd"))
    both = assembled.mixed([packed, odd], [3, 1])
    assert both.manifest.split("train").rows == 1847 and both.manifest.split("test").rows == 100
    sampler = Mixture(both.ingredients, [3, 1], batch=16, lanes=8)
    parts = [
        list(TrainStream(both, "train", sampler=sampler, seed=2, rank=r, world=3).epoch(0, 1))
        for r in range(3)
    ]
    alone = list(TrainStream(both, "train", sampler=sampler, seed=2).epoch(0, 1))
    images = {int(i): image for i, image in zip(columns["id"], columns["image"], strict=True)}
    for whole, *ranks in zip(alone, *parts, strict=True):
        for name in whole.columns:
            assert torch.equal(whole[name], torch.cat([rank[name] for rank in ranks]))
        second = whole["id"] >= assembled.SET_IDS
        assert second.sum() == 4
        # "1" is class 1 of the first set and class 0 of the second, whose labels are made the first's.
        for place in torch.nonzero(second)[:, 0].tolist():
            own = int(whole["id"][place]) - assembled.SET_IDS
            row = few["id"].tolist().index(own)
            assert whole["label"][place] == {0: 1, 1: 0}[int(few["label"][row])]
            assert np.array_equal(whole["image"][place].numpy(), images[own])


def test_what_cannot_be_chosen_is_refused(
    packed: Dataset, table: Dataset, pictures: Dataset
) -> None:
    with pytest.raises(Refusal, match="'11' is no class of 'digits'") as caught:
        subsets.of_classes(packed, ["1", "11"])
    assert caught.value.path == "data.subset.classes.1"
    with pytest.raises(Refusal, match="has no labels"):
        subsets.noisy(table, noise.symmetric())
    with pytest.raises(Refusal, match="one batch cannot hold both"):
        assembled.mixed([packed, pictures], [1, 1])
    with pytest.raises(Refusal, match="no split 'vall'"):
        subsets.of_train(packed, shots=1, fraction=None).shelf("vall")


def test_altered_copies_go_with_their_originals(tmp_path: Path, source: Source) -> None:
    columns = {name: values[:60] for name, values in source.columns.items()}
    ids = columns["id"]
    copies = {name: np.concatenate([values, values]) for name, values in columns.items()}
    copies |= {"id": np.concatenate([ids, ids + 10_000]), "origin": np.concatenate([ids, ids])}
    shards.write(
        str(tmp_path / "set"),
        {"train": copies},
        name="digits",
        kind="image",
        shape=source.shape,
        classes=source.classes,
        packed={},
    )
    dataset = shards.open_dataset(str(tmp_path / "set"))
    few = subsets.of_train(dataset, shots=2, fraction=None).columns("train")
    assert len(few["id"]) == 2 * len(set(few["origin"].tolist())), "each original with its copy"
    assert np.bincount(few["label"]).tolist() == [4] * 10
    wrong = subsets.noisy(dataset, noise.symmetric(rate=0.5)).columns("train")
    labels: dict[int, set[int]] = {}
    for origin, label in zip(wrong["origin"].tolist(), wrong["label"].tolist(), strict=True):
        labels.setdefault(origin, set()).add(label)
    assert all(len(own) == 1 for own in labels.values()), "a copy would tell the true label"


def test_a_mixture_may_be_weighted(packed: Dataset) -> None:
    both = subsets.weighted(assembled.mixed([packed, packed], [3, 1]))
    assert isinstance(both, assembled.Assembled)
    sampler = Mixture(both.ingredients, [3, 1], batch=16, lanes=8)
    batch = next(TrainStream(both, "train", sampler=sampler, seed=2).epoch(0, 0))
    assert (batch["id"] >= assembled.SET_IDS).sum() == 4 and batch["weight"].shape == (16,)


@pytest.mark.parametrize("ratio", [1.0, 4.0, 20.0])
def test_a_long_tail_falls_from_class_to_class(ratio: float) -> None:
    rows = subsets.chosen(LABELS, IDS, imbalance=ratio)
    sizes = np.bincount(LABELS[rows], minlength=10)
    most = np.bincount(LABELS).min()
    assert sizes[0] == most and sizes[-1] == round(most / ratio)
    assert (np.diff(sizes) <= 0).all()
    steeper = set(subsets.chosen(LABELS, IDS, imbalance=ratio * 2).tolist())
    assert steeper <= set(rows.tolist())


def test_more_shots_than_a_class_has_are_refused(pictures: Dataset) -> None:
    sizes = np.bincount(pictures.columns("train")["label"])
    with pytest.raises(Refusal) as refused:
        subsets.of_train(pictures, shots=int(sizes.min()) + 1)
    assert refused.value.path == "data.subset.shots" and str(sizes.min()) in str(refused.value)


def test_splits_that_are_learnt_from_together(pictures: Dataset) -> None:
    joined = subsets.joined(pictures, ["train", "val"])
    assert set(joined.manifest.splits) == set(pictures.manifest.splits) - {"val"}
    ids = [pictures.columns(split)["id"] for split in ("train", "val")]
    assert joined.columns("train")["id"].tolist() == np.concatenate(ids).tolist()
    assert joined.manifest.split("train").rows == sum(len(each) for each in ids)


@pytest.mark.parametrize("splits", [["train", "extra"], ["train", "train"]])
def test_a_split_that_is_not_there_is_not_learnt_from(pictures: Dataset, splits: list[str]) -> None:
    with pytest.raises(Refusal) as refused:
        subsets.joined(pictures, splits)
    assert refused.value.path == "data.learn_from.1"
