"""SimCLR: its loss is the library's, its scale is said beside it, what cannot be learnt from is refused by the recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cluster.session import Local
from datasets.batch import Batch
from datasets.refusal import Refusal
from tests.trainers.runs import rows, summary
from trainers import anatomy, contrast, demands, feed, rooms, symptoms
from trainers.describe import preview
from trainers.engine import fit
from trainers.recipe import Recipe

Places = Callable[..., Local]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loss_of(one: Tensor, two: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    both = F.normalize(torch.cat([one, two]), dim=1)
    return contrast.nt_xent_of_views(both @ both.T / temperature)


@pytest.mark.parametrize("pictures", [2, 7, 64])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_the_loss_and_its_gradient_are_the_librarys(pictures: int, temperature: float) -> None:
    from pytorch_metric_learning.losses import NTXentLoss

    ours, theirs = (drawn(2 * pictures, 6).requires_grad_() for _ in range(2))
    mine, chance = loss_of(*ours.chunk(2), temperature)
    reference = NTXentLoss(temperature)(theirs, torch.arange(pictures).repeat(2))
    torch.testing.assert_close(mine, reference)
    mine.backward()
    reference.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
    assert float(chance) == pytest.approx(math.log(2 * pictures - 1), rel=1e-6)


def test_the_reports_batch_has_the_scale_that_it_should_have_shown() -> None:
    """Batch 64, temperature .5: a loss of 4.04 lies between chance, 4.844, and about 2.9."""
    point = torch.ones(64, 8)
    at_one_point, chance = loss_of(point, point, 0.5)
    assert float(at_one_point) == pytest.approx(float(chance)) == pytest.approx(4.8442, abs=1e-4)
    assert contrast.floor(64, 0.5) == pytest.approx(2.893, abs=1e-3)
    apart = torch.eye(64)
    assert float(loss_of(apart, apart, 0.5)[0]) == pytest.approx(contrast.floor(64, 0.5), rel=1e-6)


def test_alignment_and_uniformity_by_hand() -> None:
    one, two = (F.normalize(drawn(9, 4, seed=s), dim=1) for s in (0, 1))
    assert float(contrast.alignment(one, one)) == 0
    assert float(contrast.alignment(one, -one)) == pytest.approx(4)
    expected = (one - two).norm(dim=1).pow(2).mean()
    torch.testing.assert_close(contrast.alignment(one, two), expected)
    # The paper's own line of code.
    torch.testing.assert_close(
        contrast.uniformity(one), torch.pdist(one, p=2).pow(2).mul(-2).exp().mean().log()
    )
    assert float(contrast.uniformity(one[:1].expand(5, 4))) == pytest.approx(0, abs=1e-5)


def test_both_views_pass_through_the_network_at_once() -> None:
    """Batch norm sees 2B rows, as the paper's does; the head is left alone."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    task = rooms.door("tasks", "simclr").build({"model": network}, {})
    columns = {"image": drawn(5, 1, 4, 4), "image_2": drawn(5, 1, 4, 4, seed=1)}
    (step,) = task.training_step(Batch({**columns, "id": torch.arange(5)}, key=0))
    assert int(network[2].num_batches_tracked) == 1
    step.loss.backward()
    assert network[1].weight.grad is not None and network[3].weight.grad is None
    assert anatomy.width(network) == 8 and task.projector[0].in_features == 8
    assert set(step.logs) == {"chance", "floor", "alignment", "uniformity"}
    outputs = task.eval().predict(Batch({**columns, "id": torch.arange(5)}, key=0))
    assert outputs["embedding"].shape == (5, 8), "the features, not their projection"


def simclr(**changes: Any) -> Recipe:
    short = {"scale.device": "cpu", "log.tensorboard": False, "data.batch": 64, "model.width": 8}
    return Recipe.load("recipes/simclr_digits.yaml").override({**short, **changes})


@pytest.mark.parametrize(
    ("changes", "path", "value", "error"),
    [
        ({"data.train.views": None}, "data.train.views", None, "two views of each picture"),
        ({"data.batch": 1}, "data.batch", 1, "a batch of one has none"),
        ({"scale.micro_batch": 8}, "scale.micro_batch", 8, "couples the samples"),
        ({"data.train.views": None, "phases.0.data": {"train": {"views": 1}}},
         "phases.0.data.train.views", 1, "two views"),
    ],
)  # fmt: skip
def test_what_has_no_pairs_is_refused_by_the_recipe_alone(
    changes: dict[str, Any], path: str, value: Any, error: str
) -> None:
    with pytest.raises(Refusal, match=error) as caught:
        preview(simclr(**changes))
    assert (caught.value.path, caught.value.value) == (path, value)
    assert caught.value.remedy


def test_a_last_batch_of_one_picture_is_refused() -> None:
    recipe = simclr(**{"data.tail": "keep", "data.batch": 74})
    dataset = feed.dataset(recipe.data)
    assert dataset.manifest.split("train").rows % 74 == 1
    with pytest.raises(Refusal, match="one picture of") as caught:
        demands.check_data(recipe, 0, dataset)
    assert (caught.value.path, caught.value.value) == ("data.tail", "keep")
    demands.check_data(simclr(**{"data.tail": "keep"}), 0, dataset)


def test_it_learns_without_labels_and_says_its_scale(local: Places) -> None:
    place = local()
    recipe = simclr(**{"phases.0.steps": 60, "evals.knn.every": 1, "evals.embedding.every": 3})
    list(fit(recipe, place))
    found = [row for row in rows(place) if row["split"] == "train"]
    assert {"chance", "floor", "alignment", "uniformity"} <= set(found[0])
    assert found[0]["chance"] == pytest.approx(math.log(127), rel=1e-5)
    assert found[-1]["loss"] < found[0]["loss"] - 0.2 and found[-1]["loss"] > found[-1]["floor"]
    scores = summary(place)["scores"]
    assert scores["val/knn_accuracy"] > 0.55 and scores["val/effective_rank"] > 3
    assert not [note for note in summary(place)["notes"] if "collapsed" in note]


def series(loss: float, uniformity: float) -> list[dict[str, Any]]:
    kept = {"split": "train", "phase": 0, "epoch": 0, "loss": loss, "chance": 4.844, "floor": 2.893}
    return [{**kept, "uniformity": uniformity, "val": None}] * 40


@pytest.mark.parametrize(
    ("loss", "uniformity", "said"),
    [(4.84, -0.01, "collapsed"), (4.84, -3.5, "not known again"), (4.04, -2.0, None)],
)
def test_a_loss_at_chance_is_told(loss: float, uniformity: float, said: str | None) -> None:
    recipe = simclr()
    dataset = feed.dataset(recipe.data)
    told = symptoms.found(recipe, preview(recipe), dataset, series(loss, uniformity), {})
    assert [said in note for note in told] == ([True] if said else [])
