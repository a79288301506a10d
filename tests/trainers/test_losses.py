"""Losses against the papers' formulas and against libraries: hard and soft labels, class weights, chance."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances as theirs
from pytorch_metric_learning import losses, miners, reducers
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from datasets.batch import Batch
from trainers import rooms
from trainers.metric_learning import distances
from trainers.task import Step, Task

CLASSES = 5
COUNTS = [50, 20, 10, 5, 1]
CLASSIFIERS = [
    name
    for name, door in rooms.doors("tasks").items()
    # One that looks for the worst pixels first is tried with attacks (test_attacks.py), those that go by texts with a
    # CLIP (language/).
    if door.constants.get("PREDICTS") == "classes"
    and "PIXELS" not in door.constants
    and "classes" not in door.positional
]


class Given(nn.Module):
    """A network that says what it is fed."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(CLASSES, CLASSES, bias=False)
        nn.init.eye_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x)
        return out


def made(name: str, **arguments: Any) -> Task:
    context = {"model": Given(), "counts": COUNTS}
    task: Task = rooms.door("tasks", name).build(context, arguments)
    return task


def stepped(task: Task, logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Step:
    columns = {"image": logits, "label": label, "id": torch.arange(len(logits))}
    columns |= {} if weight is None else {"weight": weight}
    (step,) = task.training_step(Batch(columns, key=0))
    return step


def drawn(rows: int = 12, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, CLASSES, generator=generator)
    return logits, torch.randint(CLASSES, (rows,), generator=generator)


def share_of_truth(logits: Tensor, label: Tensor) -> Tensor:
    return logits.double().softmax(1)[torch.arange(len(label)), label]


# --- each against its paper


def test_focal_is_the_papers_and_at_gamma_0_cross_entropy() -> None:
    logits, label = drawn()
    p = share_of_truth(logits, label)
    for gamma in (0.0, 0.5, 2.0, 5.0):
        expected = (-((1 - p) ** gamma) * p.log()).mean().float()
        torch.testing.assert_close(
            stepped(made("focal", gamma=gamma), logits, label).loss, expected
        )
    torch.testing.assert_close(
        stepped(made("focal", gamma=0.0), logits, label).loss, F.cross_entropy(logits, label)
    )


def test_focal_of_two_classes_is_torchvisions() -> None:
    """A softmax over (0, z) is the sigmoid of z."""
    z = torch.linspace(-6, 6, 13)
    truth = torch.arange(13) % 2
    task = made("focal", gamma=2.0)
    mine = task.each(torch.stack([torch.zeros(13), z], 1), truth)  # type: ignore[operator]
    torch.testing.assert_close(mine, sigmoid_focal_loss(z, truth.float(), alpha=-1, gamma=2.0))


def test_focal_has_a_slope_where_a_sample_is_told_for_sure() -> None:
    logits = torch.tensor([[60.0, 0, 0, 0, 0]], requires_grad=True)
    task = made("focal", gamma=0.5)
    task.each(logits, torch.tensor([0])).sum().backward()  # type: ignore[operator]
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_generalised_cross_entropy_is_the_papers() -> None:
    logits, label = drawn()
    p = share_of_truth(logits, label)
    for q in (0.3, 0.7, 1.0):
        task = made("generalised_cross_entropy", q=q)
        torch.testing.assert_close(
            stepped(task, logits, label).loss, ((1 - p**q) / q).mean().float()
        )
    near = stepped(made("generalised_cross_entropy", q=1e-6), logits, label).loss
    torch.testing.assert_close(near, F.cross_entropy(logits, label), rtol=1e-4, atol=1e-5)


def test_symmetric_cross_entropy_is_the_papers() -> None:
    logits, label = drawn()
    p = share_of_truth(logits, label)
    task = made("symmetric_cross_entropy", alpha=0.1, beta=1.0, floor=-4.0)
    # Of a one-hot label the reverse term is -A (1 - p): equation 10 of the paper.
    expected = (-0.1 * p.log() + 4.0 * (1 - p)).mean().float()
    torch.testing.assert_close(stepped(task, logits, label).loss, expected)


def test_binary_cross_entropy_is_torchs() -> None:
    logits, label = drawn()
    target = F.one_hot(label, CLASSES).float()
    expected = F.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(stepped(made("bce"), logits, label).loss, expected)
    summed = stepped(made("bce", over_classes="sum"), logits, label).loss
    torch.testing.assert_close(summed, expected * CLASSES)
    smooth = F.binary_cross_entropy_with_logits(logits, target * 0.9 + 0.1 / CLASSES)
    torch.testing.assert_close(
        stepped(made("bce", label_smoothing=0.1), logits, label).loss, smooth
    )


def test_logit_adjustment_is_the_papers_and_predicts_without_it() -> None:
    logits, label = drawn()
    prior = torch.tensor(COUNTS) / sum(COUNTS)
    for tau in (0.0, 1.0, 1.5):
        task = made("logit_adjusted", tau=tau)
        expected = F.cross_entropy(logits + tau * prior.log(), label)
        torch.testing.assert_close(stepped(task, logits, label).loss, expected)
        batch = Batch({"image": logits, "id": torch.arange(len(logits))}, key=0)
        assert torch.equal(task.predict(batch)["logits"], logits)
    assert not task.state_dict().keys() & {"prior_C", "share_C"}


def test_logit_adjustment_before_the_data_are_known_is_cross_entropy() -> None:
    logits, label = drawn()
    task = rooms.door("tasks", "logit_adjusted").build({"model": Given(), "counts": []}, {})
    torch.testing.assert_close(stepped(task, logits, label).loss, F.cross_entropy(logits, label))


# --- what holds for all of them


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_soft_labels_of_one_class_are_hard_labels(name: str) -> None:
    logits, label = drawn()
    hard = stepped(made(name), logits, label)
    soft = stepped(made(name), logits, F.one_hot(label, CLASSES).float())
    torch.testing.assert_close(hard.loss, soft.loss)
    assert hard.logs["accuracy"] == soft.logs["accuracy"]
    assert hard.samples and soft.samples
    torch.testing.assert_close(hard.samples()["loss"], soft.samples()["loss"])


LINEAR = [n for n in CLASSIFIERS if n not in ("squared_error", "symmetric_cross_entropy")]


@pytest.mark.parametrize("name", LINEAR)
def test_a_mixed_label_costs_what_its_parts_cost(name: str) -> None:
    """As CutMix has it. (A square is not linear, nor is the floor under a logarithm.)"""
    logits, label = drawn()
    other = (label + 1) % CLASSES
    mixed = 0.3 * F.one_hot(label, CLASSES) + 0.7 * F.one_hot(other, CLASSES)
    task = made(name)
    parts = 0.3 * task.each(logits, label) + 0.7 * task.each(logits, other)  # type: ignore[operator]
    torch.testing.assert_close(task.each(logits, mixed), parts)  # type: ignore[operator]


@pytest.mark.parametrize("name", CLASSIFIERS)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_a_weight_of_two_is_a_sample_twice(name: str, seed: int, rows: int) -> None:
    """Whatever is spent of it: a mean by its weights, or a sum over the global batch."""
    logits, label = drawn(rows, seed)
    weight = torch.randint(1, 4, (rows,), generator=torch.Generator().manual_seed(seed))
    twice = weight.repeat_interleave(weight).shape[0]
    long_logits, long_label = (x.repeat_interleave(weight, dim=0) for x in (logits, label))
    weighted = stepped(made(name), logits, label, weight.float())
    repeated = stepped(made(name), long_logits, long_label)
    if weighted.summed:
        torch.testing.assert_close(weighted.loss * rows, repeated.loss * twice)
    else:
        assert weighted.weight == twice
        torch.testing.assert_close(weighted.loss, repeated.loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_chance_is_the_loss_of_one_who_knows_nothing(name: str) -> None:
    task = made(name)
    logits = torch.zeros(CLASSES, CLASSES)
    if name == "bce":
        logits -= math.log(CLASSES - 1)
    label, prior = torch.arange(CLASSES), torch.tensor(COUNTS) / sum(COUNTS)
    each = task.each(logits, label)  # type: ignore[operator]
    expected = (each * prior).sum() if name == "logit_adjusted" else each.mean()
    torch.testing.assert_close(stepped(task, *drawn()).logs["chance"], expected)
    if name in ("classify", "focal"):
        known = math.log(CLASSES) * ((1 - 1 / CLASSES) ** 2 if name == "focal" else 1)
        assert float(expected) == pytest.approx(known)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_truth_costs_nothing_and_slopes_are_finite(name: str) -> None:
    label = torch.arange(CLASSES)
    logits = (40.0 * F.one_hot(label, CLASSES) - 20.0).requires_grad_()
    each = made(name).each(logits, label)  # type: ignore[operator]
    assert (each < 1e-3).all() and (each >= -1e-6).all()
    each.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


# --- losses over pairs, against pytorch-metric-learning


def features(rows: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(rows) // 4
    return torch.randn(rows, 6, generator=generator) + 0.5 * label[:, None], label


def paired(name: str, **arguments: Any) -> Any:
    return rooms.door("tasks", name).build({"model": Given()}, arguments)


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard", "all"])
@pytest.mark.parametrize("margin", [0.25, 1.5, None])
def test_triplets_are_the_librarys(kind: str, mining: str, margin: float | None) -> None:
    if margin is None and mining == "semi_hard":
        return
    embedding, label = features()
    task = paired("triplet", distance=kind, mining=mining, margin=margin)
    cosine = theirs.CosineSimilarity()
    measure: Any = cosine if kind == "cosine" else theirs.LpDistance(normalize_embeddings=False)
    width = margin or 0.0
    miner: Any = {
        "batch_hard": miners.BatchHardMiner(distance=measure),
        "semi_hard": miners.TripletMarginMiner(width, "semihard", distance=measure),
        "all": lambda *_: None,
    }[mining]
    mean = reducers.MeanReducer() if mining == "batch_hard" else reducers.AvgNonZeroReducer()
    known = losses.TripletMarginLoss(
        width, smooth_loss=margin is None, distance=measure, reducer=mean
    )
    loss, logs = task.loss(embedding, label)
    torch.testing.assert_close(loss, known(embedding, label, miner(embedding, label)))
    assert 0 < logs["active_triplets"] <= 1
    assert float(logs["chance"]) == pytest.approx(margin or math.log(2))


def test_batch_hard_by_hand() -> None:
    """1703.07737, equation 5: the farthest of the class and the nearest of the others, for every sample."""
    embedding, label = features()
    far = torch.cdist(embedding.double(), embedding.double())
    same = label[:, None] == label[None]
    hardest = far.masked_fill(~same, -1).amax(1) - far.masked_fill(same, 1e9).amin(1)
    task = paired("triplet", distance="euclidean", margin=0.5)
    loss, logs = task.loss(embedding, label)
    torch.testing.assert_close(loss.double(), (0.5 + hardest).clamp(min=0).mean())
    assert float(logs["active_triplets"]) == pytest.approx((hardest > -0.5).double().mean())
    others = ~torch.eye(len(label), dtype=torch.bool)
    assert float(logs["positive_distance"]) == pytest.approx(float(far[same & others].mean()))
    assert float(logs["negative_distance"]) == pytest.approx(float(far[~same].mean()))


def test_contrastive_is_the_librarys() -> None:
    embedding, label = features()
    unit = F.normalize(embedding, dim=1)
    known = losses.ContrastiveLoss(0.1, 0.8, distance=theirs.LpDistance())
    loss, _ = paired("contrastive", margin=0.8, positive_margin=0.1).loss(unit, label)
    torch.testing.assert_close(loss, known(embedding, label))


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_nt_xent_is_the_librarys(temperature: float) -> None:
    embedding, label = features()
    loss, logs = paired("ntxent", temperature=temperature).loss(embedding, label)
    torch.testing.assert_close(loss, losses.NTXentLoss(temperature)(embedding, label))
    assert float(logs["chance"]) == pytest.approx(math.log(1 + 20))


def test_nt_xent_of_two_views_is_simclrs() -> None:
    """Equation 1 of 2002.05709; at chance ln(2N - 1), 4.844 of 64 pictures."""
    embedding, _ = features(128)
    label = torch.arange(64).repeat(2)
    loss, logs = paired("ntxent", temperature=0.5).loss(embedding, label)
    unit = F.normalize(embedding, dim=1)
    similar = (unit @ unit.T / 0.5).fill_diagonal_(-torch.inf)
    torch.testing.assert_close(loss, F.cross_entropy(similar, (torch.arange(128) + 64) % 128))
    assert float(logs["chance"]) == pytest.approx(math.log(127))
    flat = torch.ones(128, 6)
    assert float(paired("ntxent").loss(flat, label)[0]) == pytest.approx(math.log(127), rel=1e-5)


@pytest.mark.parametrize("name", ["triplet", "contrastive", "ntxent"])
def test_embeddings_in_one_place_cost_what_chance_says(name: str) -> None:
    _, label = features()
    loss, logs = paired(name).loss(torch.ones(24, 6), label)
    torch.testing.assert_close(loss, logs["chance"], rtol=1e-4, atol=1e-5)


def test_near_rows_far_from_the_origin_keep_their_distance() -> None:
    rows = torch.full((40, 8), 1000.0)
    rows[:, 0] += torch.arange(40) / 64
    far = distances(rows, "euclidean")
    assert float(far[0, 1]) == 1 / 64 and float(far[0, 0]) == 0.0


def test_embeddings_have_length_one_where_that_is_asked() -> None:
    embedding, label = features()
    batch = Batch({"image": embedding[:, :CLASSES], "label": label, "id": label}, key=0)
    assert not torch.allclose(
        paired("triplet").predict(batch)["embedding"].norm(dim=1), torch.ones(24)
    )
    found = paired("triplet", normalise=True).predict(batch)["embedding"]
    torch.testing.assert_close(found.norm(dim=1), torch.ones(24))


def test_no_triplet_is_no_loss_but_has_a_gradient() -> None:
    """Ranks wait for every gradient."""
    task = paired("triplet", mining="semi_hard", margin=0.1, distance="euclidean")
    embedding = torch.zeros(8, 3, requires_grad=True)
    loss, logs = task.loss(embedding, torch.arange(8) // 4)
    loss.backward()
    assert float(loss.detach()) == 0.0 == float(logs["active_triplets"])
    assert embedding.grad is not None and not embedding.grad.any()


def test_the_head_learns_nothing_from_pairs() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    task = rooms.door("tasks", "triplet").build({"model": network}, {})
    assert {id(p) for p in task.parameters()} == {id(p) for p in network[0].parameters()}
