"""Weighted k-NN (arXiv 1805.01978): each picture has the class that the training pictures nearest to it vote for."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from cluster.backbone import Backbone
from cluster.protocol import Outcome
from cluster.protocols.linear import beside
from cluster.saved import Saved
from cluster.tasks import Workers
from datasets.progress import Shown
from datasets.refusal import Refusal
from trainers.probing import votes
from trainers.probing.known import Known, Share, difference, share
from trainers.probing.votes import Bank
from trainers.task import Finding, Scalar, Table

TRIED = (1, 2, 5, 10, 20, 50, 100, 200)


def build(
    saved: Saved,
    split: str,
    shown: Shown,
    workers: Workers,
    *,
    data: str | None = None,
    k: PositiveInt | None = None,
    temperature: PositiveFloat = 0.07,
    reference: str | None = None,
) -> Outcome:
    """`k` is chosen unless told; `reference` is another run, or `random`: the same network before it learnt."""
    judges = {"run": Backbone.of(saved, split, data, workers)}
    if reference is not None:
        judges["reference"] = judges["run"].beside(reference)
    findings: list[Finding] = []
    sentences: list[str] = []
    right = {}
    rows = sum(each.rows for each in judges["run"].data.manifest.splits.values())
    with shown(f"k-NN of {saved.run.name}") as progress:
        for place, (name, judge) in enumerate(judges.items()):
            prefix = "" if name == "run" else f"{name}_"
            most, table, by = _chosen(judge, k, temperature)
            if table:
                findings.append(Table(f"{prefix}neighbours", table.columns))
            (right[name],) = _right(
                _bank(judge, judge.known("train")), judge.known(split), [most], temperature
            )
            found = share(right[name])
            findings += [
                Scalar(f"{prefix}accuracy", found.value),
                Scalar(f"{prefix}accuracy_low", found.low),
                Scalar(f"{prefix}accuracy_high", found.high),
                Scalar(f"{prefix}k", most),
            ]
            sentences.append(_said(judge, most, found, len(right[name]), by))
            progress((place + 1) * rows, len(judges) * rows)
    if reference is not None:
        apart = difference(right["run"], right["reference"])
        findings.append(Scalar("accuracy_gain", apart.value))
        sentences.insert(1, beside(apart, judges["reference"].name))
    return Outcome(findings, sentences)


def _said(judge: Backbone, k: int, found: Share, rows: int, by: str) -> str:
    nearest = "training picture" if k == 1 else f"{k} training pictures"
    return (
        f"By the {nearest} nearest to it in the features of {judge.name}, of {len(judge.known('train')):,}, a picture's "
        f"class is right in {found} of {rows:,}; k was {by}."
    )


def _chosen(judge: Backbone, k: int | None, temperature: float) -> tuple[int, Table | None, str]:
    """(k, what was tried, how it was chosen)."""
    rows = len(judge.known("train"))
    if k is not None:
        if k > rows:
            raise Refusal(
                f"{k} neighbours are more than the {rows:,} pictures of train",
                path="k",
                value=k,
                remedy=f"use {rows} or fewer",
            )
        return k, None, "as it was said"
    learn, choose, by = judge.chosen_by()
    tried = [each for each in TRIED if each <= len(learn)]
    found = [float(each.mean()) for each in _right(_bank(judge, learn), choose, tried, temperature)]
    best = tried[int(np.argmax(found))]
    return best, Table("neighbours", {"k": tried, "accuracy": found}), f"chosen by {by}"


def _bank(judge: Backbone, known: Known) -> Bank:
    return Bank(_unit(known), torch.from_numpy(known.labels), len(judge.classes))


def _right(bank: Bank, asking: Known, ks: list[int], temperature: float) -> list[np.ndarray]:
    """For each k: whether each picture gets its own class."""
    told = votes.told(bank, _unit(asking), ks=ks, temperature=temperature).numpy()
    return [each == asking.labels for each in told]


def _unit(known: Known) -> Tensor:
    return F.normalize(torch.from_numpy(known.features), dim=1)
