"""SimSiam: the loss by hand, where its gradient goes, and what is said of a run whose projections fell into one point."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cluster.session import Local
from datasets.batch import Batch
from datasets.refusal import Refusal
from tests.trainers.runs import Places, rows, summary
from trainers import feed, rooms, symptoms
from trainers.describe import preview
from trainers.engine import fit
from trainers.recipe import Recipe
from trainers.tasks.simsiam import SimSiam


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made() -> tuple[SimSiam, Batch]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
    task: SimSiam = rooms.door("tasks", "simsiam").build({"model": network}, {"projection": 12})
    columns = {"image": drawn(6, 1, 4, 4), "image_2": drawn(6, 1, 4, 4, seed=1)}
    return task, Batch({**columns, "id": torch.arange(6)}, key=0)


def simsiam(**changes: Any) -> Recipe:
    short = {"scale.device": "cpu", "log.tensorboard": False, "data.batch": 64, "model.width": 8}
    task = {"name": "simsiam", "projection": 16}
    recipe = Recipe.load("recipes/simclr_digits.yaml")
    return recipe.override({"phases.0.task": task, **short, **changes})


def test_loss_and_gradient_by_hand() -> None:
    """Algorithm 1 of the paper, whose projections are constants where they are predicted."""
    task, batch = made()
    (step,) = task.training_step(batch)
    parameters = [*task.body.parameters(), *task.projector.parameters()]
    found = torch.autograd.grad(step.loss, parameters)
    task, batch = made()
    one, two = (task.projector(task.body(batch[name]).flatten(1)) for name in ("image", "image_2"))
    fixed = [F.normalize(view.detach(), dim=1) for view in (two, one)]
    predicted = [F.normalize(task.predictor(view), dim=1) for view in (one, two)]
    halves = [-(p * z).sum(1).mean() / 2 for p, z in zip(predicted, fixed, strict=True)]
    torch.testing.assert_close(step.loss, 1 + halves[0] + halves[1])
    parameters = [*task.body.parameters(), *task.projector.parameters()]
    expected = torch.autograd.grad(halves[0] + halves[1], parameters)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)
    assert set(step.logs) == {"chance", "alignment", "uniformity"}


def test_the_layers_are_the_papers() -> None:
    task, batch = made()
    kinds = ["Linear", "BatchNorm1d", "ReLU"]
    assert [type(each).__name__ for each in task.projector] == [*kinds, *kinds, *kinds[:2]]
    assert [type(each).__name__ for each in task.predictor] == [*kinds, "Linear"]
    assert task.projector[-1].weight is None, "no scale and shift after the last"
    assert task.predictor[0].out_features == 3, "a quarter of the projection"
    assert task.eval().predict(batch)["embedding"].shape == (6, 8), "features, no projection"


@pytest.mark.parametrize(
    ("changes", "path", "error"),
    [
        ({"data.train.views": None}, "data.train.views", "two views of each picture"),
        ({"data.batch": 1}, "data.batch", "a batch of one has none"),
        ({"scale.micro_batch": 8}, "scale.micro_batch", "couples the samples"),
    ],
)
def test_what_it_cannot_learn_from_is_refused(
    changes: dict[str, Any], path: str, error: str
) -> None:
    with pytest.raises(Refusal, match=error) as caught:
        preview(simsiam(**changes))
    assert caught.value.path == path and caught.value.remedy


def test_it_learns_without_labels_and_negatives(local: Places) -> None:
    place: Local = local()
    list(fit(simsiam(**{"phases.0.steps": 80}), place))
    found = [row for row in rows(place) if row["split"] == "train"]
    assert found[0]["chance"] == 1 and found[-1]["loss"] < 0.5 * found[0]["loss"]
    assert found[-1]["uniformity"] < -1, "not one point"
    assert summary(place)["scores"]["val/effective_rank"] > 3
    assert not [note for note in summary(place)["notes"] if "collapsed" in note]


@pytest.mark.parametrize(
    ("loss", "uniformity", "said"),
    [(0.01, -0.01, "collapsed"), (0.99, -2.0, "not known again"), (0.2, -2.0, None)],
)
def test_a_collapse_is_told_whatever_the_loss(
    loss: float, uniformity: float, said: str | None
) -> None:
    """Without negatives one point is where the loss is least: by itself it would call that a success."""
    kept = {"split": "train", "phase": 0, "epoch": 0, "val": None, "chance": 1.0}
    told = [{**kept, "loss": loss, "uniformity": uniformity}] * 40
    recipe = simsiam()
    notes = symptoms.found(recipe, preview(recipe), feed.dataset(recipe.data), told, {})
    assert [said in note for note in notes] == ([True] if said else [])
