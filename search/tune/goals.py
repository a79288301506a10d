"""A W&B sweep's metric as what a search seeks: `{name: val_acc, goal: maximize}` is val/accuracy, max."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from datasets.refusal import Refusal
from search.tune.distributions import Note, check_keys
from trainers.recipe import Recipe
from trainers.searching import COSTS

MODES = {"minimize": "min", "maximize": "max"}
WITHOUT = {
    "target": "a search ends with its trials (or search.seconds), not at a value",
    "impute": "a trial that fails counts for nothing",
    "impute_while_running": "trials that run count for what their evaluations found",
}
SPLITS = {"val": "val", "valid": "val", "validation": "val", "eval": "val", "dev": "val"}
SPLITS |= {"test": "test", "testing": "test", "train": "train", "training": "train"}
SCORES = {
    "accuracy": "acc accuracy top1 top_1 acc1 acc_1 top1_acc top1_accuracy acc_top1",
    "top5": "top_5 acc5 acc_5 top5_acc top5_accuracy top_5_accuracy acc_top5",
    "macro_f1": "f1 f1_score f1_macro",
    "macro_precision": "precision",
    "macro_recall": "recall",
    "calibration_error": "ece",
    "parameters": "params num_params num_parameters",
}
SCORE = {word: score for score, words in SCORES.items() for word in words.split()}


def metrics(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A sweep's metrics, checked: none, one or several."""
    if "metric" in sweep and "metrics" in sweep:
        raise Refusal("metric and metrics are both said", path="metrics", remedy="say one of them")
    found = sweep.get("metrics", [sweep["metric"]] if "metric" in sweep else [])
    if not isinstance(found, list):
        raise Refusal("is no list", path="metrics", value=str(found), remedy="write metric: ...")
    for metric in found:
        check_keys(metric, ("name", "goal", *WITHOUT), "metric")
        if not isinstance(metric.get("name"), str):
            raise Refusal("lacks a name", path="metric", value=str(metric), remedy="add name: ...")
        if str(metric.get("goal", "minimize")) not in MODES:
            raise Refusal(
                f"'{metric['goal']}' is no goal",
                path="metric.goal",
                value=metric["goal"],
                remedy="write minimize or maximize",
            )
    return found


def goals(
    sweep: Mapping[str, Any], recipe: Recipe, said: Mapping[str, str], note: Note
) -> dict[str, Any]:
    """`metric:` and `mode:` of a sweep, or `objectives:`; `said` are a person's own names. Raises Refusal."""
    seeks = []
    for metric in metrics(sweep):
        name = metric["name"]
        score = _score(name, recipe.scores(), said)
        if not score:
            note(f"metric: {name} is left out, as --name asks")
            continue
        if score != name:
            note(f"metric: {name} -> {score}")
        if "goal" not in metric:
            note(f"metric: no goal is said, and W&B then minimizes {name}: mode: min")
        for key in WITHOUT:
            if key in metric:
                note(f"metric.{key} has no counterpart: {WITHOUT[key]}")
        seeks.append({"metric": score, "mode": MODES[metric.get("goal", "minimize")]})
    if len(seeks) > 1:
        return {"objectives": seeks}
    if not seeks:
        note("metric: none is said, so the recipe's keep.metric is sought")
        return {}
    return seeks[0]


def _score(name: str, known: set[str], said: Mapping[str, str]) -> str:
    """The score of ours that a metric's name means, such as val/accuracy. Raises Refusal."""
    if name in said:
        return said[name]
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    splits = [SPLITS[word] for word in words if word in SPLITS]
    word = "_".join(word for word in words if word not in SPLITS)
    word = SCORE.get(word, word)
    if word in COSTS and not splits:
        return word
    if splits and splits[0] != "val":
        raise Refusal(
            f"'{name}' is of the {splits[0]} split: a search looks at the validation split alone",
            path="metric.name",
            value=name,
            remedy=f"--name {name}=val/{word} where that is meant",
        )
    if f"val/{word}" not in known:
        scores = ", ".join(sorted(score for score in known if score.startswith("val/")))
        raise Refusal(
            f"no evaluator of the recipe gives '{name}'",
            path="metric.name",
            value=name,
            remedy=f"say which it is: --name {name}=SCORE, of {scores or 'none: add an evaluator to evals'}",
        )
    return f"val/{word}"
