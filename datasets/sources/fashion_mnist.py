"""Fashion-MNIST: 70,000 articles of clothing of 28 x 28 gray pixels (arXiv 1708.07747)."""

from __future__ import annotations

from datasets import store
from datasets.formats import idx
from datasets.source import Source

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PUBLISHED = idx.files_of(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "fashion-mnist",
    (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)
INSTALLED = "/usr/share/datasets/fashion-mnist"  # by Debian's package dataset-fashion-mnist


def build(*, path: str = "") -> Source:
    """`path` is a folder or archive with the four IDX files, gzipped or not.

    Without one, those of Debian's package dataset-fashion-mnist are read, else they are downloaded (31 MB).
    Raises Refusal for a file that is absent, damaged or another set's.
    """
    installed = INSTALLED if not path and store.exists(INSTALLED) else path
    return idx.digits("fashion_mnist", installed, PUBLISHED, CLASSES)
