"""IDX files, as MNIST is published in (yann.lecun.com/exdb/mnist), gzipped or not."""

from __future__ import annotations

import gzip
import io
import math
import zlib

import numpy as np
from numpy.typing import NDArray

from datasets.formats import downloads, files
from datasets.formats.downloads import Published
from datasets.formats.trees import Tree
from datasets.refusal import Refusal
from datasets.remote import explained
from datasets.source import Source

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MOST_BYTES = 2**31


def digits(
    name: str, path: str, published: tuple[Published, ...], classes: tuple[str, ...]
) -> Source:
    """The four files below `path`, or the published ones where it is empty, as 28 x 28 gray pictures.

    The id is the row in the file, those of test after those of train. Raises Refusal for a file that is absent or damaged.
    """
    tree = files.open_tree(path, name) if path else None
    rows = {split: _split(tree, published, names) for split, names in NAMES.items()}
    images = np.concatenate([images for images, _ in rows.values()])
    labels = np.concatenate([labels for _, labels in rows.values()]).astype(np.int64)
    if labels.size and labels.max() >= len(classes):
        raise Refusal(
            f"there is a label {labels.max()}, but {len(classes)} classes",
            path=tree.path() if tree else name,
            value=int(labels.max()),
            remedy=f"check that these are the files of {name}",
        )
    num_train = len(rows["train"][1])
    ids = np.arange(len(labels), dtype=np.int64)
    return Source(
        name=name,
        kind="image",
        shape=(*images.shape[1:], 1),
        classes=classes,
        columns={"id": ids, "label": labels, "image": images[..., None]},
        splits={"train": ids[:num_train], "test": ids[num_train:]},
    )


def _split(
    tree: Tree | None, published: tuple[Published, ...], names: tuple[str, str]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """images (N, H, W) and labels (N,)."""
    images, labels = (_file(tree, published, name) for name in names)
    where = tree.path() if tree else names[0]
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise Refusal(
            f"{names[0]} has shape {images.shape} and {names[1]} {labels.shape}",
            path=where,
            remedy="use the images and labels of one set",
        )
    return images, labels


def _file(tree: Tree | None, published: tuple[Published, ...], name: str) -> NDArray[np.uint8]:
    if tree is None:
        (file,) = (file for file in published if file.url.endswith(f"/{name}.gz"))
        place = downloads.fetch(file)
        with explained("read", place), open(place, "rb") as stream:
            return read(stream.read(), place)
    dotted = name.replace("-idx", ".idx")  # as some unpack it
    known = {f"{stem}{suffix}" for stem in (name, dotted) for suffix in ("", ".gz")}
    found = [path for path in tree.names if path.rpartition("/")[2] in known]
    if not found:
        raise Refusal(
            f"has no file {name}.gz",
            path=tree.path(),
            value=name,
            remedy="put it there, or leave out data.source.path",
        )
    nearest = min(found, key=lambda path: (path.count("/"), path))
    return read(tree.read(nearest), tree.path(nearest))


def read(data: bytes, path: str) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes. Raises Refusal, naming `path`, where it is not a whole one."""
    stream: io.BufferedIOBase = io.BytesIO(data)
    if data[:2] == b"\x1f\x8b":
        stream = gzip.GzipFile(fileobj=stream)
    try:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
            raise _damaged(path, "it does not start as an IDX file of bytes does")
        header = stream.read(4 * magic[3])
        shape = tuple(int(size) for size in np.frombuffer(header[: len(header) // 4 * 4], ">u4"))
        if len(shape) != magic[3] or math.prod(shape) > MOST_BYTES:
            raise _damaged(path, f"its header says {shape}")
        # One byte more than there should be: a longer file is no better than a shorter one.
        values = stream.read(math.prod(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    if len(values) != math.prod(shape):
        raise _damaged(
            path,
            f"it should have {math.prod(shape)} values and has {'more' if len(values) > math.prod(shape) else len(values)}",
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _damaged(path: str, reason: str) -> Refusal:
    return Refusal(
        f"is cut short or damaged: {reason}", path=path, remedy="get it again from its publisher"
    )


def files_of(
    address: str, folder: str, checksums: tuple[str, str, str, str]
) -> tuple[Published, ...]:
    """The four published files; checksums in the order of `NAMES`."""
    names = [f"{name}.gz" for pair in NAMES.values() for name in pair]
    return tuple(
        Published(url=f"{address}/{name}", checksum=f"md5:{checksum}", name=f"{folder}/{name}")
        for name, checksum in zip(names, checksums, strict=True)
    )
