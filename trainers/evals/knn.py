"""Features judged by their neighbours: weighted k-NN within the split, each sample asking all the others (arXiv 1805.01978).

No classifier is trained, so it can be looked at while features are learnt without labels. A sample is left out of its own
neighbours; `evaluate --protocol knn` asks the training split instead.
"""

# Q samples of this rank, N of all ranks, D features

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from datasets.batch import Batch
from trainers import parallel
from trainers.probing import votes
from trainers.probing.votes import Bank
from trainers.task import Figure, Finding, Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

NEEDS = ("embedding", "label")
SCORES = ("knn_accuracy",)
DRAWN = 1_000  # samples that the figure asks for
TRIED = (1, 2, 5, 10, 20, 50, 100, 200)


class KNN:
    """`k` neighbours vote, or as many as there are."""

    def __init__(
        self, classes: list[str], *, k: PositiveInt = 20, temperature: PositiveFloat = 0.07
    ) -> None:
        self.classes, self.k, self.temperature = len(classes), k, temperature
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []  # features, labels, ids

    def update(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        label = batch["label"]
        hard_B = label if label.ndim == 1 else label.argmax(1)
        unit_BD = F.normalize(outputs["embedding"].float(), dim=1)
        self.rows.append((unit_BD, hard_B, batch["id"]))

    def findings(self) -> Iterator[Finding]:
        own = [torch.cat(columns) for columns in zip(*self.rows, strict=True)]
        bank_ND, labels_N, ids_N = (parallel.gathered_rows(column) for column in own)
        bank = Bank(bank_ND, labels_N, self.classes)
        queries_QD, label_Q, id_Q = own
        found = torch.zeros(2, dtype=torch.float64)
        if len(bank_ND) > 1 and len(queries_QD):
            by_id = ids_N.argsort()  # ids are of the source's rows: each is there once
            place_Q = by_id[torch.searchsorted(ids_N[by_id], id_Q)]
            (told_Q,) = self._told(bank, queries_QD, place_Q, [self.k])
            found = torch.tensor([(told_Q == label_Q).sum(), len(label_Q)], dtype=torch.float64)
        hits, asked = parallel.summed(found).tolist()
        yield Scalar("knn_accuracy", hits / max(1.0, asked))
        yield Figure("neighbours", lambda: self._draw(bank))

    def _told(self, bank: Bank, queries_QD: Tensor, place_Q: Tensor, ks: Sequence[int]) -> Tensor:
        """By as many neighbours as there are, at most."""
        ks = [min(k, len(bank.features) - 1) for k in ks]
        return votes.told(bank, queries_QD, ks=ks, temperature=self.temperature, own_Q=place_Q)

    def _draw(self, bank: Bank) -> Drawing:
        """Accuracy by the number of neighbours, of samples spread over the split."""
        from matplotlib.figure import Figure as Drawing

        rows = len(bank.features)
        asking = torch.arange(0, rows, max(1, rows // DRAWN), device=bank.labels.device)
        ks = [k for k in TRIED if k < rows]
        drawing = Drawing(figsize=(5.6, 3.4), layout="constrained")
        axes = drawing.add_subplot()
        if ks:
            told = self._told(bank, bank.features[asking], asking, ks)
            shares = (told == bank.labels[asking]).double().mean(1).tolist()
            axes.plot(ks, shares, "o-", color="#0072b2", markersize=4)
            axes.set_xscale("log")
            axes.set_xticks(ks, [str(k) for k in ks])
            axes.minorticks_off()
        axes.set(xlabel="neighbours that vote", ylabel="accuracy")
        axes.spines[["top", "right"]].set_visible(False)
        return drawing


build = KNN
