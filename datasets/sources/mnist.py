"""MNIST: 70,000 handwritten digits of 28 x 28 gray pixels (LeCun, Cortes, Burges)."""

from __future__ import annotations

from datasets.formats import idx
from datasets.source import Source

PUBLISHED = idx.files_of(
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "mnist",
    (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)


def build(*, path: str = "") -> Source:
    """`path` is a folder or archive with the four IDX files, gzipped or not; without one, they are downloaded (12 MB).

    Raises Refusal for a file that is absent, damaged or another set's.
    """
    return idx.digits("mnist", path, PUBLISHED, tuple(str(digit) for digit in range(10)))
