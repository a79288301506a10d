"""Packing: the same arguments give the same digest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets import pack, shards
from datasets.refusal import Refusal
from datasets.source import Source
from datasets.sources import digits

FRACTIONS = {"val": 0.15, "test": 0.15}


def test_digits_have_the_digest_they_always_had(tmp_path: Path) -> None:
    """Runs are named by this digest: it changes only when packed content is meant to change."""
    manifest = pack.pack("digits", {}, str(tmp_path / "x"), splits=FRACTIONS, seed=0)
    assert manifest.digest.startswith("5a939f59d73b13f7")
    assert {name: split.rows for name, split in manifest.splits.items()} == {
        "test": 270,
        "val": 268,
        "train": 1259,
    }
    assert manifest.packed["source"] == "digits" and manifest.packed["fractions"] == FRACTIONS


def test_another_seed_or_fraction_is_another_set(tmp_path: Path) -> None:
    digests = {
        pack.pack(
            "digits", {}, str(tmp_path / f"{seed}-{val}"), splits={"val": val}, seed=seed
        ).digest
        for seed in (0, 1)
        for val in (0.1, 0.2)
    }
    assert len(digests) == 4


def test_unknown_sources_and_arguments_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no source 'digit'.*'digits'"):
        pack.load_source("digit", {})
    with pytest.raises(Refusal, match="no argument 'nose'.*'noise'"):
        pack.load_source("curve", {"nose": 1.0})
    with pytest.raises(Refusal, match="no source '../store'"):
        pack.load_source("../store", {})


def test_official_splits_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = digits.build()
    rows = np.arange(whole.num_rows)

    def build() -> Source:
        return Source(
            name="digits",
            kind="image",
            shape=whole.shape,
            classes=whole.classes,
            columns=whole.columns,
            splits={"train": rows[:1000], "test": rows[1000:]},
        )

    monkeypatch.setattr(digits, "build", build)
    pack.pack("digits", {}, str(tmp_path / "x"), splits={"val": 0.1}, seed=0)
    dataset = shards.open_dataset(str(tmp_path / "x"))
    ids = {name: set(dataset.columns(name)["id"].tolist()) for name in dataset.manifest.splits}
    assert ids["test"] == set(range(1000, 1797))
    assert ids["train"] | ids["val"] == set(range(1000))
    pack.pack("digits", {}, str(tmp_path / "z"), splits={"val": None, "test": None}, seed=0)
    rows_of = {
        n: s.rows for n, s in shards.open_dataset(str(tmp_path / "z")).manifest.splits.items()
    }
    assert rows_of == {"train": 849, "val": 151, "test": 797}, "an own test split, val by default"
    with pytest.raises(Refusal, match="brings its own split 'test'"):
        pack.pack("digits", {}, str(tmp_path / "y"), splits={"test": 0.1}, seed=0)
