"""CIFAR-10: 60,000 photographs of 32 x 32 pixels in 10 classes (Krizhevsky 2009)."""

from __future__ import annotations

from datasets.formats import cifar
from datasets.formats.cifar import Form
from datasets.formats.downloads import Published
from datasets.source import Source

ARCHIVE = Published(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    checksum="md5:c58f30108f718f92721af3b95e74349a",
    name="cifar-10-python.tar.gz",
)
PYTHON = Form(
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    names={"label": ("batches.meta", "label_names")},
    labels={"label": "labels"},
    binary=False,
)
BINARY = Form(
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test="test_batch.bin",
    names={"label": ("batches.meta.txt", "")},
    labels={"label": ""},
    binary=True,
)


def build(*, path: str = "") -> Source:
    """`path` is the python or binary release, as .tar.gz or unpacked; without one, it is downloaded (170 MB).

    The split is the official one, the id the row, those of test after those of train.
    Raises Refusal for a file that is absent or damaged, or a pickle that wants to run something.
    """
    return cifar.build("cifar10", path, ARCHIVE, (PYTHON, BINARY), {"label": 10})
