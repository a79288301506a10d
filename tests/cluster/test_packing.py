"""Packing as Ray tasks gives what packing in threads gives; what fails there is said here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import packing
from datasets import pack, store
from datasets.packed.manifest import Manifest
from datasets.packing import encoded
from datasets.pictures.prepare import Options
from datasets.refusal import Refusal
from tests.datasets.photographs import Folder
from tests.datasets.photographs import encoded as picture
from tests.datasets.photographs import source as photographs_source
from tests.local_ray import local_ray


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """A Ray of our own that leaves no process behind."""
    with local_ray(1):
        yield


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for row in range(200):
        place = root / ("down", "right")[row % 2]
        place.mkdir(exist_ok=True)
        (place / f"{row}.jpg").write_bytes(picture(row))
    return root


@dataclass(frozen=True)
class Deadly(Folder):
    """Kills the process that reads its 30th picture, once, if that is not the one that made it."""

    maker: int = 0

    def read(self, row: int) -> bytes:
        scar = Path(self.root, "scar")
        if row == 30 and os.getpid() != self.maker and not scar.exists():
            scar.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(row)


def packed(root: Path, url: Path, **options: object) -> Manifest:
    given: dict[str, object] = {"splits": {"val": 0.2}, "seed": 0, "options": Options(tile=False)}
    args = {"path": str(root)}
    return pack.pack("imagefolder", args, str(url), **{**given, **options})  # type: ignore[arg-type]


def test_tasks_give_the_digest_of_threads(
    ray_session: None, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.packing.writing.SMALL_SHARD_BYTES", 100_000)
    monkeypatch.setattr(packing, "AHEAD", 1)  # fewer in flight than there are shards
    threads = packed(photographs, tmp_path / "threads")
    told: list[tuple[int, int]] = []
    tasks = packed(
        photographs,
        tmp_path / "tasks",
        runner=packing.on_ray(),
        progress=lambda *done: told.append(done),
    )
    assert len(tasks.splits["train"].shards) > 2
    assert tasks.digest == threads.digest and tasks.splits == threads.splits
    assert told[-1] == (200, 200)
    assert store.names(str(tmp_path / "tasks")) == store.names(str(tmp_path / "threads"))


def test_a_worker_that_dies_is_replaced(ray_session: None, tmp_path: Path) -> None:
    source, rows = photographs_source(tmp_path / "p", 60), {"train": np.arange(60)}
    given: dict[str, Any] = {"name": "p", "options": Options(tile=False), "packed": {}, "seed": 0}
    expected = encoded.write(str(tmp_path / "threads"), source, rows, **given)
    deadly = replace(source, pictures=Deadly(str(tmp_path / "p"), 60, maker=os.getpid()))
    found = encoded.write(str(tmp_path / "set"), deadly, rows, runner=packing.on_ray(), **given)
    assert (tmp_path / "p" / "scar").exists() and found.digest == expected.digest


def test_what_does_not_decode_there_is_one_line_here(
    ray_session: None, photographs: Path, tmp_path: Path
) -> None:
    broken = photographs / "down" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(Refusal, match="broken.jpg") as caught:
        packed(photographs, tmp_path / "set", runner=packing.on_ray())
    assert "--leave-out" in caught.value.remedy
    broken.unlink()
    assert (
        packed(photographs, tmp_path / "set", runner=packing.on_ray()).splits["train"].rows == 160
    )


def test_without_pictures_in_files_there_is_nothing_to_share_out(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="packed from memory") as caught:
        pack.pack("digits", {}, str(tmp_path), splits={}, seed=0, runner=packing.on_ray())
    assert caught.value.path == "--ray"
