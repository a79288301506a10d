"""manifest.json is read strictly: each lie is refused with the manifest's path and the value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets import shards
from datasets.packed import manifest as manifests
from datasets.packed import reading
from datasets.refusal import Refusal
from datasets.shards import Dataset


def edit(dataset: Dataset, change: Callable[[dict[str, Any]], None]) -> Path:
    """Changes manifest.json, whose digest then no longer agrees."""
    path = Path(dataset.url, manifests.NAME)
    found = json.loads(path.read_bytes())
    change(found)
    path.write_text(json.dumps(found))
    return path


def first_shard(found: dict[str, Any]) -> dict[str, Any]:
    shard: dict[str, Any] = found["splits"]["train"]["shards"][0]
    return shard


def test_the_manifest_round_trips(packed: Dataset) -> None:
    manifest = shards.open_dataset(packed.url).manifest
    assert reading.parsed(manifest.to_json(), "m") == manifest
    assert manifest.splits["train"].rows == 1797
    assert manifest.packed["source"] == "digits"
    assert manifest.packed["row_order"] == {"shuffled_by_seed": 0}


def claim(found: dict[str, Any], **sizes: int) -> None:
    """A shard of one record batch, and a split of that shard, of these sizes."""
    shard = first_shard(found)
    shard["batches"] = shard["batches"][:1]
    shard["batches"][0].update(sizes)
    rows = shard["batches"][0]["rows"]
    shard.update(rows=rows, bytes=sizes.get("bytes", shard["bytes"]) + 1000)
    shard["batches"][0].pop("bytes", None)
    found["splits"]["train"].update(rows=rows, shards=[shard])


LIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "key missing": (lambda m: m.pop("classes"), "no 'classes'"),
    "key unknown": (lambda m: m.update(colour=1), "unknown 'colour'"),
    "newer format": (lambda m: m.update(format=99), "format 99"),
    "kind": (lambda m: m.update(kind="video"), "kind 'video'"),
    "codec": (lambda m: m.update(codec="jpeg"), "codec 'jpeg'"),
    "name": (lambda m: m.update(name=3), "name is 3"),
    "shape text": (lambda m: m.update(shape="8x8"), "shape is '8x8'"),
    "shape short": (lambda m: m.update(shape=[8, 8]), "shape .8, 8."),
    "shape zero": (lambda m: m.update(shape=[8, 8, 0]), "shape .8, 8, 0."),
    "shape bool": (lambda m: m.update(shape=[8, 8, True]), "shape is True"),
    "no id": (lambda m: m["columns"].pop("id"), "no column 'id'"),
    "no image": (lambda m: m["columns"].pop("image"), "no column 'image'"),
    "column type": (lambda m: m["columns"].update(label="object"), "column 'label' is 'object'"),
    "column list": (lambda m: m["columns"].update(label=["int64"]), "column 'label' is"),
    "two classes": (lambda m: m["classes"].__setitem__(0, "1"), "two classes"),
    "class number": (lambda m: m["classes"].__setitem__(0, 1), "classes is 1"),
    "mean short": (lambda m: m.update(mean=[]), "mean .. does not fit"),
    "mean nan": (lambda m: m.update(mean=[float("nan")]), "mean .nan. does not fit"),
    "mean text": (lambda m: m.update(mean=["0.1"]), "mean is '0.1'"),
    "no splits": (lambda m: m.update(splits={}), "no splits"),
    "splits list": (lambda m: m.update(splits=[]), "splits is"),
    "split rows": (lambda m: m["splits"]["train"].update(rows=9), "says 9 rows, its shards 1797"),
    "negative rows": (lambda m: m["splits"]["train"].update(rows=-1), "rows is -1"),
    "shard rows": (lambda m: first_shard(m).update(rows=9), "says 9 rows, its batches 1797"),
    "shard bytes": (lambda m: first_shard(m).update(bytes=-4), "bytes is -4"),
    "small shard": (lambda m: first_shard(m).update(bytes=1000), "of a shard of 1000"),
    "rows text": (lambda m: first_shard(m).update(rows="9"), "rows is '9'"),
    "rows float": (lambda m: first_shard(m).update(rows=1797.0), "rows is 1797.0"),
    "escape": (lambda m: first_shard(m).update(path="../x.arrow"), "'../x.arrow' leaves"),
    "absolute": (lambda m: first_shard(m).update(path="/etc/passwd"), "'/etc/passwd' leaves"),
    "backslash": (lambda m: first_shard(m).update(path="..\\x"), "leaves the folder"),
    "twice": (lambda m: first_shard(m).update(path="test-00000.arrow"), "listed twice"),
    "overlap": (lambda m: first_shard(m)["batches"][1].update(offset=300), "overlap"),
    "negative offset": (lambda m: first_shard(m)["batches"][0].update(offset=-8), "offset is -8"),
    "checksum": (lambda m: first_shard(m)["batches"][0].update(checksum="zz"), "checksum 'zz'"),
    "huge batch": (lambda m: claim(m, bytes=2**50, length=2**50), "has 1125899906842624 bytes"),
    "huge rows": (lambda m: claim(m, rows=10**12), "has 1000000000000 rows, at least"),
    "huge shape": (lambda m: m.update(shape=[2**40, 2**40, 1]), "a row of these columns has"),
    "large shape": (lambda m: m.update(shape=[8000, 8000, 1]), "rows, at least"),
    "batches": (lambda m: first_shard(m).update(batches=None), "batches is None"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_is_refused_when_opened(packed: Dataset, lie: str) -> None:
    change, words = LIES[lie]
    path = edit(packed, change)
    with pytest.raises(Refusal, match=words) as caught:
        shards.open_dataset(packed.url)
    assert caught.value.path == str(path) and "\n" not in str(caught.value)


def test_a_manifest_changed_after_packing_is_refused(packed: Dataset) -> None:
    edit(packed, lambda found: found["classes"].reverse())
    with pytest.raises(Refusal, match="changed after packing"):
        shards.open_dataset(packed.url)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}"])
def test_what_is_no_manifest_is_refused(packed: Dataset, data: bytes) -> None:
    Path(packed.url, manifests.NAME).write_bytes(data)
    with pytest.raises(Refusal) as caught:
        shards.open_dataset(packed.url)
    assert manifests.NAME in caught.value.path
