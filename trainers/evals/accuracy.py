"""Classification: accuracy, macro means over all classes, calibration, confusion matrix (torchmetrics).

Macro means count every class once, also those that no sample or no prediction names (as 0, scikit-learn's
`zero_division=0`). The calibration error is the expected one over 15 bins (arXiv 1706.04599).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.batch import Batch
from trainers.task import Figure, Finding, Scalar, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

NEEDS = ("logits", "label")
SCORES = (
    "accuracy",
    "top5",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "calibration_error",
    "loss",
)


class Accuracy:
    def __init__(self, classes: list[str]) -> None:
        # Imported here: torchmetrics costs seconds that the first training step need not wait for.
        from torchmetrics import MeanMetric
        from torchmetrics.classification import (
            MulticlassCalibrationError,
            MulticlassConfusionMatrix,
        )

        self.classes = classes
        num = len(classes)
        self.loss, self.top5 = MeanMetric(), MeanMetric()
        self.confusion = MulticlassConfusionMatrix(num, validate_args=False)
        self.calibration = MulticlassCalibrationError(num, validate_args=False)

    def update(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        logits_BC, label = outputs["logits"], batch["label"]
        if label.ndim > 1:
            label = label.argmax(1)
        device = logits_BC.device
        top_B5 = logits_BC.topk(min(5, len(self.classes))).indices
        self.top5.to(device).update((top_B5 == label[:, None]).any(1).float())
        self.confusion.to(device).update(logits_BC.argmax(1), label)
        # Probabilities, not logits: torchmetrics takes logits that all lie in 0..1 for probabilities.
        self.calibration.to(device).update(logits_BC.softmax(1), label)
        self.loss.to(device).update(F.cross_entropy(logits_BC, label, reduction="none"))

    def findings(self) -> Iterator[Finding]:
        confusion_CC = (
            self.confusion.compute().double().cpu()
        )  # rows: the truth; columns: predictions
        hits_C = confusion_CC.diagonal()
        support_C, predicted_C = confusion_CC.sum(1), confusion_CC.sum(0)
        precision_C = hits_C / predicted_C.clamp(min=1)
        recall_C = hits_C / support_C.clamp(min=1)
        f1_C = 2 * hits_C / (support_C + predicted_C).clamp(min=1)
        yield Scalar("accuracy", float(hits_C.sum() / confusion_CC.sum().clamp(min=1)))
        yield Scalar("top5", float(self.top5.compute()))
        yield Scalar("macro_precision", float(precision_C.mean()))
        yield Scalar("macro_recall", float(recall_C.mean()))
        yield Scalar("macro_f1", float(f1_C.mean()))
        yield Scalar("calibration_error", float(self.calibration.compute()))
        yield Scalar("loss", float(self.loss.compute()))
        columns = {"precision": precision_C, "recall": recall_C, "f1": f1_C}
        yield Table(
            "classes",
            {
                "class": self.classes,
                **{name: column.tolist() for name, column in columns.items()},
                "support": support_C.long().tolist(),
            },
        )
        counts = confusion_CC.long()
        named = {name: counts[:, i].tolist() for i, name in enumerate(_distinct(self.classes))}
        yield Table("confusion", {"true": self.classes, **named})
        yield Figure("confusion", lambda: _draw(counts, self.classes))


def _distinct(classes: list[str]) -> list[str]:
    """Column names: two classes may bear one name, two columns may not."""
    return [f"{name} ({i})" if classes.count(name) > 1 else name for i, name in enumerate(classes)]


def _draw(counts_CC: Tensor, classes: list[str]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    num = len(classes)
    side = min(12.0, 2.2 + 0.42 * num)
    drawing = Drawing(figsize=(side, side), layout="constrained")
    axes = drawing.add_subplot()
    share_CC = counts_CC / counts_CC.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(share_CC.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    if num <= 40:
        axes.set_xticks(range(num), classes, rotation=90 if max(map(len, classes)) > 2 else 0)
        axes.set_yticks(range(num), classes)
    if num <= 20:
        for row, column in torch.nonzero(counts_CC).tolist():
            dark = share_CC[row, column] > 0.5
            axes.text(
                column,
                row,
                str(int(counts_CC[row, column])),
                ha="center",
                va="center",
                color="white" if dark else "#1f2937",
                fontsize=8,
            )
    axes.spines[:].set_visible(False)
    return drawing


build = Accuracy
