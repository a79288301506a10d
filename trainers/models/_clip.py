"""CLIP's two towers by name: open_clip's architectures, and a tiny one of ours for tests and small pictures."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP as Plain
from open_clip.model import CustomTextCLIP
from torch import Tensor, nn

from datasets.refusal import Refusal, nearest
from trainers import library
from trainers.language import texts, towers

TINY = "tiny"
LIBRARY = "name it as `open_clip.list_models()` does: ViT-B-32, say"
# Of the tiny one; what a recipe leaves out.
SMALL = {"embed": 64, "width": 64, "text_width": 64, "layers": 2, "context_length": 32}
HEAD = 16  # channels of an attention head


class _Towers(nn.Module):
    """What both of open_clip's classes get: called with pictures alone it gives their features."""

    architecture: str
    embed_dim: int  # D

    def forward(self, image: Tensor, text: Tensor | None = None) -> Any:
        """(B, D) of length 1; with tokens (B, L) also the texts' (B, D) and the factor of their products."""
        pair: Any = self
        image_BD = pair.encode_image(image, normalize=True)
        if text is None:
            return image_BD
        return image_BD, towers.read(self, text), pair.logit_scale.exp()

    def tokens(self, said: list[str]) -> Tensor:
        """(N, L) int64. Raises Refusal for a text that is too long, or a tokenizer that cannot be had."""
        pair: Any = self
        if not _foreign_tokenizer(self.architecture):
            return texts.tokens(said, pair.context_length)
        try:
            found: Tensor = open_clip.get_tokenizer(self.architecture)(said)
        except (OSError, ValueError, ImportError) as error:
            raise Refusal(
                f"the tokenizer of {self.architecture} cannot be had: {str(error).splitlines()[0][:160]}",
                path="model.architecture",
                value=self.architecture,
                remedy="connect to the network, or choose an architecture with CLIP's own, such as ViT-B-16",
            ) from None
        return found


class CLIP(_Towers, Plain):  # type: ignore[misc]
    """Text tower beside the image tower."""


class SplitCLIP(_Towers, CustomTextCLIP):  # type: ignore[misc]
    """The text tower is a module of its own."""


def pair(architecture: str, size: int, said: Mapping[str, int | None]) -> nn.Module:
    """Both towers with random weights; `said` is what a recipe says of the tiny one. Raises Refusal."""
    given = {name: value for name, value in said.items() if value is not None}
    if architecture == TINY:
        settings = _tiny(size, given)
        return _named(CLIP(**settings), architecture, settings)
    if architecture not in library.names("open_clip"):
        raise Refusal(
            f"open_clip has no architecture '{architecture}'",
            path="model.architecture",
            value=architecture,
            remedy=nearest(architecture, [TINY, *library.names("open_clip")], LIBRARY),
        )
    for name, value in given.items():
        raise Refusal(
            f"{architecture} has a {name} of its own",
            path=f"model.{name}",
            value=value,
            remedy=f"leave it out; it is for the architecture {TINY}",
        )
    return _named(_open_clip(architecture), architecture, open_clip.get_model_config(architecture))


def _tiny(size: int, given: Mapping[str, int]) -> dict[str, Any]:
    own = {**SMALL, "patch": max(1, size // 4), **given}
    for name in ("width", "text_width"):
        if own[name] % HEAD:
            raise Refusal(
                f"attention heads have {HEAD} channels, and {own[name]} is no multiple of it",
                path=f"model.{name}",
                value=own[name],
                remedy=f"use a multiple of {HEAD}",
            )
    if own["patch"] > size:
        raise Refusal(
            f"a patch of {own['patch']} pixels is larger than the picture, of {size}",
            path="model.patch",
            value=own["patch"],
            remedy=f"use {size} or less",
        )
    return {
        "embed_dim": own["embed"],
        "vision_cfg": {
            "image_size": size,
            "patch_size": own["patch"],
            "layers": own["layers"],
            "width": own["width"],
            "head_width": HEAD,
        },
        "text_cfg": {
            "context_length": own["context_length"],
            "width": own["text_width"],
            "heads": own["text_width"] // HEAD,
            "layers": own["layers"],
        },
    }


def _open_clip(architecture: str, **more: Any) -> nn.Module:
    """A model of open_clip's. Raises Refusal for one whose text tower is another library's."""
    settings = open_clip.get_model_config(architecture)
    if "hf_model_name" in settings["text_cfg"] or "multimodal_cfg" in settings:
        raise Refusal(
            f"{architecture} has a text tower that is not open_clip's own",
            path="model.architecture",
            value=architecture,
            remedy="choose another, such as ViT-B-16",
        )
    # Said, or open_clip moves what was made on meta to the CPU, which has no data to move.
    with library.untold():
        found: nn.Module = open_clip.create_model(
            architecture, device=torch.get_default_device(), **more
        )
    return found


def _named(built: nn.Module, architecture: str, settings: Mapping[str, Any]) -> nn.Module:
    # In place, so that weights keep open_clip's names, and its files and ours are exchanged freely.
    built.__class__ = SplitCLIP if isinstance(built, CustomTextCLIP) else CLIP
    towers: Any = built
    towers.architecture, towers.embed_dim = architecture, settings["embed_dim"]
    return built


def _foreign_tokenizer(architecture: str) -> bool:
    if architecture == TINY:
        return False
    settings = open_clip.get_model_config(architecture)["text_cfg"]
    return "hf_tokenizer_name" in settings or "tokenizer_kwargs" in settings


def library_weights(architecture: str, name: Any) -> dict[str, Tensor]:
    """The weights that open_clip knows by this name. Raises Refusal where there are none, or they cannot be had."""
    known = [] if architecture == TINY else open_clip.list_pretrained_tags_by_model(architecture)
    if name not in known:
        listed = (
            f"known: {', '.join(known[:12])}" if known else "train it: recipes/clip_digits.yaml"
        )
        raise Refusal(
            f"{architecture} has no weights called {name!r}",
            path="model.pretrained",
            value=name,
            remedy=f"{listed}; or name a file, or a run",
        )
    _check_activation(architecture, name)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = open_clip.create_model(architecture, pretrained=name)
    except (OSError, RuntimeError, ValueError) as error:
        raise Refusal(
            f"the weights '{name}' of {architecture} cannot be had: {str(error).splitlines()[0][:160]}",
            path="model.pretrained",
            value=name,
            remedy="they are downloaded once: connect to the network, or name a file of them "
            "(model.pretrained=PATH)",
        ) from error
    found: dict[str, Tensor] = model.state_dict()
    return found


def _check_activation(architecture: str, name: str) -> None:
    """Refuse weights that were learnt with another activation: open_clip would only warn, and lose points."""
    learnt = bool((open_clip.get_pretrained_cfg(architecture, name) or {}).get("quick_gelu"))
    built = bool(open_clip.get_model_config(architecture).get("quick_gelu"))
    if learnt and not built:
        raise Refusal(
            f"the weights '{name}' were learnt with QuickGELU, which {architecture} has not",
            path="model.architecture",
            value=architecture,
            remedy=f"use architecture: {architecture}-quickgelu",
        )
