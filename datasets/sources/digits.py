"""1,797 handwritten digits of 8 x 8 gray pixels (UCI optdigits test set, as in scikit-learn)."""

from __future__ import annotations

import numpy as np

from datasets.source import Source


def build() -> Source:
    """Pixels of 0 .. 16 become uint8 by round(v * 255 / 16); the id is scikit-learn's row."""
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    pixels = np.round(digits.images * 255 / 16).astype(np.uint8)
    return Source(
        name="digits",
        kind="image",
        shape=(8, 8, 1),
        classes=tuple(str(digit) for digit in range(10)),
        columns={
            "id": np.arange(len(pixels), dtype=np.int64),
            "label": digits.target.astype(np.int64),
            "image": pixels[..., None],
        },
    )
