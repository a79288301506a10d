"""CIFAR-100: 60,000 photographs of 32 x 32 pixels in 100 classes, which form 20 superclasses (Krizhevsky 2009)."""

from __future__ import annotations

from datasets.formats import cifar
from datasets.formats.cifar import Form
from datasets.formats.downloads import Published
from datasets.source import Source

ARCHIVE = Published(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    checksum="md5:eb9058c3a382ffc7106e4002c42a8d85",
    name="cifar-100-python.tar.gz",
)
PYTHON = Form(
    train=("train",),
    test="test",
    names={"label": ("meta", "fine_label_names")},
    labels={"label": "fine_labels", "coarse": "coarse_labels"},
    binary=False,
)
BINARY = Form(
    train=("train.bin",),
    test="test.bin",
    names={"label": ("fine_label_names.txt", "")},
    labels={"label": "", "coarse": ""},
    binary=True,
)


def build(*, path: str = "") -> Source:
    """`path` is the python or binary release, as .tar.gz or unpacked; without one, it is downloaded (169 MB).

    The split is the official one, the id the row, those of test after those of train; the column `coarse` int64 (N,)
    is the superclass, 0 .. 19. Raises Refusal for a file that is absent or damaged, or a pickle that wants to run
    something.
    """
    return cifar.build("cifar100", path, ARCHIVE, (PYTHON, BINARY), {"label": 100, "coarse": 20})
