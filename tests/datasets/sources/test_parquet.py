"""Parquet as the Hugging Face Hub lays it out, and plainer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets import pack, store
from datasets.formats import row_groups
from datasets.refusal import Refusal
from datasets.source import Source
from datasets.sources import parquet

Picture, Holds = Callable[..., bytes], Callable[[Source], list[bytes]]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["ant", "bee", "cat"], "_type": "ClassLabel"},
}
METADATA = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}


def hub_file(path: Path, pictures: Sequence[bytes | None], labels: Sequence[int | None]) -> None:
    schema = pa.schema([("image", STRUCT), ("label", pa.int64())], metadata=METADATA)
    rows = [{"bytes": data, "path": f"{n}.jpg"} for n, data in enumerate(pictures)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"image": rows, "label": labels}, schema=schema), path, row_group_size=2
    )


@pytest.fixture
def hub(tmp_path: Path, picture: Picture) -> Path:
    """Five rows to train on in two files, two to test on."""
    folder = tmp_path / "set" / "data"
    hub_file(folder / "train-00000-of-00002.parquet", [picture(n) for n in range(3)], [0, 1, 2])
    hub_file(folder / "train-00001-of-00002.parquet", [picture(n) for n in range(3, 5)], [1, 0])
    hub_file(folder / "test-00000-of-00001.parquet", [picture(n) for n in range(5, 7)], [2, 2])
    return tmp_path / "set"


def test_the_layout_of_the_hub(hub: Path, picture: Picture, holds: Holds) -> None:
    source = parquet.build(path=str(hub))
    assert source.classes == ("ant", "bee", "cat")
    assert source.columns["label"].tolist() == [2, 2, 0, 1, 2, 1, 0]
    assert source.columns["path"].tolist()[:3] == [
        "data/test-00000-of-00001.parquet/0",
        "data/test-00000-of-00001.parquet/1",
        "data/train-00000-of-00002.parquet/0",
    ]
    assert source.splits is not None
    assert {name: rows.tolist() for name, rows in source.splits.items()} == {
        "test": [0, 1],
        "train": [2, 3, 4, 5, 6],
    }
    assert holds(source) == [picture(n) for n in (5, 6, 0, 1, 2, 3, 4)]


def test_one_file_and_a_pattern(hub: Path) -> None:
    assert parquet.build(path=str(hub / "data" / "test-00000-of-00001.parquet")).splits is None
    assert parquet.build(path=str(hub / "data" / "train-*.parquet")).num_rows == 5


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_bytes_words_and_captions(
    kind: pa.DataType, tmp_path: Path, picture: Picture, holds: Holds
) -> None:
    columns = {
        "jpg": pa.array([picture(1), picture(2)], kind),
        "kind": pa.array(["dog", "cat"]).dictionary_encode(),
        "text": ["a dog", "a cat"],
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    source = parquet.build(
        path=str(tmp_path / "x.parquet"), image="jpg", label="kind", caption="text"
    )
    assert source.classes == ("cat", "dog") and source.columns["label"].tolist() == [1, 0]
    assert source.columns["caption"].tolist() == ["a dog", "a cat"]
    assert holds(source) == [picture(1), picture(2)]
    bare = parquet.build(path=str(tmp_path / "x.parquet"), image="jpg", label="")
    assert set(bare.columns) == {"id", "path"}


def test_rows_are_read_in_any_order_and_few_groups_kept(
    hub: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 1)
    monkeypatch.setattr(row_groups, "_kept", row_groups._Kept())
    pictures = parquet.build(path=str(hub)).pictures
    assert pictures is not None
    assert [pictures.read(row) for row in (6, 0, 4, 2)] == [picture(n) for n in (4, 5, 2, 0)]
    assert len(row_groups._kept.groups) == 1


def test_a_bucket(hub: Path, bucket: str, cache: Path, holds: Holds) -> None:
    store.upload(hub, f"{bucket}/set")
    assert holds(parquet.build(path=f"{bucket}/set")) == holds(parquet.build(path=str(hub)))
    assert len(list((cache / "downloads").iterdir())) == 3


@pytest.mark.parametrize(
    ("columns", "arguments", "words"),
    [
        ({"image": [b"1"], "lable": [1]}, {}, "has no column 'label' -- did you mean 'lable'"),
        ({"img": [b"1"], "label": [1]}, {}, "has no column 'image'"),
        ({"image": ["1.jpg"], "label": [1]}, {}, "column 'image' is string, not bytes of pictures"),
        ({"image": [{"path": "1"}], "label": [1]}, {}, "not bytes of pictures"),
        ({"image": [b"1", b"2"], "label": [1, None]}, {}, "row 1 has no 'label'"),
        ({"image": [b"1"], "label": [-1]}, {}, "labels -1 .. -1"),
        ({"image": [b"1"], "label": [0.5]}, {}, "is double, neither integers nor words"),
        ({"image": [b"1"], "label": [1]}, {"caption": "label"}, "column 'label' holds no words"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    columns: dict[str, Any], arguments: dict[str, str], words: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(Refusal) as caught:
        parquet.build(path=str(tmp_path), **arguments)  # type: ignore[arg-type]
    assert words in str(caught.value) and str(tmp_path) in caught.value.path


def test_rows_without_bytes_are_refused_when_read(tmp_path: Path, picture: Picture) -> None:
    hub_file(tmp_path / "x.parquet", [picture(1), None, b""], [0, 1, 2])
    pictures = parquet.build(path=str(tmp_path)).pictures
    assert pictures is not None and pictures.read(0) == picture(1)
    for row in (1, 2):
        with pytest.raises(Refusal, match="no bytes of a picture") as caught:
            pictures.read(row)
        assert caught.value.path == f"{tmp_path}/x.parquet/{row}"


def test_damaged_files_are_refused(hub: Path) -> None:
    file = hub / "data" / "train-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(Refusal, match="is no parquet file, or a damaged one"):
        parquet.build(path=str(hub))
    file.write_bytes(b"")
    with pytest.raises(Refusal, match="is no parquet file, or a damaged one"):
        parquet.build(path=str(hub))


@pytest.mark.parametrize("offline", ["HF_HUB_OFFLINE=1", "HF_ENDPOINT=http://127.0.0.1:9"])
def test_the_hub_offline_is_one_line(offline: str, tmp_path: Path) -> None:
    code = (
        "from datasets.sources import parquet; from datasets.refusal import Refusal\n"
        "try: parquet.build(path='hf://datasets/nobody/nothing')\n"
        "except Refusal as error: print(error)"
    )
    name, value = offline.split("=", 1)
    environment = {**os.environ, name: value, "HF_HOME": str(tmp_path), "no_proxy": "*"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=pack.SOURCES.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    (line,) = ran.stdout.splitlines()
    assert (
        line.startswith("hf://datasets/nobody/nothing: cannot be had from the Hub")
        and "HF_TOKEN" in line
    )
