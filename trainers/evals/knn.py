"""Features judged by their neighbours: weighted k-NN within the split, each sample asking all the others (arXiv 1805.01978).

No classifier is trained, so it can be looked at while features are learnt without labels. A sample is left out of its own
neighbours; `evaluate --protocol knn` asks the training split instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from datasets.batch import Batch
from trainers import parallel
from trainers.probing import votes
from trainers.task import Finding, Scalar

NEEDS = ("embedding", "label")
SCORES = ("knn_accuracy",)


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
        queries_QD, label_Q, id_Q = own
        k = min(self.k, len(bank_ND) - 1)
        found = torch.zeros(2, dtype=torch.float64)
        if k > 0 and len(queries_QD):
            by_id = ids_N.argsort()  # ids are of the source's rows: each is there once
            place = by_id[torch.searchsorted(ids_N[by_id], id_Q)]
            bank = votes.Bank(bank_ND, labels_N, max(self.classes, int(labels_N.max()) + 1))
            (told_Q,) = votes.told(
                bank, queries_QD, ks=[k], temperature=self.temperature, own_Q=place
            )
            found = torch.tensor([(told_Q == label_Q).sum(), len(label_Q)], dtype=torch.float64)
        hits, asked = parallel.summed(found).tolist()
        yield Scalar("knn_accuracy", hits / max(1.0, asked))


build = KNN
