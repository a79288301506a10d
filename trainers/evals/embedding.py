"""Features judged by themselves: whether the nearest neighbour within the split is of the same class.

`recall_at_1` is the share of samples whose nearest other sample bears their label (with one neighbour the same as precision
at 1), of those whose class has another sample. A dead feature has one value for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.batch import Batch
from trainers import parallel
from trainers.spectrum import effective_rank, singular_values
from trainers.task import Figure, Finding, Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

NEEDS = ("embedding", "label")
SCORES = ("recall_at_1", "effective_rank", "dead_features")
_ROWS = 1024  # queries at a time
_DRAWN = 1_000


class Embedding:
    def __init__(self, *, distance: Literal["cosine", "euclidean"] = "cosine") -> None:
        self.cosine = distance == "cosine"
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []  # features, labels, ids

    def update(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        label = batch["label"]
        hard_B = label if label.ndim == 1 else label.argmax(1)
        self.rows.append((outputs["embedding"].float(), hard_B, batch["id"]))

    def findings(self) -> Iterator[Finding]:
        own = [torch.cat(columns) for columns in zip(*self.rows, strict=True)]
        whole = [parallel.gathered_rows(column) for column in own]
        embedding_ND = whole[0]
        hits, asked = parallel.summed(self._neighbours(own, whole)).tolist()
        gram_DD = embedding_ND.double().T @ embedding_ND.double()
        yield Scalar("recall_at_1", hits / max(1.0, asked))
        yield Scalar("effective_rank", effective_rank(singular_values(gram_DD)))
        dead_D = embedding_ND.amax(0) == embedding_ND.amin(0)
        yield Scalar("dead_features", float(dead_D.double().mean()))
        yield Figure("distances", lambda: _draw(self._measured(embedding_ND), whole[1]))

    def _neighbours(self, own: list[Tensor], whole: list[Tensor]) -> Tensor:
        """(samples whose nearest other one is of their class, samples whose class has another), of this rank's."""
        found = torch.zeros(2, dtype=torch.float64)
        features_ND, labels_N, ids_N = whole[0], whole[1], whole[2]
        known_ND = self._measured(features_ND)
        sizes_C = torch.bincount(labels_N, minlength=1)
        for first in range(0, len(own[0]), _ROWS):
            embedding, label, number = (column[first : first + _ROWS] for column in own)
            far = torch.cdist(self._measured(embedding), known_ND)
            far.masked_fill_(number[:, None] == ids_N[None], torch.inf)
            right = labels_N[far.argmin(1)] == label
            mates = sizes_C[label] > 1
            found += torch.stack([(right & mates).sum(), mates.sum()]).double().cpu()
        return found

    def _measured(self, features: Tensor) -> Tensor:
        # Of unit vectors the Euclidean order is that of the cosine.
        return F.normalize(features, dim=1) if self.cosine else features


def _draw(features_ND: Tensor, labels_N: Tensor) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    step = max(
        1, len(features_ND) // _DRAWN
    )  # spread over the split, which may lie in order of class
    shown_ND, shown_N = features_ND[::step].cpu(), labels_N[::step].cpu()
    far = torch.cdist(shown_ND, shown_ND)
    above = torch.ones_like(far, dtype=torch.bool).triu(1)
    same = shown_N[:, None] == shown_N[None]
    drawing = Drawing(figsize=(5.6, 3.4), layout="constrained")
    axes = drawing.add_subplot()
    for chosen, name, colour in ((same, "one class", "#0072b2"), (~same, "two classes", "#e69f00")):
        values = far[above & chosen].numpy()
        if len(values):
            axes.hist(values, bins=50, density=True, alpha=0.6, color=colour, label=name)
    axes.set(xlabel="distance of two samples", ylabel="density")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return drawing


build = Embedding
