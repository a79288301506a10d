"""Full fine-tuning: the whole network is trained on from the checkpoint, as a run of its own beside this one."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from cluster import backbone
from cluster.backbone import Backbone
from cluster.protocol import Outcome
from cluster.run import Run
from cluster.saved import Saved
from cluster.train import run_folder
from cluster.trial import Trial
from datasets import subsets
from datasets.progress import Shown
from datasets.ranges import Rate
from datasets.refusal import Refusal
from trainers import summary
from trainers.probing.known import share
from trainers.recipe import Recipe
from trainers.task import Scalar


def build(
    saved: Saved,
    split: str,
    shown: Shown,
    *,
    data: str | None = None,
    shots: PositiveInt | None = None,
    steps: PositiveInt = 500,
    batch: PositiveInt = 64,
    lr: PositiveFloat = 0.03,
    weight_decay: Rate = 5e-4,
    seed: NonNegativeInt = 0,
) -> Outcome:
    """Cross entropy by SGD with momentum .9 and half a cosine; `shots` labels a class, else all; the last weights count.

    Nothing is chosen by val, so val may be judged on. A run that is there already is taken as it is.
    """
    judge = Backbone.of(saved, split, data)
    if shots is not None:
        subsets.check_shots(judge.data, shots, "shots")
    rows = judge.data.manifest.split("train").rows if shots is None else shots * len(judge.classes)
    recipe = _recipe(saved, data, shots, min(batch, rows), seed).override(
        {"phases": [_phase(saved, steps, lr, weight_decay)]}
    )
    folder = run_folder(recipe, judge.data.manifest.digest, saved.run.url.rpartition("/")[0])
    with shown(f"fine-tuning of {saved.run.name}") as progress:
        trial = Trial(recipe, folder)
        try:
            while (judged := trial.advance()) is not None:
                progress(judged.step * recipe.data.batch, trial.steps * recipe.data.batch)
        finally:
            status = trial.status
            trial.close()
    tuned = Run.open(folder)
    if status != "finished":
        raise Refusal(
            f"the run ended as {status}",
            path=folder,
            value=status,
            remedy="say the same again: it goes on where it stands",
        )
    return _judged(judge, tuned, split, shots)


def _phase(saved: Saved, steps: int, lr: float, weight_decay: float) -> dict[str, object]:
    optim = {"name": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": weight_decay}
    return {
        "task": "classify",
        "steps": steps,
        "init": saved.url,
        "optim": {"main": optim},
        "schedule": "cosine",
    }


def _recipe(saved: Saved, data: str | None, shots: int | None, batch: int, seed: int) -> Recipe:
    """The run's, with all labels or some, each picture shown once, by the transforms that it was learnt with."""
    reading = backbone.reading(saved, data)
    classes = reading.data.subset.classes if reading.data.subset else None
    changes: dict[str, object] = {
        "name": f"{saved.run.recipe.name}-finetuned"[:80],
        "seed": seed,
        "search": None,
        "keep.metric": None,
        "keep.patience": None,
        "keep.ceiling": None,
        "evals": {"accuracy": {"every": 20}},
        "data.train.transforms": saved.run.recipe.plain()["data"]["train"]["transforms"],
    }
    if shots is not None:
        changes["data.subset"] = {"classes": classes, "shots": shots, "seed": seed}
    return reading.override(changes, {"data.batch": batch, "data.lanes": min(batch, 64)})


def _judged(judge: Backbone, tuned: Run, split: str, shots: int | None) -> Outcome:
    if split == "test":
        summary.count_opening(tuned.url, split)
        if judge.own:
            summary.count_opening(judge.saved.run.url, split)
    _, found = tuned.last.evaluate(split)
    accuracy = share((found["prediction"] == found["label"]).numpy())
    labels = "all labels" if shots is None else f"{shots} label{'s' * (shots > 1)} a class"
    sentences = [
        f"Trained on as a whole with {labels} of train, {judge.saved.run.name} has {accuracy} of {len(found['id']):,} "
        f"pictures right.",
        f"The run is {tuned.url}.",
    ]
    findings = [
        Scalar("accuracy", accuracy.value),
        Scalar("accuracy_low", accuracy.low),
        Scalar("accuracy_high", accuracy.high),
    ]
    return Outcome(findings, sentences)
