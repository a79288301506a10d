"""Samplers: the same batches for any world, from any step on; what each promises, and that a breach of it is seen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import order, orders
from datasets.order import Plan
from datasets.orders import Rows
from datasets.packed.manifest import Shard, Split
from datasets.refusal import Refusal
from datasets.sampling.mixture import Mixture, shares
from datasets.sampling.samplers import Sampler, Shuffled

SIZES = [40, 90, 3, 61, 26]  # of five classes, one of which is rare
LABELS = np.repeat(np.arange(5), SIZES)[order.permutation(220, order.key("test"))]


def split(rows: int, shards: int = 1) -> Split:
    bounds = np.arange(shards + 1) * rows // shards
    found = tuple(Shard(f"{n}", int(r), 100 * int(r), ()) for n, r in enumerate(np.diff(bounds)))
    return Split(rows, "", found)


def rows(batch: int = 20, lanes: int = 7, tail: str = "drop") -> Rows:
    return Rows(split(len(LABELS)), lambda: LABELS, batch, lanes, tail)  # type: ignore[arg-type]


SAMPLERS = {
    "shuffle": lambda: orders.shuffle(rows()),
    "balanced": lambda: orders.balanced(rows()),
    "balanced of few": lambda: orders.balanced(rows(batch=3, lanes=3)),
    "pxk": lambda: orders.pxk(rows(), samples=5),
    "pxk of a rare class": lambda: orders.pxk(rows(), samples=4),
    "undersample": lambda: orders.undersample(rows(), cap=30),
    "oversample": lambda: orders.oversample(rows()),
    "oversample, whole": lambda: orders.oversample(rows(tail="keep")),
    "mixture": lambda: Mixture([split(220), split(31), split(1000)], [2, 1, 1], batch=20, lanes=7),
}


def epoch(sampler: Sampler, number: int = 0, world: int = 1, seed: int = 3) -> list[np.ndarray]:
    line = sampler.epoch(seed=seed, phase=0, epoch=number)
    return [
        np.concatenate([line.rows(step, rank, world) for rank in range(world)])
        for step in range(sampler.plan.steps)
    ]


@pytest.mark.parametrize("name", SAMPLERS)
def test_batches_are_the_same_for_any_world_and_from_any_step(name: str) -> None:
    sampler, again = SAMPLERS[name](), SAMPLERS[name]()
    whole = epoch(sampler, 2)
    assert [len(batch) for batch in whole] == [sampler.plan.rows_at(n) for n in range(len(whole))]
    for world in (2, 3):
        assert all(map(np.array_equal, epoch(sampler, 2, world), whole))
    line = again.epoch(seed=3, phase=0, epoch=2)
    backwards = [line.rows(step) for step in reversed(range(again.plan.steps))]
    assert all(map(np.array_equal, backwards[::-1], whole))


@pytest.mark.parametrize("name", SAMPLERS)
def test_epochs_phases_and_seeds_differ(name: str) -> None:
    sampler = SAMPLERS[name]()
    found = {np.concatenate(epoch(sampler, *where)).tobytes() for where in ((0,), (1,), (0, 1, 4))}
    other = sampler.epoch(seed=3, phase=1, epoch=0)
    found.add(np.concatenate([other.rows(n) for n in range(sampler.plan.steps)]).tobytes())
    assert len(found) == 4


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("number", [0, 1, 5])
def test_each_keeps_its_promise_and_sees_when_it_is_broken(name: str, number: int) -> None:
    sampler = SAMPLERS[name]()
    used = np.concatenate(epoch(sampler, number))
    assert list(sampler.broken(used, whole=True)) == []
    assert list(sampler.broken(used[: 2 * sampler.plan.batch], whole=False)) == []
    assert sampler.promise
    assert list(sampler.broken(np.full_like(used, used[0]), whole=True)), "one sample all the time"


def test_balanced_batches_have_equal_classes() -> None:
    for batch in epoch(orders.balanced(rows(batch=22))):
        counts = Counter(LABELS[batch].tolist())
        assert set(counts) == set(range(5)) and set(counts.values()) == {4, 5}
    # A common class is gone through nearly once before any of its samples comes again.
    used = np.concatenate(epoch(orders.balanced(rows())))
    times = np.bincount(used, minlength=220)
    for label in range(5):
        of_class = times[label == LABELS]
        assert of_class.max() - of_class.min() <= 1


def test_pxk_batches_are_classes_by_samples() -> None:
    taken: Counter[int] = Counter()
    for batch in epoch(orders.pxk(rows(batch=10), samples=5)):
        labels, counts = np.unique(LABELS[batch], return_counts=True)
        assert len(labels) == 2 and (counts == 5).all()
        common = [row for row in batch.tolist() if LABELS[row] != 2]
        assert len(set(common)) == len(common), (
            "no sample twice in a batch, of classes that have five"
        )
        taken.update(labels.tolist())
    assert set(taken) == set(range(5)) and max(taken.values()) - min(taken.values()) <= 5


def test_undersampling_caps_and_draws_anew() -> None:
    sampler = orders.undersample(rows(batch=19, lanes=19, tail="keep"), cap=30)
    first, second = (np.concatenate(epoch(sampler, number)) for number in (0, 1))
    assert np.bincount(LABELS[first]).tolist() == [30, 30, 3, 30, 26]
    assert len(set(first.tolist())) == len(first) and set(first.tolist()) != set(second.tolist())


def test_oversampling_evens_classes_out_and_leaves_no_sample_out() -> None:
    used = np.concatenate(epoch(orders.oversample(rows(tail="keep"))))
    assert np.bincount(LABELS[used]).tolist() == [90] * 5
    assert (np.bincount(used, minlength=220) >= 1).all()


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6), st.integers(6, 200))
@settings(max_examples=200, deadline=None)
def test_slots_are_shared_by_weight_and_nobody_is_left_out(
    weights: list[float], batch: int
) -> None:
    found = shares(weights, batch)
    assert sum(found) == batch and min(found) >= 1
    quotas = [batch * weight / sum(weights) for weight in weights]
    if min(quotas) >= 1:
        assert all(abs(count - quota) < 1 for count, quota in zip(found, quotas, strict=True))


def test_a_mixture_keeps_each_sets_own_epochs() -> None:
    mixture = Mixture([split(64), split(12)], [3, 1], batch=8, lanes=4)
    assert mixture.counts == (6, 2) and mixture.plan.steps == 10
    small: list[int] = []
    for number in range(3):
        for batch in epoch(mixture, number):
            small += [row - 64 for row in batch.tolist() if row >= 64]
    # Twelve rows, two a step: every six steps all of them, whatever the first set's epochs are.
    assert all(sorted(small[n : n + 12]) == list(range(12)) for n in range(0, 60, 12))
    assert small[:12] != small[12:24], "in a new order"


def test_a_large_set_is_mixed_by_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "WHOLE_BYTES", 50_000)
    mixture = Mixture([split(1000, shards=10), split(40)], [5, 1], batch=12, lanes=5)
    used = np.concatenate(epoch(mixture, world=3))
    assert list(mixture.broken(used, whole=True)) == []
    assert len(set(used[used < 1000].tolist())) == 100 * 10 == np.count_nonzero(used < 1000)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(Refusal, match="no 6 samples of each") as caught:
        orders.pxk(rows(), samples=6)
    assert caught.value.path == "data.batch"
    with pytest.raises(Refusal, match="at most 5 classes"):
        orders.pxk(rows(batch=24), samples=4)
    with pytest.raises(Refusal, match="no tail to keep"):
        orders.balanced(rows(tail="keep"))
    with pytest.raises(Refusal, match="no slot for each of 3 sets"):
        Mixture([split(9)] * 3, [1, 1, 1], batch=2, lanes=2)
    with pytest.raises(ValueError, match="a plan of 5 rows for a split of 9"):
        Shuffled(split(9), Plan(5, 1, 1))
