"""Pictures and their captions found by each other: whether the nearest one of the split says the same.

`text_recall_at_1` is the share of pictures whose nearest caption is theirs, or reads the same; `image_recall_at_1` the reverse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.batch import Batch
from trainers import parallel
from trainers.task import Finding, Scalar

NEEDS = ("embedding", "text", "tokens")
SCORES = ("text_recall_at_1", "image_recall_at_1")
_ROWS = 1024  # queries at a time


class CaptionRetrieval:
    def __init__(self) -> None:
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []  # pictures, captions, tokens

    def update(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        self.rows.append((outputs["embedding"], outputs["text"], batch["tokens"]))

    def findings(self) -> Iterator[Finding]:
        own = [torch.cat(columns) for columns in zip(*self.rows, strict=True)]
        whole = [parallel.gathered_rows(column) for column in own]
        names = {"text_recall_at_1": (0, 1), "image_recall_at_1": (1, 0)}
        for name, (asked, known) in names.items():
            hits = parallel.summed(_hits(own[asked], own[2], whole[known], whole[2]))
            yield Scalar(name, float(hits) / max(1, len(whole[0])))


def _hits(asked_ND: Tensor, said_NL: Tensor, known_MD: Tensor, tokens_ML: Tensor) -> Tensor:
    """How many of the asked find one that says the same."""
    known_MD = F.normalize(known_MD.float(), dim=1)
    found = torch.zeros((), dtype=torch.float64)
    for first in range(0, len(asked_ND), _ROWS):
        part = slice(first, first + _ROWS)
        nearest = (F.normalize(asked_ND[part].float(), dim=1) @ known_MD.T).argmax(1)
        found += (tokens_ML[nearest] == said_NL[part]).all(1).sum().double().cpu()
    return found


build = CaptionRetrieval
