"""The text tower of a CLIP taken apart: prompts whose vectors are not those of any word, and the words nearest to vectors."""

# N prompts, L tokens, W width of the text tower, D embedding, C class, T templates

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.formats import tokens
from datasets.refusal import Refusal

ROWS = 256  # texts at once


def of(model: nn.Module) -> Any:
    """The module that holds the parts of the text tower: of some architectures the network itself, of others its `text`."""
    return getattr(model, "text", model)


def check(model: nn.Module) -> None:
    """Refuse a network that is no pair of towers."""
    if not hasattr(model, "encode_text") or not hasattr(model, "logit_scale"):
        raise Refusal(
            f"a {type(model).__name__} has no text tower",
            path="model",
            value=type(model).__name__,
            remedy="use model=clip (of any `architecture` of open_clip), trained or with weights",
        )


def opens(model: nn.Module) -> bool:
    """Whether no token of a text sees those after it, and the text is read off where it ends, as in OpenAI's."""
    tower = of(model)
    pooled = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    causal = getattr(tower, "attn_mask", None) is not None
    return pooled == "argmax" and causal and getattr(tower, "cls_emb", None) is None


def trimmed(model: nn.Module, tokens_NL: Tensor) -> Tensor:
    """The tokens without those that are behind the end of every text, where that changes nothing."""
    return tokens_NL[:, : int(tokens_NL.argmax(1).max()) + 1] if opens(model) else tokens_NL


def read(model: nn.Module, tokens_NL: Tensor) -> Tensor:
    """(N, D), of length 1: the features of texts, which may be trimmed."""
    whole: Any = model
    if not opens(model):
        found: Tensor = whole.encode_text(tokens_NL, normalize=True)
        return found
    return encode(model, of(model).token_embedding(tokens_NL), tokens_NL.argmax(1))


def check_open(model: nn.Module) -> None:
    """Refuse a text tower whose prompts cannot be given as vectors."""
    check(model)
    if not opens(model):
        raise Refusal(
            "the text tower is not OpenAI's kind (causal, read off where the text ends): "
            "its prompts cannot be given as vectors",
            path="model.architecture",
            value=getattr(model, "architecture", type(model).__name__),
            remedy="use one such as ViT-B-16, ViT-B-32, RN50, or tiny",
        )


def encode(model: nn.Module, embedded_NLW: Tensor, ends_N: Tensor) -> Tensor:
    """(N, D), of length 1: what `encode_text` gives for prompts of these vectors that end at `ends_N`.

    They may be shorter than the context: no token sees those after it.
    """
    tower, length = of(model), embedded_NLW.shape[1]
    x_NLW = embedded_NLW + tower.positional_embedding[:length]
    x_NLW = tower.transformer(x_NLW, attn_mask=tower.attn_mask[:length, :length])
    last_NW = tower.ln_final(x_NLW)[torch.arange(len(x_NLW), device=x_NLW.device), ends_N]
    projection = tower.text_projection
    if projection is None:
        return F.normalize(last_NW, dim=-1)
    by_module = isinstance(projection, nn.Module)
    found: Tensor = projection(last_NW) if by_module else last_NW @ projection
    return F.normalize(found, dim=-1)


def class_features(model: nn.Module, tokens_NL: Tensor, num_classes: int) -> Tensor:
    """(C, D), of length 1, of T x C prompts template by template: the mean over templates of their unit vectors (arXiv 2103.00020)."""
    pieces = [read(model, part).float() for part in torch.split(tokens_NL, ROWS)]
    whole = torch.cat(pieces)
    each_TCD = whole.view(-1, num_classes, whole.shape[1])
    return F.normalize(each_TCD.mean(0), dim=-1)


def typical_distance(model: nn.Module, count: int = 1000) -> float:
    """How far a word's embedding lies from the nearest other one: the mean over `count` words, evenly drawn."""
    table_VW = of(model).token_embedding.weight.detach().float()
    own = torch.arange(0, len(table_VW), max(1, len(table_VW) // count), device=table_VW.device)
    far_NV = torch.cdist(table_VW[own], table_VW)
    far_NV[torch.arange(len(own), device=own.device), own] = torch.inf
    return float(far_NV.amin(1).mean())


def nearest_words(
    model: nn.Module, vectors_MW: Tensor, count: int
) -> list[list[tuple[str, float]]]:
    """For each vector the words of the vocabulary whose embeddings lie nearest, with their Euclidean distances."""
    from open_clip import tokenizer

    table_VW = of(model).token_embedding.weight.detach().float()
    far_MV = torch.cdist(vectors_MW.detach().float(), table_VW)
    distances, places = far_MV.topk(count, largest=False)
    table = tokenizer._tokenizer
    return [
        [
            (tokens.readable(table.decoder.get(place, ""), table.byte_decoder), distance)
            for place, distance in zip(row, far, strict=True)
        ]
        for row, far in zip(places.tolist(), distances.tolist(), strict=True)
    ]
