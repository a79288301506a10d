"""The order is arithmetic: every sample once, the same batches for any world, one integer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import order
from datasets.order import Plan
from datasets.refusal import Refusal

UNEVEN = [(7, 5), (32, 32), (32, 5), (35, 6), (50, 50), (50, 7), (64, 64), (80, 64), (80, 5)]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    batch = draw(st.integers(1, 80))
    tail = draw(st.sampled_from(["drop", "keep"]))
    least = batch if tail == "drop" else 1
    return Plan(draw(st.integers(least, 400)), batch, draw(st.integers(1, batch)), tail)


def global_batch(plan: Plan, line: order.Integers, step: int, world: int) -> list[int]:
    return [int(row) for rank in range(world) for row in order.rows(plan, line, step, rank, world)]


@settings(max_examples=60, deadline=None)
@given(plan=plans(), seed=st.integers(-5, 2**70))
def test_an_epoch_reads_every_row_once(plan: Plan, seed: int) -> None:
    line = order.line(plan.rows, seed=seed, phase=0, epoch=1)
    read = [row for step in range(plan.steps) for row in global_batch(plan, line, step, 1)]
    assert len(set(read)) == len(read)
    dropped = plan.rows % plan.batch if plan.tail == "drop" else 0
    assert len(read) == plan.rows - dropped


@settings(max_examples=60, deadline=None)
@given(plan=plans(), world=st.integers(1, 80))
def test_global_batches_are_the_same_for_any_world(plan: Plan, world: int) -> None:
    world = min(world, plan.lanes)
    line = order.line(plan.rows, seed=3, phase=1, epoch=0)
    for step in range(plan.steps):
        assert global_batch(plan, line, step, world) == global_batch(plan, line, step, 1)


@pytest.mark.parametrize(("batch", "lanes"), UNEVEN)
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_uneven_batches_lanes_and_worlds(batch: int, lanes: int, world: int) -> None:
    plan = Plan(1257, batch, lanes, "keep")
    line = order.line(1257, seed=0, phase=0, epoch=0)
    steps = [global_batch(plan, line, step, world) for step in range(plan.steps)]
    assert [len(step) for step in steps] == [batch] * (1257 // batch) + [1257 % batch] * (
        1257 % batch > 0
    )
    assert sorted(row for step in steps for row in step) == list(range(1257))
    if world > 1:
        assert steps == [global_batch(plan, line, step, 1) for step in range(plan.steps)]


def test_lanes_follow_the_written_formula() -> None:
    plan, world = Plan(103, 10, 4), 3
    line = order.line(103, seed=1, phase=0, epoch=2)
    cut = [lane * 10 // 4 for lane in range(5)]
    for step in range(10):
        for rank in range(world):
            expected = [
                line[10 * cut[lane] + step * (cut[lane + 1] - cut[lane]) + place]
                for lane in range(rank * 4 // world, (rank + 1) * 4 // world)
                for place in range(cut[lane + 1] - cut[lane])
            ]
            assert order.rows(plan, line, step, rank, world).tolist() == expected


def test_slots_of_the_ranks_touch() -> None:
    plan = Plan(1000, 50, 7)
    bounds = [order.slots(plan, rank, 5) for rank in range(5)]
    assert [first for first, _ in bounds] == [0] + [last for _, last in bounds[:-1]]
    assert bounds[-1][1] == 50


def test_a_rank_may_have_no_slot_of_the_ragged_batch() -> None:
    plan = Plan(9, 8, 8, "keep")
    line = order.line(9, seed=0, phase=0, epoch=0)
    counts = [len(order.rows(plan, line, 1, rank, 4)) for rank in range(4)]
    assert (plan.steps, plan.ragged, sorted(counts)) == (2, 1, [0, 0, 0, 1])


def test_fewer_rows_than_a_batch_are_one_ragged_step() -> None:
    plan = Plan(5, 8, 4, "keep")
    assert (plan.full_steps, plan.steps, plan.ragged) == (0, 1, 5)
    line = order.line(5, seed=0, phase=0, epoch=0)
    assert sorted(global_batch(plan, line, 0, 3)) == list(range(5))


@pytest.mark.parametrize(
    ("rows", "batch", "lanes", "tail", "path"),
    [
        (10, 16, 4, "drop", "data.batch"),
        (10, 0, 1, "drop", "data.batch"),
        (10, 4, 5, "drop", "data.lanes"),
        (10, 4, 0, "drop", "data.lanes"),
        (10, 4, 4, "pad", "data.tail"),
        (0, 4, 4, "keep", "data"),
    ],
)
def test_impossible_plans_are_refused(
    rows: int, batch: int, lanes: int, tail: str, path: str
) -> None:
    with pytest.raises(Refusal) as caught:
        Plan(rows, batch, lanes, tail)  # type: ignore[arg-type]
    assert caught.value.path == path
    assert caught.value.remedy


def test_more_ranks_than_lanes_are_refused() -> None:
    with pytest.raises(Refusal, match="scale.workers=5 is more than data.lanes=4.*raise"):
        order.slots(Plan(100, 10, 4), 0, 5)


def test_lines_differ_by_seed_phase_and_epoch() -> None:
    lines = {
        tuple(order.line(50, seed=s, phase=p, epoch=e))
        for s in (0, 1)
        for p in (0, 1)
        for e in (0, 1)
    }
    assert len(lines) == 8


@pytest.mark.parametrize("rows", [1, 2, 63, order.LINE_ROWS // 3, order.LINE_ROWS])
def test_lines_that_are_made_together_are_those_made_alone(rows: int) -> None:
    for epoch in (0, 1, 2, 3, 4, order.LINE_ROWS - 1, order.LINE_ROWS):
        alone = order.permutation(rows, order.key("line", 7, 2, epoch))
        assert order.line(rows, seed=7, phase=2, epoch=epoch).tolist() == alone.tolist()


def test_golden_values() -> None:
    """These never change: a resumed run on another machine depends on them."""
    assert order.key(0, 1, 2) == 1036829450557829643
    assert order.line(8, seed=0, phase=0, epoch=0).tolist() == [1, 4, 7, 0, 3, 6, 2, 5]
    assert order.integers(7, [0, 1, 2, 3], 0, 1000).tolist() == [455, 721, 649, 549]


def test_draws_depend_on_key_id_and_draw_alone() -> None:
    ids = np.array([5, 900, 3])
    together = order.uniform(11, ids, 2)
    assert [order.uniform(11, [i], 2)[0] for i in ids] == together.tolist()
    assert not np.isclose(order.uniform(11, ids, 3), together).any()
    assert not np.isclose(order.uniform(12, ids, 2), together).any()
    rows = order.normal(11, ids, 5)
    assert np.array_equal(order.normal(11, ids[::-1], 5), rows[::-1])
    assert np.array_equal(order.normal(11, ids, 2), rows[:, :2])
    assert (rows.shape, rows.dtype) == ((3, 5), np.float32)


def test_draws_have_their_distributions() -> None:
    ids = np.arange(40_000)
    uniform, normal = order.uniform(1, ids, 0), order.normal(1, ids, 3)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01
    assert np.abs(np.corrcoef(uniform[:-1], uniform[1:])[0, 1]) < 0.02
    assert np.abs(normal.mean(0)).max() < 0.02
    assert np.abs(normal.std(0) - 1).max() < 0.02
    assert np.abs(np.corrcoef(normal.T) - np.eye(3)).max() < 0.02
    counts = np.bincount(order.integers(2, ids, 0, 5), minlength=5)
    assert len(counts) == 5 and np.abs(counts / 8000 - 1).max() < 0.05


def test_permutations_are_unbiased() -> None:
    """Over 2,000 epochs each row is equally often first."""
    firsts = [order.line(5, seed=0, phase=0, epoch=epoch)[0] for epoch in range(2000)]
    assert np.abs(np.bincount(firsts, minlength=5) / 400 - 1).max() < 0.2


@given(rows=st.integers(0, 100), world=st.integers(1, 9))
def test_shares_cover_each_row_once(rows: int, world: int) -> None:
    read = [row for rank in range(world) for row in order.share(rows, rank, world)]
    assert read == list(range(rows))


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 12)), min_size=1, max_size=4),
    st.data(),
)
def test_locate_counts_as_a_loop_does(lengths: list[tuple[int, int]], data: st.DataObject) -> None:
    positions = [
        (phase, done // steps, done % steps)
        for phase, (steps, total) in enumerate(lengths)
        for done in range(total)
    ]
    step = data.draw(st.integers(0, len(positions) - 1))
    assert order.locate(step, lengths) == positions[step]
    assert order.locate(len(positions), lengths) == (len(lengths), 0, 0)
    with pytest.raises(Refusal):
        order.locate(len(positions) + 1, lengths)


def test_the_hash_is_splitmix64() -> None:
    assert order._mix(1234567 + order._GOLDEN) == 6457827717110365317  # its published first output
    ids = np.array([0, 1, 2**40])
    assert np.array_equal(order.hashes(9, ids, 3), order.hashes(9, ids, np.array([3])))
    assert order._mix_array(np.array([77], np.uint64))[0] == order._mix(77)
