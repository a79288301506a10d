"""CIFAR-10 and CIFAR-100 in their python and binary forms, made small; and pickles that are no data."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.formats import cifar
from datasets.refusal import Refusal
from datasets.sources import cifar10, cifar100

Files = dict[str, bytes]
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE = [f"fine {number:02}" for number in range(100)]


def pixels(num: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (num, 3072), dtype=np.uint8)


def python10(protocol: int = 2, coded: Callable[[str], Any] = str) -> Files:
    """Five batches of 4 and one of 3, by Python 2's protocol unless told otherwise."""
    files = {}
    for seed, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        num = 4 if seed < 5 else 3
        held = {
            "batch_label": name,
            "data": pixels(num, seed),
            "labels": [(seed + i) % 10 for i in range(num)],
        }
        files[f"cifar-10-batches-py/{name}"] = pickle.dumps(
            {coded(k): v for k, v in held.items()}, protocol
        )
    meta = {coded("label_names"): NAMES, coded("num_vis"): 3072}
    return {**files, "cifar-10-batches-py/batches.meta": pickle.dumps(meta, protocol)}


def binary10() -> Files:
    files = {}
    for seed, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        num = 4 if seed < 5 else 3
        rows = zip(range(num), pixels(num, seed), strict=True)
        data = b"".join(bytes([(seed + i) % 10]) + row.tobytes() for i, row in rows)
        files[f"cifar-10-batches-bin/{name}.bin"] = data
    return {**files, "cifar-10-batches-bin/batches.meta.txt": ("\n".join(NAMES) + "\n\n").encode()}


def python100() -> Files:
    files = {}
    for name, num in (("train", 5), ("test", 2)):
        held = {
            "data": pixels(num, num),
            "fine_labels": [99 - i for i in range(num)],
            "coarse_labels": [19 - i for i in range(num)],
        }
        files[f"cifar-100-python/{name}"] = pickle.dumps(held, 2)
    meta = {"fine_label_names": FINE, "coarse_label_names": [str(n) for n in range(20)]}
    return {**files, "cifar-100-python/meta": pickle.dumps(meta, 2)}


def binary100() -> Files:
    files = {}
    for name, num in (("train", 5), ("test", 2)):
        rows = enumerate(pixels(num, num))
        data = b"".join(bytes([19 - i, 99 - i]) + row.tobytes() for i, row in rows)
        files[f"cifar-100-binary/{name}.bin"] = data
    return {**files, "cifar-100-binary/fine_label_names.txt": "\n".join(FINE).encode()}


@pytest.mark.parametrize(
    "made", [python10, binary10, lambda: python10(4), lambda: python10(2, str.encode)]
)
@pytest.mark.parametrize("kind", ["folder", "inside", "cifar.tar.gz"])
def test_cifar10(
    made: Callable[[], Files], kind: str, fill: Callable[..., Path], archive: Callable[..., Path]
) -> None:
    files = made()
    path = archive(files, kind) if "." in kind else fill(files)
    source = cifar10.build(
        path=str(path / next(iter(files)).partition("/")[0] if kind == "inside" else path)
    )
    assert source.classes == tuple(NAMES) and source.shape == (32, 32, 3)
    assert source.columns["id"].tolist() == list(range(23))
    assert source.splits is not None
    assert source.splits["test"].tolist() == [20, 21, 22] and len(source.splits["train"]) == 20
    assert source.columns["label"][[4, 20, 22]].tolist() == [1, 5, 7]
    row, image = pixels(4, 1)[2], source.columns["image"][6]
    assert image[0, 1].tolist() == [
        row[1],
        row[1025],
        row[2049],
    ]  # red, green, blue of the second pixel
    assert image[1, 0].tolist() == [row[32], row[1056], row[2080]]


@pytest.mark.parametrize("made", [python100, binary100])
def test_cifar100(made: Callable[[], Files], fill: Callable[..., Path]) -> None:
    source = cifar100.build(path=str(fill(made())))
    assert source.classes == tuple(FINE)
    assert source.columns["label"].tolist() == [99, 98, 97, 96, 95, 99, 98]
    assert source.columns["coarse"].tolist() == [19, 18, 17, 16, 15, 19, 18]
    assert source.columns["image"][5, 0, 0].tolist() == pixels(2, 2)[0, ::1024].tolist()


class Runs:
    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.what = (call, arguments)

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (os.system, ("touch ran",)),
        (subprocess.check_call, (["touch", "ran"],)),
        (eval, ("open('ran', 'w')",)),
        (np.fromfile, ("/etc/passwd",)),
        (getattr, (os, "name")),
        (np.load, ("/etc/passwd",)),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_runs_something_is_refused(
    protocol: int,
    call: Callable[..., Any],
    arguments: tuple[Any, ...],
    fill: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] is os:
        arguments = (tmp_path, "name")
    bad = pickle.dumps({"data": Runs(call, *arguments)}, protocol)
    folder = fill({**python10(), "cifar-10-batches-py/data_batch_2": bad})
    with pytest.raises(Refusal, match="the pickle asks for") as caught:
        cifar10.build(path=str(folder))
    assert caught.value.path.endswith("data_batch_2") and not (tmp_path / "ran").exists()


def test_a_nested_name_is_refused() -> None:
    """Protocol 4 may ask for an attribute of what is allowed."""
    asked = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    with pytest.raises(Refusal, match="asks for 'numpy.ndarray.tofile'"):
        cifar.unpickled(asked, "x")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("data_batch_3", b"", "damaged"),
        ("data_batch_3", python10()["cifar-10-batches-py/data_batch_3"][:500], "damaged"),
        ("data_batch_3", pickle.dumps([1]), "holds no dictionary"),
        (
            "data_batch_3",
            pickle.dumps({"data": pixels(2, 0), "labels": [1]}),
            "2 pictures have 1 labels",
        ),
        (
            "data_batch_3",
            pickle.dumps({"data": pixels(1, 0), "labels": [10]}),
            "labels 10 .. 10 of 10",
        ),
        ("data_batch_3", pickle.dumps({"data": pixels(1, 0), "labels": [10**30]}), "no label"),
        (
            "data_batch_3",
            pickle.dumps({"data": pixels(1, 0), "labels": ["a"]}),
            "no list of integers",
        ),
        (
            "data_batch_3",
            pickle.dumps({"data": pixels(1, 0)[:, 1:], "labels": [1]}),
            "no array of uint8",
        ),
        (
            "data_batch_3",
            pickle.dumps({"data": np.array([[None] * 3072]), "labels": [1]}),
            "no array",
        ),
        ("batches.meta", pickle.dumps({"label_names": NAMES[:9]}), "not 10 names"),
        ("batches.meta", pickle.dumps({}), "not 10 names"),
    ],
)
def test_damaged_pickles_are_refused(
    file: str, content: bytes, words: str, fill: Callable[..., Path]
) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        cifar10.build(path=str(fill({**python10(), f"cifar-10-batches-py/{file}": content})))
    assert caught.value.path.endswith(file)


def test_cut_and_absent_binaries_are_refused(fill: Callable[..., Path]) -> None:
    folder = fill(binary10())
    batch = folder / "cifar-10-batches-bin" / "data_batch_4.bin"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(Refusal, match="12291 bytes are not records of 3073"):
        cifar10.build(path=str(folder))
    batch.unlink()
    with pytest.raises(Refusal, match="has no file 'data_batch_4.bin'"):
        cifar10.build(path=str(folder))
    with pytest.raises(Refusal, match="neither test nor test.bin"):
        cifar100.build(path=str(folder))
