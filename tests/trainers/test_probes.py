"""What networks tell of their inside while they predict, and what evaluators make of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cluster.session import Local
from datasets.batch import Batch
from tests.trainers.runs import rows, summary
from trainers import probes, rooms
from trainers.engine import fit
from trainers.recipe import Recipe
from trainers.spectrum import effective_rank, singular_values
from trainers.task import Evaluator, Scalar, Task

Places = Callable[..., Local]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def classifier(network: nn.Module) -> Task:
    task: Task = rooms.door("tasks", "classify").build({"model": network}, {})
    return task.eval()


def batch_of(image: Tensor) -> Batch:
    return Batch({"image": image, "id": torch.arange(len(image))}, key=0)


def scalars(evaluator: Evaluator) -> dict[str, float]:
    return {f.name: f.value for f in evaluator.findings() if isinstance(f, Scalar)}


def test_features_and_activity_of_a_convolutional_net() -> None:
    network: Any = rooms.door("models", "small_cnn").build({"num_classes": 5, "channels": 1}, {})
    task, image = classifier(network), drawn(7, 1, 8, 8)
    with torch.no_grad(), probes.listening(task, {"embedding", "active", "logits"}) as predict:
        found = predict(batch_of(image))
        again = predict(batch_of(image[:3]))
    assert torch.equal(found["embedding"], network.features(image))
    assert found["active"].shape == (7, 16 + 32 + 64) and again["active"].shape == (3, 112)
    first = network.features[:3](image)
    assert torch.equal(found["active"][:, :16], (first > 0).flatten(2).any(2))
    torch.testing.assert_close(found["logits"], network(image))
    assert not network.head._forward_pre_hooks and not network.features[2]._forward_hooks


def test_nothing_is_listened_to_that_nobody_wants() -> None:
    task = classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    with torch.no_grad(), probes.listening(task, {"logits", "label"}) as predict:
        assert set(predict(batch_of(drawn(2, 1, 2, 2)))) == {"logits", "prediction"}


def test_a_net_without_rectifiers_has_no_unit_that_could_die() -> None:
    task = classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2)))
    with torch.no_grad(), probes.listening(task, {"embedding", "active"}) as predict:
        found = predict(batch_of(drawn(2, 1, 2, 2)))
    assert found["active"].shape == (2, 0)
    health: Evaluator = rooms.door("evals", "health").build({}, {})
    health.update(found, batch_of(drawn(2, 1, 2, 2)))
    assert scalars(health)["dead_units"] == 0.0


def test_dead_units_are_counted() -> None:
    """Three of eight units are pushed below zero for good."""
    linear = nn.Linear(4, 8)
    with torch.no_grad():
        linear.bias[:3] = -1e3
        linear.bias[3:] = 1e3
    task = classifier(nn.Sequential(nn.Flatten(), linear, nn.ReLU(), nn.Linear(8, 2)))
    health: Evaluator = rooms.door("evals", "health").build({}, {})
    with torch.no_grad(), probes.listening(task, {"embedding", "active"}) as predict:
        for image in drawn(20, 1, 2, 2).split(6):
            health.update(predict(batch_of(image)), batch_of(image))
    assert scalars(health)["dead_units"] == 3 / 8


def test_the_effective_rank_is_roys_and_vetterlis() -> None:
    features = drawn(50, 6).double() * torch.tensor([5.0, 3, 1, 1, 0.1, 0])
    share = torch.linalg.svdvals(features)
    share = share[share > 1e-12] / share.sum()
    expected = float(torch.exp(-(share * share.log()).sum()))
    found = effective_rank(singular_values(features.T @ features))
    assert found == pytest.approx(expected, rel=1e-9)
    even = torch.eye(6, dtype=torch.float64)
    assert effective_rank(singular_values(even)) == pytest.approx(6)
    one = torch.ones(50, 6, dtype=torch.float64)
    assert effective_rank(singular_values(one.T @ one)) == pytest.approx(1, abs=1e-6)
    assert effective_rank(singular_values(torch.zeros(3, 3, dtype=torch.float64))) == 0.0
    wrong = torch.full((3, 3), torch.nan, dtype=torch.float64)
    assert effective_rank(singular_values(wrong)) != effective_rank(singular_values(wrong))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_recall_at_1_is_scikit_learns(distance: str) -> None:
    from sklearn.neighbors import NearestNeighbors

    features, label = drawn(80, 5), torch.arange(80) % 4
    features += 0.8 * label[:, None]
    features[40:] *= 3  # lengths differ, so the two distances do
    evaluator = rooms.door("evals", "embedding").build({}, {"distance": distance})
    for part in torch.arange(80).split(33):
        batch = Batch({"label": label[part], "id": part}, key=0)
        evaluator.update({"embedding": features[part]}, batch)
    nearest = NearestNeighbors(n_neighbors=2, metric=distance).fit(features)
    expected = label[nearest.kneighbors(features, return_distance=False)[:, 1]] == label
    assert scalars(evaluator)["recall_at_1"] == pytest.approx(float(expected.double().mean()))


def test_a_class_of_one_has_no_neighbour_to_find() -> None:
    evaluator = rooms.door("evals", "embedding").build({}, {})
    features = torch.tensor([[1.0, 0, 2], [1, 0.1, 2], [0, 1, 2]])
    batch = Batch({"label": torch.tensor([0, 0, 1]), "id": torch.arange(3)}, key=0)
    evaluator.update({"embedding": features}, batch)
    found = scalars(evaluator)
    assert found["recall_at_1"] == 1.0 and found["dead_features"] == pytest.approx(1 / 3)


def test_features_are_judged_in_phases_of_both_kinds(local: Places) -> None:
    recipe = Recipe.load("recipes/digits_triplet.yaml").override(
        {"model.width": 8, "scale.device": "cpu", "log.tensorboard": False, "data.batch": 256}
        | {"phases.0.epochs": 2, "phases.1.epochs": 2}
        | {"evals": {"accuracy": {}, "embedding": {}, "health": {}}}
        | {"phases.0.data.order": {"name": "pxk", "samples": 32}}
    )
    session = local()
    list(fit(recipe, session))
    first, *_, last = [row for row in rows(session) if row["split"] == "val"]
    assert {"val/recall_at_1", "val/effective_rank", "val/dead_units"} <= first.keys()
    assert "val/accuracy" not in first and "val/accuracy" in last
    # The second phase learns the head alone: what is before it stays.
    assert last["val/recall_at_1"] == summary(session)["scores"]["val/recall_at_1"] > 0.3


def test_a_compiled_net_tells_as_much() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    task, image = classifier(network), drawn(5, 1, 2, 2)
    with torch.no_grad(), probes.listening(task, {"embedding", "active"}) as predict:
        expected = predict(batch_of(image))
    task.get_submodule("model").compile(backend="eager")
    with torch.no_grad():
        task.predict(batch_of(image))  # compiled now
        with probes.listening(task, {"embedding", "active"}) as predict:
            found = predict(batch_of(image))
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in expected.items()
    }
