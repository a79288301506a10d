"""Mixing of samples: CutMix and MixUp on the device, each a factory: `cutmix(alpha=1.0)`.

A mixer maps a batch's pictures (B, C, H, W), their partners of the same shape and a key to mixed pictures, and says which
share of each sample's label stays its own. The partner of a slot is the slot before it in the **global** batch, the first
one's is the last, and what is drawn is drawn once a batch from its key: so mixtures are the same on any number of ranks.
The arithmetic is that of torchvision's v2.MixUp (arXiv 1710.09412) and v2.CutMix (arXiv 1905.04899). A new one is a new
public function here.
"""

# B batch, C channel, H height, W width

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from pydantic import PositiveFloat

from datasets import order
from datasets.batch import Batch
from datasets.ranges import Probability

if TYPE_CHECKING:
    from torch import Tensor

Mixer: TypeAlias = "Callable[[Tensor, Tensor, int], tuple[Tensor, float]]"


def mixup(*, alpha: PositiveFloat = 1.0, probability: Probability = 1.0) -> Mixer:
    """Weighted means of two pictures and their labels; the weight is drawn from Beta(alpha, alpha)."""

    def mixer(own: Tensor, partner: Tensor, key: int) -> tuple[Tensor, float]:
        if _draw(key, 0) >= probability:
            return own, 1.0
        share = _beta(alpha, _draw(key, 1))
        return own * share + partner * (1 - share), share

    return mixer


def cutmix(*, alpha: PositiveFloat = 1.0, probability: Probability = 1.0) -> Mixer:
    """A box of the partner is pasted over each picture; its area, cut at the rim, is the label's share."""

    def mixer(own: Tensor, partner: Tensor, key: int) -> tuple[Tensor, float]:
        if _draw(key, 0) >= probability:
            return own, 1.0
        height, width = own.shape[-2:]
        extent = 0.5 * (1 - _beta(alpha, _draw(key, 1))) ** 0.5
        middle_x, middle_y = int(_draw(key, 2) * width), int(_draw(key, 3) * height)
        half_x, half_y = int(extent * width), int(extent * height)
        left, right = max(middle_x - half_x, 0), min(middle_x + half_x, width)
        top, bottom = max(middle_y - half_y, 0), min(middle_y + half_y, height)
        mixed = own.clone()
        mixed[..., top:bottom, left:right] = partner[..., top:bottom, left:right]
        return mixed, 1 - (right - left) * (bottom - top) / (width * height)

    return mixer


class Mixing:
    """One of several mixers a batch, chosen by its key; labels become shares of classes (B, num_classes) float32."""

    def __init__(self, mixers: Sequence[Mixer], num_classes: int) -> None:
        self.mixers, self.num_classes = mixers, num_classes

    def __call__(self, batch: Batch) -> Batch:
        """`batch` after it was made ready; where it has a guest, the first row is the first slot's partner, and goes."""
        import torch.nn.functional as F

        columns = dict(batch.columns)
        columns["label"] = F.one_hot(columns["label"], self.num_classes).float()
        key = order.extended(batch.key, "mixing")
        mixer = self.mixers[int(_draw(key, 4) * len(self.mixers))]
        own = {name: values[int(batch.guest) :] for name, values in columns.items()}
        share = 1.0
        for name in batch.pictures:  # all views alike: a sample has one label
            own[name], share = mixer(*_pair(columns[name], batch.guest), key)
        for name in ("label", "weight"):
            if name in columns:
                mine, theirs = _pair(columns[name], batch.guest)
                own[name] = mine * share + theirs * (1 - share)
        return Batch(own, batch.key, batch.weightless)


def _pair(values: Tensor, guest: bool) -> tuple[Tensor, Tensor]:
    """A column's rows, and those of their partners."""
    return (values[1:], values[:-1]) if guest else (values, values.roll(1, 0))


def _draw(key: int, number: int) -> float:
    return float(order.uniform(key, 0, number)[0])


def _beta(alpha: float, share: float) -> float:
    """The quantile of Beta(alpha, alpha): a draw from it where `share` is uniform."""
    if alpha == 1.0:
        return share
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, share))
