"""Packing: the same arguments give the same digest, once, whoever races."""

from __future__ import annotations

import os
import subprocess
import sys
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


def test_ensure_packs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    url = pack.ensure("curve", {"num_rows": 50}, fractions=FRACTIONS, seed=0)
    monkeypatch.setattr(pack, "pack", lambda *_, **__: pytest.fail("packed again"))
    assert pack.ensure("curve", {"num_rows": 50}, fractions=FRACTIONS, seed=0) == url
    # A default said aloud is the same data set.
    assert pack.ensure("curve", {"num_rows": 50, "noise": 0.0}, fractions=FRACTIONS, seed=0) == url


def test_ensure_keeps_different_data_apart() -> None:
    urls = {
        pack.ensure("curve", {"num_rows": rows}, fractions={"val": val}, seed=seed)
        for rows in (50, 60)
        for val in (0.1, 0.2)
        for seed in (0, 1)
    }
    assert len(urls) == 8


def test_racing_processes_agree(cache: Path) -> None:
    code = (
        "from datasets import pack\n"
        "print(pack.ensure('digits', {}, fractions={'val': .15, 'test': .15}, seed=0))"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            cwd=pack.SOURCES.parent.parent,
        )
        for _ in range(3)
    ]
    urls = {run.communicate()[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0] and len(urls) == 1
    assert os.listdir(cache / "packed") == [Path(urls.pop()).name]


def test_the_loser_of_a_race_uses_the_winners(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    real, raced = pack.pack, []

    def slow(*args: object, **options: object) -> shards.Manifest:
        manifest = real(*args, **options)  # type: ignore[arg-type]
        if not raced:  # another process is done while this one is about to rename
            raced.append(True)
            raced.append(pack.ensure("curve", {}, fractions=FRACTIONS, seed=0))
        return manifest

    monkeypatch.setattr(pack, "pack", slow)
    assert pack.ensure("curve", {}, fractions=FRACTIONS, seed=0) == raced[1]
    assert len(os.listdir(cache / "packed")) == 1


def test_a_failed_pack_leaves_nothing(cache: Path) -> None:
    with pytest.raises(Refusal):
        pack.ensure("curve", {}, fractions={"val": 2.0}, seed=0)
    assert not (cache / "packed").exists() or not os.listdir(cache / "packed")


def test_unknown_sources_and_arguments_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no source 'digit'.*'digits'"):
        pack.load_source("digit", {})
    with pytest.raises(Refusal, match="no argument 'nose'.*'noise'"):
        pack.load_source("curve", {"nose": 1.0})
    with pytest.raises(Refusal, match="no source '../store'"):
        pack.ensure("../store", {}, fractions={}, seed=0)


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


def test_local_paths_are_found_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"path": "photos", "root": "s3://bucket/x", "image": "jpg", "url": ""}
    assert pack.everywhere(given) == {**given, "path": str(tmp_path / "photos")}
