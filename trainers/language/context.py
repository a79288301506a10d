"""Prompts of which some vectors are learnt: the vectors, and where in each class's prompt they stand."""

# C class, L tokens, M context, W width of the text tower
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from datasets.formats import tokens
from datasets.refusal import Refusal
from trainers.language import towers

DEVIATION = 0.02  # of random vectors, as of CLIP's own at their beginning
COUNT = 16  # of vectors, where nothing is said


class Context(nn.Module):
    """(M, W), or (C, M, W) where each of `classes` has its own."""

    def __init__(
        self, model: nn.Module, *, words: str, count: int | None, classes: int | None
    ) -> None:
        super().__init__()
        table_VW = towers.of(model).token_embedding.weight.detach()
        known = tokens.encoded(words)
        self.count = count or len(known) or COUNT
        if len(known) > self.count:
            raise Refusal(
                f"'{words}' is {len(known)} tokens, the context has {self.count}",
                path="context",
                value=self.count,
                remedy=f"use {len(known)} or more, or leave it out",
            )
        first = torch.randn(self.count, table_VW.shape[1]) * DEVIATION
        if known:
            first[-len(known) :] = table_VW[known].to(first)
        self.vectors = nn.Parameter(first if classes is None else first.repeat(classes, 1, 1))
        if classes is not None and not known:
            nn.init.normal_(self.vectors, std=DEVIATION)

    def forward(self) -> Tensor:
        return self.vectors.clone()


class Layout(nn.Module):
    """The prompts of the classes: start, context and name in the order that `position` says, a full stop, end."""

    def __init__(self, model: nn.Module, names: list[str], *, count: int, position: str) -> None:
        super().__init__()
        most = int(towers.of(model).positional_embedding.shape[0])
        rows = [_row(tokens.encoded(name.replace("_", " ")), count, position) for name in names]
        longest = max(rows, key=len)
        if len(longest) > most:
            name = names[rows.index(longest)]
            own = len(longest) - count
            raise Refusal(
                f"the prompt of class '{name}' is {len(longest)} tokens long ({count} of context, {own} of its own), "
                f"the model reads {most}",
                value=name,
                remedy=f"use context={most - own} or fewer, or give the class a shorter name in `names`"
                if most > own
                else "give the class a shorter name in `names`",
            )
        table = np.zeros((2, len(rows), len(longest)), np.int64)
        for number, row in enumerate(rows):
            table[:, number, : len(row)] = np.array(row).T
        last = np.array([len(row) - 1 for row in rows])
        self.register_buffer("words", torch.from_numpy(table[0]), persistent=False)  # (C, L)
        # (C, L): 0 where a word stands, else the number of the context's vector, from 1.
        self.register_buffer("places", torch.from_numpy(table[1]), persistent=False)
        self.register_buffer("_ends", torch.from_numpy(last), persistent=False)

    @property
    def ends(self) -> Tensor:
        """(C,): where each prompt ends."""
        return self.get_buffer("_ends")

    def forward(self, model: nn.Module, context: Tensor) -> Tensor:
        """(C, L, W), of a context (M, W) or (C, M, W)."""
        words_CLW, index_CL, learnt_CL1 = self._parts(model)
        context_CMW = context if context.ndim == 3 else context.expand(len(words_CLW), -1, -1)
        index_CLW = index_CL[..., None].expand_as(words_CLW)
        return torch.where(learnt_CL1, context_CMW.gather(1, index_CLW), words_CLW)

    def of_each(self, model: nn.Module, context_BMW: Tensor) -> Tensor:
        """(B, C, L, W), of a context for each of B pictures."""
        words_CLW, index_CL, learnt_CL1 = self._parts(model)
        return torch.where(learnt_CL1, context_BMW[:, index_CL], words_CLW)

    def _parts(self, model: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """(C, L, W) words, (C, L) the vector that stands there if one does, (C, L, 1) whether one does."""
        words_CL, places_CL = self.get_buffer("words"), self.get_buffer("places")
        words_CLW: Tensor = towers.of(model).token_embedding(words_CL)
        return words_CLW, (places_CL - 1).clamp(min=0), places_CL[..., None] > 0


def _row(name: list[int], count: int, position: str) -> list[tuple[int, int]]:
    """(word, number of the context's vector from 1, else 0) of every token of a prompt."""
    start, end = tokens.ends()
    before = {"end": count, "middle": count // 2, "front": 0}[position]
    own = [(word, 0) for word in name]
    vectors = [(0, number + 1) for number in range(count)]
    stop = [(word, 0) for word in tokens.encoded(".")]
    return [(start, 0), *vectors[:before], *own, *vectors[before:], *stop, (end, 0)]
