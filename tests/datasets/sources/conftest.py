"""What the tests of sources share: small real pictures, files in any form, and what must hold of every source."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.source import Source

Files = Mapping[str, bytes | str]


def _jpeg(number: int, side: int = 12, kind: str = "JPEG") -> bytes:
    rows, columns = np.mgrid[:side, : side + 4]
    pixels = np.stack([rows * 9 + number, columns * 9, rows * columns + 7 * number], axis=-1)
    file = io.BytesIO()
    Image.fromarray((pixels % 256).astype(np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """`picture(number)`: a JPEG of 16 x 12 pixels, another for each number."""
    return _jpeg


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., Path]:
    """`fill(files)`: writes {path: content} below a folder and gives the folder."""

    def write(files: Files, name: str = "data") -> Path:
        for path, content in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return write


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """`archive(files, "x.tar.gz")`: the same files in a zip or tar."""

    def write(files: Files, name: str) -> Path:
        target = tmp_path / name
        held = {
            path: text.encode() if isinstance(text, str) else text for path, text in files.items()
        }
        if name.endswith(".zip"):
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
                for path, content in held.items():
                    packed.writestr(path, content)
            return target
        mode = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}.get(
            name.rpartition(".")[2], "w"
        )
        with tarfile.open(target, mode) as packed:  # type: ignore[call-overload]
            for path, content in held.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))
        return target

    return write


def _holds(source: Source) -> list[bytes]:
    assert source.pictures is not None and source.shape == (0, 0, 3)
    again = pickle.loads(pickle.dumps(source.pictures))
    assert len(pickle.dumps(again)) < 4096 + 400 * len(again)
    read = [source.pictures.read(row) for row in range(source.num_rows)]
    assert [again.read(row) for row in range(source.num_rows)] == read
    for row, path in enumerate(source.columns["path"]):
        assert again.name(row).endswith(path)
        Image.open(io.BytesIO(read[row])).load()
    if source.splits:
        rows = np.concatenate(list(source.splits.values()))
        assert sorted(rows.tolist()) == list(range(source.num_rows))
    return read


@pytest.fixture
def holds() -> Callable[[Source], list[bytes]]:
    """`holds(source)`: its pictures read, decode, say their names and travel to other processes; gives their bytes."""
    return _holds
