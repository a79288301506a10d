"""Evaluating a split exactly: every sample once over all ranks, no DDP forward, findings written by rank 0."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datasets.batch import Batch
from datasets.refusal import Refusal
from datasets.shards import Dataset
from datasets.stream import EvalStream
from trainers import build, parallel, probes, rooms, shown
from trainers.build import Shape
from trainers.probes import Predict
from trainers.recipe import Recipe
from trainers.task import Figure, Finding, Scalar, Table, Task

if TYPE_CHECKING:
    from trainers.stage import Stage
    from trainers.track import Track

Predictions = dict[
    str, Tensor
]  # id (N,), label (N,) or (N, ...), prediction (N, ...), logits (N, C)
EVAL_ROWS = 512


class Evaluation:
    """What the evaluators of a recipe find on one split."""

    def __init__(
        self,
        recipe: Recipe,
        shape: Shape,
        dataset: Dataset,
        ready: Callable[[Batch], Batch],
        device: torch.device,
        *,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        """`alive` is called after each batch, for whoever ends what hangs."""
        self.recipe, self.shape, self.dataset = recipe, shape, dataset
        self.ready, self.view, self.alive = ready, shown.view(recipe, shape, device), alive
        micro = recipe.scale.micro_batch
        self.batch = min(EVAL_ROWS, micro) if isinstance(micro, int) else EVAL_ROWS

    def has(self, split: str) -> bool:
        """Whether the data hold rows of this split."""
        splits = self.dataset.manifest.splits
        return split in splits and splits[split].rows > 0

    def run(
        self, stage: Stage, split: str, keys: list[str], *, predictions: bool = False
    ) -> tuple[dict[str, list[Finding]], Predictions]:
        """Findings by evaluator key, and on request every rank's predictions in the split's order."""
        evaluators = build.evaluators(self.recipe, self.shape)
        chosen = {key: evaluators[key] for key in keys}
        rows: list[Predictions] = []
        task = stage.task
        parallel.share_buffers(task)
        task.eval()
        try:
            needs = {key: self._needs(key) for key in keys}
            for outputs, batch in self._predicted(stage, task, split, set().union(*needs.values())):
                for key in list(chosen):
                    if needs[key] <= {*outputs, *batch.columns}:
                        chosen[key].update(outputs, batch)
                    else:  # a phase of another kind: pretraining has no logits to judge
                        del chosen[key]
                if predictions and "prediction" in outputs:
                    rows.append(_kept(outputs, batch))
                self.alive()
        finally:
            stage.train_mode()
        before = self.recipe.score_prefixes()
        found = {
            key: [_called(finding, before[key]) for finding in evaluator.findings()]
            for key, evaluator in chosen.items()
        }
        return found, _gathered(rows) if predictions else {}

    def _needs(self, key: str) -> set[str]:
        """Which outputs and columns an evaluator looks at."""
        return set(rooms.door("evals", self.recipe.evals[key].name).constants["NEEDS"])

    def _predicted(
        self, stage: Stage, task: Task, split: str, wanted: set[str]
    ) -> Iterator[tuple[dict[str, Tensor], Batch]]:
        stream = EvalStream(
            self.dataset,
            split,
            batch=self.batch,
            rank=parallel.rank(),
            world=parallel.world_size(),
            view=self.view,
        )
        idle = not len(stream)
        if idle:
            # A rank without a share still meets the others in their collectives, with no rows of its own.
            stream = EvalStream(self.dataset, split, batch=1, view=self.view)
        with torch.no_grad(), probes.listening(task, wanted) as predict:
            for batch in stream:
                ready = self.ready(batch)
                with stage.autocast():
                    outputs = outputs_of(predict, ready)
                if idle:
                    yield {name: o[:0] for name, o in outputs.items()}, _without_rows(ready)
                    return
                yield outputs, ready


def _called(finding: Finding, before: str) -> Finding:
    return replace(finding, name=f"{before}{finding.name}") if before else finding


def outputs_of(predict: Predict, batch: Batch) -> dict[str, Tensor]:
    """What a task predicts, of half the rows at a time where they do not fit into memory together."""
    try:
        return predict(batch)
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            raise Refusal(
                "a single row does not fit into memory", path="data", remedy="use a smaller model"
            ) from error
    # Beyond the except block: what it holds of the failed attempt is free again.
    halves = [outputs_of(predict, half) for half in batch.chunks(2)]
    return {name: torch.cat([half[name] for half in halves]) for name in halves[0]}


def _without_rows(batch: Batch) -> Batch:
    return replace(batch, columns={name: column[:0] for name, column in batch.columns.items()})


def scores(found: Mapping[str, list[Finding]], split: str) -> dict[str, float]:
    """`{"val/accuracy": ...}` of all scalars found."""
    return {
        f"{split}/{finding.name}": finding.value
        for findings in found.values()
        for finding in findings
        if isinstance(finding, Scalar)
    }


def draw(
    found: Mapping[str, list[Finding]], split: str, track: Track, *, step: int, final: bool
) -> None:
    """Write tables and figures; between epochs only the figures that want to be seen growing."""
    for findings in found.values():
        for finding in findings:
            if isinstance(finding, Table) and final:
                track.table(f"{split}_{finding.name}", finding.columns)
            elif isinstance(finding, Figure) and track.figures and (final or finding.always):
                name, grows = f"{split}_{finding.name}", finding.always and not final
                track.figure(name, finding.draw(), step, grows=grows)


def parquet(splits: Mapping[str, Predictions]) -> bytes | None:
    """`predictions.parquet`: split, id, label, prediction, probabilities."""
    import pyarrow as pa
    import pyarrow.parquet

    tables = []
    for split, columns in splits.items():
        if not columns:
            continue
        data: dict[str, object] = {"split": [split] * len(columns["id"])}
        for name in ("id", "label", "prediction"):
            if name in columns:
                values = columns[name]
                if values.dim() > 1 and values.shape[1] == 1:
                    values = values.flatten()
                data[name] = values.tolist() if values.dim() > 1 else values.numpy()
        if "logits" in columns:
            data["probabilities"] = columns["logits"].double().softmax(1).float().tolist()
        tables.append(pa.table(data))
    if not tables:
        return None
    buffer = io.BytesIO()
    pa.parquet.write_table(pa.concat_tables(tables), buffer)
    return buffer.getvalue()


def _kept(outputs: Mapping[str, Tensor], batch: Batch) -> Predictions:
    truth = batch.columns.get("label", batch.columns.get("y"))
    kept = {"id": batch["id"], "prediction": outputs["prediction"]}
    if truth is not None:
        kept["label"] = truth
    if "logits" in outputs:
        kept["logits"] = outputs["logits"].float()
    return {name: column.detach().cpu() for name, column in kept.items()}


def _gathered(rows: list[Predictions]) -> Predictions:
    """All ranks' rows in the split's order (ranks hold contiguous shares)."""
    names = sorted(rows[0]) if rows else []
    return {name: parallel.gathered_rows(torch.cat([r[name] for r in rows])) for name in names}
