"""Whether a network is alive: how many directions its features spread over, and units that never answer.

The effective rank is that of the features before the head over the split, not centred (Roy & Vetterli, EUSIPCO 2007): 1
where all pictures look the same to the network. A unit is dead that is 0 for every picture, everywhere in it; only those
of rectifiers (ReLU) can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datasets.batch import Batch
from trainers import parallel
from trainers.spectrum import effective_rank, singular_values
from trainers.task import Figure, Finding, Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

NEEDS = ("embedding", "active")
SCORES = ("effective_rank", "dead_units")


class Health:
    def __init__(self) -> None:
        self.gram_DD = torch.zeros(0, 0, dtype=torch.float64)
        self.answers_U = torch.zeros(0, dtype=torch.int64)  # pictures that a unit answered to

    def update(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        embedding_BD, active_BU = outputs["embedding"].double(), outputs["active"]
        if not len(self.gram_DD):
            self.gram_DD = embedding_BD.new_zeros(embedding_BD.shape[1], embedding_BD.shape[1])
            self.answers_U = active_BU.new_zeros(active_BU.shape[1], dtype=torch.int64)
        self.gram_DD += embedding_BD.T @ embedding_BD
        self.answers_U += active_BU.sum(0)

    def findings(self) -> Iterator[Finding]:
        singular_D = singular_values(parallel.summed(self.gram_DD)).cpu()
        answers_U = parallel.summed(self.answers_U)
        yield Scalar("effective_rank", effective_rank(singular_D))
        dead = (answers_U == 0).double().mean() if len(answers_U) else 0.0
        yield Scalar("dead_units", float(dead))
        yield Figure("spectrum", lambda: _draw(singular_D))


def _draw(singular_D: Tensor) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(5.6, 3.4), layout="constrained")
    axes = drawing.add_subplot()
    share_D = singular_D / singular_D.sum().clamp(min=1e-300)
    axes.plot(range(1, len(share_D) + 1), share_D.clamp(min=1e-12), color="#0072b2", linewidth=2)
    rank = effective_rank(singular_D)
    axes.axvline(rank, color="#94a3b8", linestyle="--", linewidth=1)
    axes.annotate(
        f"effective rank {rank:.1f}",
        (rank, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -12),
        textcoords="offset points",
        fontsize=8,
        color="#475569",
    )
    axes.set(xlabel="direction", ylabel="share of the singular values", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    return drawing


build = Health
