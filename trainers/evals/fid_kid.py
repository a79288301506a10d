"""Generated against real pictures in the features of a network: FID (arXiv 1706.08500) and KID (1801.01401), by torchmetrics.

`features` names the network: the folder of a run of ours, `inception` where its weights are at hand, or `random`, a
small one with fixed weights that has learnt nothing. Distances in other features are other numbers: compare only what
has the same. KID is unbiased, whatever the number of pictures; FID is the larger the fewer there are.
"""

# B batch, N rows of a split, D features

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from datasets.batch import Batch
from trainers import extractors, parallel
from trainers.task import Figure, Finding, Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

NEEDS = ("sample", "image")
SCORES = ("kid", "fid")
_DRAWN = 1_000


class FidKid:
    """KID is over `subsets` draws of `subset` pictures; over all at once where there are no more."""

    def __init__(
        self,
        mean: list[float],
        std: list[float],
        *,
        features: str = "random",
        subset: PositiveInt = 1000,
        subsets: PositiveInt = 10,
    ) -> None:
        self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
        self.features, self.subset, self.subsets = features, subset, subsets
        self.said = extractors.extractor(features, torch.device("cpu")).said
        self.found: list[Tensor] = []  # (B, 2, D): of real pictures, of generated ones

    def update(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        extract = extractors.extractor(self.features, batch["image"].device).features
        images = (batch["image"], outputs["sample"])
        if not len(
            batch
        ):  # not every network takes no rows: how wide its features are, one blank row tells
            images = (images[0].new_zeros(1, *images[0].shape[1:]),) * 2
        both = [extract(self._pixels(image))[: len(batch)] for image in images]
        self.found.append(torch.stack(both, dim=1).cpu())

    def findings(self) -> Iterator[Finding]:
        rows_N2D = parallel.gathered_rows(torch.cat(self.found))
        if len(rows_N2D) < 2:  # no spread, so no distance
            return
        real_ND, fake_ND = rows_N2D.unbind(1)
        yield Scalar("kid", kid(real_ND, fake_ND, subset=self.subset, subsets=self.subsets))
        yield Scalar("fid", fid(real_ND, fake_ND))
        yield Figure("features", lambda: _draw(real_ND[:_DRAWN], fake_ND[:_DRAWN], self.said))

    def _pixels(self, image_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) uint8: real and generated ones are rounded alike, as pictures in files are."""
        mean, std = self.mean.to(image_BCHW.device), self.std.to(image_BCHW.device)
        return ((image_BCHW.float() * std + mean) * 255).round().clamp(0, 255).byte()


class _Given(nn.Module):
    """Features for features: they are extracted already, batch by batch, on every rank."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, rows: Tensor) -> Tensor:
        return rows


def kid(real_ND: Tensor, fake_ND: Tensor, *, subset: int, subsets: int) -> float:
    """The mean over subsets of the squared MMD with the kernel (x . y / D + 1)^3. May fall below 0: it is unbiased."""
    from torchmetrics.image.kid import KernelInceptionDistance

    if len(real_ND) <= subset:
        subset, subsets = len(real_ND), 1
    # Every rank has all rows already: torchmetrics must not gather them again.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps all features is what we ask of it
        metric = KernelInceptionDistance(
            feature=_Given(real_ND.shape[1]),
            subsets=subsets,
            subset_size=subset,
            sync_on_compute=False,
        )
    metric.update(real_ND.double(), real=True)
    metric.update(fake_ND.double(), real=False)
    # It draws its subsets from the default generator: the same ones on every rank, and nothing else is moved.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return float(metric.compute()[0])


def fid(real_ND: Tensor, fake_ND: Tensor) -> float:
    """The squared distance of two normal distributions with the features' means and covariances."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(real_ND.shape[1]), sync_on_compute=False)
    metric.update(real_ND.double(), real=True)
    metric.update(fake_ND.double(), real=False)
    return float(metric.compute())


def _draw(real_ND: Tensor, fake_ND: Tensor, said: str) -> Drawing:
    """Both in the plane in which the real ones spread most."""
    from matplotlib.figure import Figure as Drawing

    middle = real_ND.mean(0)
    axes_DK = torch.linalg.svd(real_ND - middle, full_matrices=False)[2][:2].T
    drawing = Drawing(figsize=(5, 4.4), layout="constrained")
    axes = drawing.add_subplot()
    for rows, label, colour in ((real_ND, "real", "#94a3b8"), (fake_ND, "generated", "#d55e00")):
        x, y = ((rows - middle) @ axes_DK).T.numpy()
        axes.plot(x, y, "o", markersize=3, color=colour, alpha=0.7, label=label)
    axes.set(xlabel="first principal component", ylabel="second")
    axes.set_title(f"features of {said}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return drawing


build = FidKid
