"""Texts -> tokens, by CLIP's byte pair encoding as open_clip has it, which needs no network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.refusal import Refusal


def encoded(text: str) -> list[int]:
    """The tokens of a text, without start and end."""
    from open_clip import tokenizer  # takes seconds to import

    found: list[int] = tokenizer._tokenizer.encode(text)
    return found


def ends() -> tuple[int, int]:
    """The tokens that begin and end every text."""
    from open_clip import tokenizer

    return tokenizer._tokenizer.sot_token_id, tokenizer._tokenizer.eot_token_id


def table(texts: Sequence[str], context_length: int, *, remedy: str) -> NDArray[np.int64]:
    """(N, context_length): start, the text, end, then zeros. Raises Refusal, with the text, for one that is too long."""
    start, end = ends()
    found = np.zeros((len(texts), context_length), np.int64)
    for row, text in enumerate(texts):
        own = [start, *encoded(text), end]
        if len(own) > context_length:
            raise Refusal(
                f"'{text[:60]}' is {len(own)} tokens long, of which {context_length} are read",
                value=text,
                remedy=remedy,
            )
        found[row, : len(own)] = own
    return found
