"""Tip-Adapter's cache: features of labelled pictures as keys, their classes as values (arXiv 2111.03930)."""

# B batch, C class, D embedding, K places of a class
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from datasets.refusal import Refusal

EMPTY = -1


def check_room(classes: Sequence[str], counts: Sequence[int], shots: int) -> None:
    """Refuse more pictures of a class than it has places."""
    for name, held in zip(classes, counts, strict=False):
        if held > shots:
            raise Refusal(
                f"class '{name}' has {held} pictures to learn from, the cache holds {shots} of each",
                path="data.subset.shots",
                value=held,
                remedy=f"set data.subset.shots={shots}, or the task's shots",
            )


class Cache(nn.Module):
    """C x K places; those that are empty say nothing."""

    passes: Tensor

    def __init__(self, classes: int, shots: int, width: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(classes, shots, width))
        self.register_buffer("ids", torch.full((classes, shots), EMPTY))
        # How often the sample that came first has come: the number of passes.
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.register_buffer("first", torch.full((), EMPTY))

    def forward(self, image_BD: Tensor, beta: float) -> Tensor:
        """(B, C): exp(-beta (1 - cosine)), summed over each class's places."""
        affinity_BCK = torch.einsum("bd,ckd->bck", image_BD, self.keys)
        near_BCK = (beta * (affinity_BCK - 1)).exp()
        return (near_BCK * (self.get_buffer("ids") != EMPTY)).sum(2)

    @property
    def filled(self) -> Tensor:
        """How many places are filled."""
        return (self.get_buffer("ids") != EMPTY).sum()

    def places(self, ids_B: Tensor, label_B: Tensor) -> Tensor:
        """(B,): the place of each sample in its class, -1 where it has none."""
        equal_BK = self.get_buffer("ids")[label_B] == ids_B[:, None]
        found_B = equal_BK.int().argmax(1)
        found_B = label_B * self.keys.shape[1] + found_B
        return torch.where(equal_BK.any(1), found_B, EMPTY)

    def features(self, places_B: Tensor) -> Tensor:
        """(B, D) of samples that have places."""
        return self.keys.detach().flatten(0, 1)[places_B]

    @torch.no_grad()
    def fill(self, image_BD: Tensor, label_B: Tensor, ids_B: Tensor) -> None:
        """Each sample that has no place gets the next one of its class, while there are any."""
        table = self.get_buffer("ids")
        for row in torch.nonzero(self.places(ids_B, label_B) == EMPTY).flatten().tolist():
            own = table[label_B[row]]
            free = int((own != EMPTY).sum())
            if free < len(own) and not (own == ids_B[row]).any():
                own[free] = ids_B[row]
                self.keys[label_B[row], free] = image_BD[row]

    @torch.no_grad()
    def passed(self, ids_B: Tensor) -> None:
        """Count the passes over the samples."""
        first = self.get_buffer("first")
        if int(first) == EMPTY and len(ids_B):
            first.copy_(ids_B[0])
        self.passes.add_((ids_B == first).any())
