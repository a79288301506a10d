"""Votes of neighbours agree with scikit-learn's, whatever the block; a picture is not its own neighbour."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from datasets.batch import Batch
from trainers import rooms
from trainers.probing import votes
from trainers.probing.votes import Bank
from trainers.task import Figure, Scalar


def drawn(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (rows,), generator=generator)
    features = torch.randn(rows, 6, generator=generator) + F.one_hot(labels, 6)
    return F.normalize(features, dim=1), labels


def reference(bank: Bank, queries: Tensor, k: int, temperature: float) -> list[int]:
    """scikit-learn's, with weights by the cosine that a distance of unit vectors has."""
    model = KNeighborsClassifier(
        k, weights=lambda far: np.exp((1 - far**2 / 2 - 1) / temperature), algorithm="brute"
    )
    model.fit(bank.features.double().numpy(), bank.labels.numpy())
    found: list[int] = model.predict(queries.double().numpy()).tolist()
    return found


@pytest.mark.parametrize("cells", [1, 2**24])
@pytest.mark.parametrize("temperature", [0.07, 5.0])
def test_votes_are_scikit_learns(
    temperature: float, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(votes, "CELLS", cells)
    bank, (queries, _) = Bank(*drawn(80, 0), 4), drawn(40, 1)
    told = votes.told(bank, queries, ks=[1, 7, 30], temperature=temperature)
    for k, each in zip((1, 7, 30), told, strict=True):
        assert each.tolist() == reference(bank, queries, k, temperature)


def test_a_cold_temperature_does_not_overflow() -> None:
    bank = Bank(*drawn(20, 0), 4)
    told = votes.told(bank, bank.features, ks=[5], temperature=1e-4)
    assert torch.equal(told[0], bank.labels), "each is its own nearest"


def evaluated(cuts: list[int], **arguments: float) -> float:
    features, labels = drawn(50, 3)
    evaluator = rooms.door("evals", "knn").build({"classes": list("abcd")}, arguments)
    ids = torch.arange(50).flip(0) * 7  # neither sorted nor rows
    for rows in torch.arange(50).split(cuts):
        batch = Batch({"label": labels[rows], "id": ids[rows]}, key=0)
        evaluator.update({"embedding": 3 * features[rows]}, batch)
    found, figure = evaluator.findings()
    assert isinstance(found, Scalar) and isinstance(figure, Figure) and found.name == "knn_accuracy"
    return found.value


def test_the_evaluator_leaves_each_picture_out() -> None:
    features, labels = drawn(50, 3)
    hits = 0
    for row in range(50):
        others = torch.arange(50) != row
        bank = Bank(features[others], labels[others], 4)
        hits += reference(bank, features[row : row + 1], 9, 0.07)[0] == int(labels[row])
    assert evaluated([50], k=9) == pytest.approx(hits / 50)
    assert evaluated([13, 20, 17], k=9) == evaluated([50], k=9)
    assert evaluated([50], k=500) == evaluated([50], k=49), "as many as there are"
