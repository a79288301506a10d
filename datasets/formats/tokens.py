"""Texts -> tokens, by CLIP's byte pair encoding as open_clip has it, which needs no network."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

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


def readable(token: str, byte_of: Mapping[str, int]) -> str:
    """A token of the vocabulary as people read it: bytes that are no letters by their numbers, `<e3 85>` or `<U+3164>`."""
    known = token.removesuffix("</w>")
    if not all(sign in byte_of for sign in known):
        return token  # start and end of a text
    data = bytes(byte_of[sign] for sign in known)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"<{data.hex(' ')}>"
    return "".join(sign if _is_seen(sign) else f"<U+{ord(sign):04X}>" for sign in text)


def _is_seen(sign: str) -> bool:
    """Whether there is something to see; fillers are letters, and blank."""
    name = unicodedata.name(sign, "")
    return sign.isprintable() and not sign.isspace() and "FILLER" not in name and bool(name)


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
