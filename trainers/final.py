"""The end of a run: final scores on the declared checkpoint, and what a reader of them must know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from datasets.packed import leaks
from trainers import checkpoint, evaluation, parallel, resume, saving, summary
from trainers.checkpoint import Damaged
from trainers.choice import Score
from trainers.evaluation import Evaluation
from trainers.stage import Stage
from trainers.track import Track


def load_best(folder: str, best: Score, stage: Stage, model: nn.Module) -> None:
    """The weights of the declared checkpoint; the task's own too where it is of the stage's phase.

    Where it was damaged, by rank 0's word, the last weights stay, and the report says so.
    """
    url = checkpoint.folder(folder, best.step)
    damaged = 0.0
    if parallel.rank() == 0:
        try:
            checkpoint.verify(url)
        except Damaged as error:
            damaged = 1.0
            resume.set_aside(folder, url, error, "the final scores are of the last weights")
            saving.point(folder, {})
    if parallel.summed(torch.tensor([damaged])).item():
        return
    checkpoint.load_model(url, model)
    if best.phase == stage.index:
        checkpoint.load_task(url, stage.task, model)


def final_scores(
    judge: Evaluation,
    stage: Stage,
    track: Track | None,
    folder: str,
    step: int,
    splits: Sequence[str],
) -> dict[str, float]:
    """Scores, tables, figures and predictions of what is loaded; the test split is opened here and nowhere else."""
    recipe = judge.recipe
    scores: dict[str, float] = {}
    predictions = {}
    for split in splits:
        keys = [k for k, e in recipe.evals.items() if split == "test" or e.on == "val"]
        if not keys or not judge.has(split):
            continue
        if split == "test" and track:
            summary.count_opening(folder, split)
        found, predictions[split] = judge.run(stage, split, keys, predictions=True)
        scores |= (own := evaluation.scores(found, split))
        if track:
            evaluation.draw(found, split, track, step=step, final=True)
            if split == "test" and own:
                epoch = (step - 1) // stage.steps_per_epoch
                row = {"step": step, "split": "test", "phase": stage.index, "epoch": epoch}
                track.write([{**row, **own}])
    if track:
        table = evaluation.parquet(predictions)
        if table:
            track.put("predictions.parquet", table)
        if "test" in splits:  # a trial's are told with all others of its search
            track.hyperparameters(_flat(recipe.plain()), scores)
    return scores


def notes(
    judge: Evaluation, model: nn.Module, *, at_once: int | None, finished: bool, best: Score | None
) -> list[str]:
    """What a reader of the scores must know; `at_once` rows at most were taken at once."""
    recipe, world = judge.recipe, parallel.world_size()
    found = []
    normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    if normed and at_once:
        found.append(f"Batch norm saw micro-batches of {at_once} rows a worker, not whole batches.")
    if normed and world > 1 and not recipe.scale.sync_bn:
        found.append(
            f"Batch norm was not synchronised over {world} workers: only the samples of a batch "
            "agree with other numbers of workers."
        )
    if finished and recipe.keep.metric and not best:
        found.append(
            f"{recipe.keep.metric} was never measured: no checkpoint was chosen, the last one counts."
        )
    for split in ("val", "test") if finished and recipe.evals else ():
        if not judge.has(split):
            found.append(f"The data have no {split} split, so there are no {split} scores.")
    if finished:
        known = leaks.of(judge.dataset.manifest)
        found += [f"Splits share pictures, as data.allow_leaks allows: {leak}." for leak in known]
    return found


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict | list):
        return {path: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= _flat(value, f"{path}.{key}" if path else str(key))
    return flat
