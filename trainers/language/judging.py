"""A CLIP put to classify a split by texts: by each template alone, and by all of them together."""

# N rows, B batch, C class, T templates, D embedding
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.batch import Batch
from trainers.language import texts, towers
from trainers.language.prompted import Prompted
from trainers.task import Finding, Scalar, Table

NORMAL = 1.959964  # of the 95 % interval


@dataclass(frozen=True)
class Judged:
    """What was predicted: `together` (N,) by the mean of the templates, `alone` (N, T) by each."""

    label: Tensor
    together: Tensor
    alone: Tensor

    @property
    def right(self) -> Tensor:
        return self.together == self.label

    @classmethod
    def joined(cls, pieces: Sequence[Judged]) -> Judged:
        """Of rows in pieces, in order."""
        columns = ("label", "together", "alone")
        return cls(*(torch.cat([getattr(each, name) for each in pieces]) for name in columns))


def prompts(model: nn.Module, names: Sequence[str], templates: Sequence[str]) -> list[Tensor]:
    """The tokens of every template with every name, (T x C, L), in pieces that fit a pass."""
    pair: Any = model
    whole = pair.tokens(texts.filled(templates, names))
    return [*torch.split(towers.trimmed(model, whole), towers.ROWS)]


@torch.no_grad()
def read(model: nn.Module, tokens_NL: Tensor) -> Tensor:
    """(N, D), on the CPU: the features of a piece of the prompts."""
    pair: Any = model.eval()
    return towers.read(model, tokens_NL.to(pair.logit_scale.device)).float().cpu()


def by_template(pieces: Iterable[Tensor], templates: int) -> Tensor:
    """(T, C, D) of the pieces' features, in order."""
    found_ND = torch.cat([*pieces])
    return found_ND.view(templates, -1, found_ND.shape[1])


@torch.no_grad()
def judged(
    model: nn.Module,
    batches: Iterable[Batch],
    text_TCD: Tensor,
) -> Judged:
    """`batches` are ready for the model, whose device they are on."""
    pair: Any = model.eval()
    each_TCD = text_TCD.to(pair.logit_scale.device)
    mean_CD = F.normalize(each_TCD.mean(0), dim=-1)
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in batches:
        image_BD = pair(batch["image"]).float()
        alone_BT = torch.einsum("bd,tcd->btc", image_BD, each_TCD).argmax(2)
        together_B = (image_BD @ mean_CD.T).argmax(1)
        rows.append((batch["label"].cpu(), together_B.cpu(), alone_BT.cpu()))
    return Judged(*(torch.cat(column) for column in zip(*rows, strict=True)))


@torch.no_grad()
def right(task: Prompted, batches: Iterable[Batch]) -> Tensor:
    """(N,) bool: whether each row is told rightly by a task in eval mode."""
    pieces = [(task.predict(batch)["prediction"] == batch["label"]).cpu() for batch in batches]
    return torch.cat(pieces)


def share(right_N: Tensor) -> tuple[float, float, float]:
    """(share, low, high): Wilson's 95 % interval of independent rows (JASA 22, 1927)."""
    rows = len(right_N)
    found = float(right_N.double().mean())
    denominator = 1 + NORMAL**2 / rows
    middle = (found + NORMAL**2 / (2 * rows)) / denominator
    half = NORMAL * math.sqrt(found * (1 - found) / rows + NORMAL**2 / (4 * rows**2)) / denominator
    return found, max(0.0, middle - half), min(1.0, middle + half)


def findings(
    found: Judged, classes: Sequence[str], names: Sequence[str], templates: Sequence[str]
) -> Iterator[Finding]:
    """Accuracy with its interval, of classes and of templates."""
    accuracy, low, high = share(found.right)
    recall = [float(found.right[found.label == c].double().mean()) for c in _present(found)]
    yield Scalar("accuracy", accuracy)
    yield Scalar("accuracy_low", low)
    yield Scalar("accuracy_high", high)
    yield Scalar("macro_recall", sum(recall) / len(recall))
    yield Scalar("rows", len(found.label))
    alone = (found.alone == found.label[:, None]).double().mean(0).tolist()
    yield Table("templates", {"template": list(templates), "accuracy": alone})
    present = _present(found)
    yield Table(
        "classes",
        {
            "class": [classes[c] for c in present],
            "name": [names[c] for c in present],
            "rows": [int((found.label == c).sum()) for c in present],
            "accuracy": recall,
        },
    )


def sentences(found: Judged, split: str, templates: Sequence[str]) -> Iterator[str]:
    """What it comes to."""
    accuracy, low, high = share(found.right)
    with_them = "1 template" if len(templates) == 1 else f"{len(templates)} templates together"
    yield (
        f"Accuracy {percent(accuracy)} (95 % interval {percent(low)} to {percent(high)}) of {len(found.label):,} pictures "
        f"of {split}, {len(_present(found))} classes, by {with_them}."
    )
    if len(templates) > 1:
        alone = (found.alone == found.label[:, None]).double().mean(0)
        best, worst = int(alone.argmax()), int(alone.argmin())
        if alone[best] == alone[worst]:
            yield f"Alone, each of the templates gives {percent(float(alone[best]))}."
            return
        yield (
            f"Alone, templates give {percent(float(alone[worst]))} ('{templates[worst]}') to "
            f"{percent(float(alone[best]))} ('{templates[best]}'), {percent(float(alone.mean()))} in the mean; "
            "which is the best is known only by looking at these pictures."
        )


def percent(share: float) -> str:
    """`87.4 %`."""
    return f"{100 * share:.1f} %"


def _present(found: Judged) -> list[int]:
    classes: list[int] = torch.unique(found.label).tolist()
    return classes
