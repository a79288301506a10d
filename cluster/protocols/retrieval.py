"""Retrieval: each picture of a split asks for its class among the others, by the cosine of frozen features."""

from __future__ import annotations

import numpy as np
from pydantic import PositiveInt

from cluster.backbone import Backbone
from cluster.protocol import Outcome
from cluster.saved import Saved
from cluster.tasks import Workers
from datasets.progress import Shown
from datasets.refusal import Refusal
from trainers.probing.known import Known
from trainers.retrieval.embedder import normalised
from trainers.retrieval.scores import Ranking, score
from trainers.task import Finding, Scalar, Table


def build(
    saved: Saved,
    split: str,
    shown: Shown,
    workers: Workers,
    *,
    data: str | None = None,
    ks: list[PositiveInt] = [1, 5, 10],
) -> Outcome:
    """Nothing is learnt or chosen. `ks` are how many results are looked at."""
    if not ks:
        raise Refusal("is empty", path="ks", value="[]", remedy="say how many results: ks=[5]")
    judge = Backbone.of(saved, split, data, workers)
    known = judge.known(split)
    with shown(f"retrieval of {saved.run.name}") as progress:
        try:
            found = score(_ranking(known), ks, judge.classes, progress=progress)
        except Refusal as refusal:
            if refusal.path == "--k":
                refusal.path = "ks"
            raise
    scores, spread = found["scores"], found["interval"]
    findings: list[Finding] = [Scalar(_named(name), value) for name, value in scores.items()]
    findings += [Scalar("map_low", scores["map"] - spread["map"]), Scalar("map_high", scores["map"] + spread["map"])]  # fmt: skip
    columns = {name: [row[name] for row in found["classes"]] for name in found["classes"][0]}
    findings.append(Table("classes", columns))
    most = max(ks)
    sentences = [
        f"Of the {most} pictures nearest to each of {found['queries']:,} of {split}, "
        f"{100 * scores[f'precision@{most}']:.1f} % are of its class, {100 * found['chance']:.1f} % by chance; mean average "
        f"precision {100 * scores['map']:.1f} % ± {100 * spread['map']:.1f}."
    ]
    if found["without_match"]:
        sentences.append(
            f"{found['without_match']:,} pictures have no other of their class, and do not count."
        )
    return Outcome(findings, sentences)


def _named(name: str) -> str:
    """`precision@5` as scores are called."""
    return name.replace("@", "_at_")


def _ranking(known: Known) -> Ranking:
    features = normalised(known.features, known.ids.tolist(), "cosine")
    place = np.arange(len(known))
    return Ranking(features, known.labels, features, known.labels, place, "cosine")
