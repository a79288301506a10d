"""Sources packed once into the cache, whoever races and however a path is said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datasets import cached, pack, shards
from datasets.progress import Progress
from datasets.refusal import Refusal
from tests.datasets.test_raw import folder, small

FRACTIONS = {"val": 0.15, "test": 0.15}


def test_ensure_packs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    url = cached.ensure("curve", {"num_rows": 50}, fractions=FRACTIONS, seed=0)
    monkeypatch.setattr(pack, "pack", lambda *_, **__: pytest.fail("packed again"))
    assert cached.ensure("curve", {"num_rows": 50}, fractions=FRACTIONS, seed=0) == url
    # A default said aloud is the same data set.
    assert (
        cached.ensure("curve", {"num_rows": 50, "noise": 0.0}, fractions=FRACTIONS, seed=0) == url
    )


def test_ensure_keeps_different_data_apart() -> None:
    urls = {
        cached.ensure("curve", {"num_rows": rows}, fractions={"val": val}, seed=seed)
        for rows in (50, 60)
        for val in (0.1, 0.2)
        for seed in (0, 1)
    }
    assert len(urls) == 8


def test_racing_processes_agree(cache: Path) -> None:
    code = (
        "from datasets import cached\n"
        "print(cached.ensure('digits', {}, fractions={'val': .15, 'test': .15}, seed=0))"
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
            raced.append(cached.ensure("curve", {}, fractions=FRACTIONS, seed=0))
        return manifest

    monkeypatch.setattr(pack, "pack", slow)
    assert cached.ensure("curve", {}, fractions=FRACTIONS, seed=0) == raced[1]
    assert len(os.listdir(cache / "packed")) == 1


def test_a_failed_pack_leaves_nothing(cache: Path) -> None:
    with pytest.raises(Refusal):
        cached.ensure("curve", {}, fractions={"val": 2.0}, seed=0)
    assert not (cache / "packed").exists() or not os.listdir(cache / "packed")


def test_local_paths_are_found_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"path": "photos", "root": "s3://bucket/x", "image": "jpg", "url": ""}
    assert pack.everywhere(given) == {**given, "path": str(tmp_path / "photos")}


def test_a_folder_is_packed_once_however_its_path_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "photos", [small(n) for n in range(10)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    ways = [str(root), "photos", "./photos", "~/photos", root.as_uri()]
    urls = {cached.ensure("imagefolder", {"path": way}, fractions={}, seed=0) for way in ways}
    assert len(urls) == 1


def test_packing_is_shown_and_what_does_not_decode_is_left_out_on_request(tmp_path: Path) -> None:
    pictures = [b"\xff\xd8 no picture" if n == 7 else small(n) for n in range(30)]
    args = {"path": str(folder(tmp_path / "photos", pictures))}
    told: list[tuple[str, int, int]] = []

    @contextmanager
    def shown(what: str) -> Iterator[Progress]:
        yield lambda done, total: told.append((what, done, total))

    with pytest.raises(Refusal, match="no picture") as caught:
        cached.ensure("imagefolder", args, fractions={}, seed=0)
    assert "data.leave_out=true" in str(caught.value.remedy)
    url = cached.ensure("imagefolder", args, fractions={}, seed=0, leave_out=True, shown=shown)
    manifest = shards.open_dataset(url).manifest
    assert manifest.splits["train"].rows == 29
    assert told[-1] == ("pack imagefolder", 30, 30)
    assert str(manifest.packed["left_out"]).count("no picture") == 1


def test_altered_copies_are_packed_apart(cache: Path) -> None:
    plain = cached.ensure("digits", {}, fractions={"test": 0.2}, seed=0)
    more = cached.ensure("digits", {}, fractions={"test": 0.2}, seed=0, extras=["mirror"])
    rows = [shards.open_dataset(url).manifest.split("train").rows for url in (plain, more)]
    assert rows[1] == 2 * rows[0]
