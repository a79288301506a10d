"""A CLIP and free texts: how well each of them fits a picture, of a run's model or of one of open_clip's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cluster.run import Run
from cluster.saved import Saved, opened
from datasets import store
from datasets.refusal import Refusal, nearest
from trainers import library, networks, weights
from trainers.language import towers
from trainers.model_part import ModelPart

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "open_clip:"


@dataclass(frozen=True)
class Reader:
    """A pair of towers in eval mode on the CPU, and what makes a picture its input (C, S, S)."""

    model: nn.Module
    show: Callable[[Any], Tensor]

    @classmethod
    def of(cls, named: str, *, pretrained: str | None = None, checkpoint: str = "best") -> Reader:
        """`named` is a run's folder, or an architecture of open_clip's whose weights `pretrained` says.

        Raises Refusal for what is neither, and for weights that are not said or cannot be had.
        """
        known = named.removeprefix(PREFIX)
        if known in library.names("open_clip") and not store.exists(
            store.join(named, "recipe.yaml")
        ):
            return cls._library(known, pretrained)
        if named.startswith(PREFIX):
            raise Refusal(
                f"open_clip has no architecture '{known}'",
                path="RUN",
                value=named,
                remedy=nearest(
                    known,
                    library.names("open_clip"),
                    "name it as `open_clip.list_models()` does: ViT-B-32, say",
                ),
            )
        if pretrained is not None:
            raise Refusal(
                "a run has its weights",
                path="--pretrained",
                value=pretrained,
                remedy=f"leave it out, or name an architecture: {PREFIX}ViT-B-32",
            )
        run = Run.open(named)
        saved = run.best if checkpoint == "best" else run.last
        return cls(model_of(saved), saved.transform)

    @classmethod
    def _library(cls, architecture: str, pretrained: str | None) -> Reader:
        import open_clip

        if not pretrained:
            tags = open_clip.list_pretrained_tags_by_model(architecture)
            raise Refusal(
                f"which weights of {architecture}?",
                path="--pretrained",
                remedy=f"a file, or one of {', '.join(tags[:12])}" if tags else "name a file",
            )
        part = ModelPart.model_validate(
            {"name": "clip", "architecture": architecture, "pretrained": pretrained}
        )
        channels, size = networks.wanted(part)
        seen = networks.seen(part)
        assert seen and size, "open_clip says what its models were shown"
        model = networks.bare(part, num_classes=1, channels=channels, size=size)
        weights.begin(part, model)
        # open_clip's own, so that what it computes elsewhere comes out here.
        show = open_clip.image_transform(size, is_train=False, mean=seen.mean, std=seen.std)
        return cls(model.eval(), lambda picture: show(opened(picture).convert("RGB")))

    def predict(self, images: Sequence[Any], texts: Sequence[str]) -> pd.DataFrame:
        """A row for each picture: the likeliest text, its probability among these texts, and every text's."""
        import pandas as pd

        check(texts)
        pair: Any = self.model
        with torch.no_grad():
            texts_TD = towers.read(pair, pair.tokens(list(texts)))
            rows = []
            for image in images:
                image_1D = pair(self.show(image)[None])
                rows.append((pair.logit_scale.exp() * image_1D @ texts_TD.T)[0].softmax(0))
        return pd.DataFrame(
            {
                "image": str(image),
                "prediction": texts[int(row.argmax())],
                "probability": float(row.max()),
                **{f"p({text})": float(p) for text, p in zip(texts, row, strict=True)},
            }
            for image, row in zip(images, rows, strict=True)
        )


def check(texts: Sequence[str]) -> None:
    """Refuse texts that probabilities cannot be of: fewer than two, empty ones, and two that read the same."""
    if len(texts) < 2:
        raise Refusal(
            "probabilities are of one text among others, and there is no other",
            path="--texts",
            value=list(texts),
            remedy="say two or more: --texts 'a photo of a cat' --texts 'a photo of a dog'",
        )
    seen: set[str] = set()
    for text in texts:
        read = " ".join(text.lower().split())
        if not read or read in seen:
            raise Refusal(
                f"'{text}' is said twice, and would share its probability with itself"
                if read
                else "a text is empty, and says nothing of a picture",
                path="--texts",
                value=text,
                remedy="say it once" if read else "leave it out",
            )
        seen.add(read)


def model_of(saved: Saved) -> nn.Module:
    """The two towers of a checkpoint. Raises Refusal for a run of another model."""
    model = saved.model()
    try:
        towers.check(model)
    except Refusal as refusal:
        raise Refusal(
            refusal.error,
            path=saved.run.url,
            value=saved.run.recipe.model.name,
            remedy="name a run of model 'clip', or an architecture of open_clip (open_clip:ViT-B-32)",
        ) from None
    return model


def learnt_context(saved: Saved) -> Any:
    """The task of a CoOp or CoCoOp run with what it has learnt, in eval mode. Raises Refusal for another run."""
    named = saved.run.recipe.phases[-1].task.name
    if named not in ("coop", "cocoop"):
        raise Refusal(
            f"task '{named}' learns no context",
            path=saved.run.url,
            value=named,
            remedy="choose a run of task coop or cocoop (recipes/coop_digits.yaml)",
        )
    return saved.stage().task.eval().requires_grad_(False)
