"""Pictures and their captions found by each other: whether the nearest one of the split says the same.

`text_recall_at_1` is the share of pictures whose nearest caption is theirs, or reads the same; `image_recall_at_1` the reverse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.batch import Batch
from trainers import parallel
from trainers.task import Figure, Finding, Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

NEEDS = ("embedding", "text", "tokens")
SCORES = ("text_recall_at_1", "image_recall_at_1")
_ROWS = 1024  # queries at a time
_DRAWN = 500


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
        yield Figure("similarities", lambda: _draw(*whole))


def _hits(asked_ND: Tensor, said_NL: Tensor, known_MD: Tensor, tokens_ML: Tensor) -> Tensor:
    """How many of the asked find one that says the same."""
    known_MD = F.normalize(known_MD.float(), dim=1)
    found = torch.zeros((), dtype=torch.float64)
    for first in range(0, len(asked_ND), _ROWS):
        part = slice(first, first + _ROWS)
        nearest = (F.normalize(asked_ND[part].float(), dim=1) @ known_MD.T).argmax(1)
        found += (tokens_ML[nearest] == said_NL[part]).all(1).sum().double().cpu()
    return found


def _draw(image_ND: Tensor, text_ND: Tensor, tokens_NL: Tensor) -> Drawing:
    """How near pictures lie to captions that are theirs, and to those that are not."""
    from matplotlib.figure import Figure as Drawing

    step = max(1, len(image_ND) // _DRAWN)  # spread over the split, which may lie in order of class
    image_ND, text_ND, said = (rows[::step].cpu() for rows in (image_ND, text_ND, tokens_NL))
    near_NN = F.normalize(image_ND.float(), dim=1) @ F.normalize(text_ND.float(), dim=1).T
    same_NN = (said[:, None] == said[None]).all(2)
    drawing = Drawing(figsize=(5.6, 3.4), layout="constrained")
    axes = drawing.add_subplot()
    kinds = ((same_NN, "its caption", "#0072b2"), (~same_NN, "another caption", "#e69f00"))
    for chosen, name, colour in kinds:
        if chosen.any():
            values = near_NN[chosen].numpy()
            axes.hist(values, bins=50, density=True, alpha=0.6, color=colour, label=name)
    axes.set(xlabel="cosine of picture and caption", ylabel="density")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return drawing


build = CaptionRetrieval
