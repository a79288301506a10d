"""What train mode costs retrieval: precision at 5 of one network's features in eval mode, and as they would be in train mode.

    python -m benchmarks.retrieval efficientnet_lite0 fashion_mnist --subset 600 model.pretrained=true data.size=224

In train mode the batches are as the index makes them; dropout, if the network has some, is on.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
import torch

from cluster.retrieval import opening
from cluster.retrieval.index import index
from datasets.progress import shown
from datasets.stream import EvalStream
from trainers.retrieval import jobs
from trainers.retrieval.embedder import Features, normalised
from trainers.retrieval.scores import Ranking, score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what")
    parser.add_argument("data")
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--on", default="test")
    parser.add_argument("--subset", type=int)
    said = parser.parse_intermixed_args()
    found = precisions(said.what, said.data, said.changes, on=said.on, subset=said.subset)
    for mode, (value, half, mean) in found.items():
        print(f"{mode} mode: precision@5 {value:.4f} ± {half:.4f}, map {mean:.4f}")


def precisions(
    what: str, data: str, changes: list[str], *, on: str, subset: int | None
) -> dict[str, tuple[float, float, float]]:
    """mode -> precision at 5, half its 95 % interval, and the mean average precision."""
    with tempfile.TemporaryDirectory() as folder:
        made = index(what, data, changes, out=folder, on=on, subset=subset, shown=shown).index
        judged = Ranking.of(made)
        features = in_train_mode(what, data, changes, on, subset)
        trained = Ranking(
            features, judged.query_labels, features, judged.gallery_labels, judged.own, "cosine"
        )
        found = {}
        for mode, ranking in (("eval", judged), ("train", trained)):
            told = score(ranking, [5], made.classes)
            scores = told["scores"]
            half = told["interval"]["precision@5"]
            found[mode] = (scores["precision@5"], half, scores["map"])
    return found


def in_train_mode(
    what: str, data: str, changes: list[str], on: str, subset: int | None
) -> Features:
    """What the index refuses to hold."""
    opened = opening.opened(what, data, changes, shown)
    embedder, network = opened.embedder, opened.embedder.network
    dataset = jobs.sampled(opened.dataset, [on], subset, embedder.recipe.seed)
    stream = EvalStream(dataset, on, batch=embedder.recipe.data.batch, view=embedder.view)
    network.train()
    torch.manual_seed(0)
    found = []
    with torch.no_grad():
        for batch in stream:
            rows = network(embedder.ready(batch)["image"]).float().flatten(1).cpu().numpy()
            found.append(normalised(rows, batch["id"].tolist(), "cosine"))
    return np.concatenate(found)


if __name__ == "__main__":
    main()
