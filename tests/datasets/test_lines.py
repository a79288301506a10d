"""Lines: every row once, the same global batches for any world, windows that stay near, plans of any size."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import order
from datasets.order import Plan
from datasets.packed.manifest import Shard, Split
from datasets.refusal import Refusal
from datasets.sampling import lines
from datasets.sampling.lines import Windowed


def line(sizes: list[int], batch: int, lanes: int, tail: str = "drop", epoch: int = 0) -> Windowed:
    plan = Plan(sum(sizes), batch, lanes, tail)  # type: ignore[arg-type]
    return Windowed(plan, np.array(sizes), root=order.key("a test", epoch))


@st.composite
def lines_of_any_size(draw: st.DrawFn) -> Windowed:
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=12))
    batch = draw(st.integers(1, sum(sizes)))
    tail = draw(st.sampled_from(["drop", "keep"]))
    return line(sizes, batch, draw(st.integers(1, batch)), tail)


@given(lines_of_any_size(), st.sampled_from([1, 2, 3, 5, 6]))
@settings(max_examples=150, deadline=None)
def test_every_row_once_and_the_same_batches_for_any_world(one: Windowed, world: int) -> None:
    plan, seen = one.plan, []
    for step in range(plan.steps):
        whole = one.rows(step)
        assert len(whole) == plan.rows_at(step)
        if world <= plan.lanes:
            parts = [one.rows(step, rank, world) for rank in range(world)]
            assert np.array_equal(np.concatenate(parts), whole)
        seen += whole.tolist()
    assert len(set(seen)) == len(seen) == plan.full_steps * plan.batch + plan.ragged
    assert not seen or (min(seen) >= 0 and max(seen) < plan.rows)


def test_steps_are_read_in_any_order() -> None:
    one, two = line([30] * 20, 16, 8), line([30] * 20, 16, 8)
    forward = [one.rows(step).tolist() for step in range(one.plan.steps)]
    assert [two.rows(step).tolist() for step in reversed(range(two.plan.steps))] == forward[::-1]


def test_epochs_differ() -> None:
    assert not np.array_equal(line([50] * 9, 32, 8).rows(0), line([50] * 9, 32, 8, epoch=1).rows(0))


def test_a_lane_reads_few_shards_at_a_time() -> None:
    """Within a stretch of steps a rank touches about its lanes' windows, not the whole set."""
    one = line([100] * 640, 64, 8)
    rows = np.concatenate([one.rows(step, 0, 8) for step in range(100)])  # 800 rows of one lane
    assert len(np.unique(rows // 100)) <= 800 / 100 + 2


def test_shards_are_spread_over_lanes() -> None:
    """Class-sorted shards still make mixed batches: lanes lie in different shards."""
    one = line([100] * 640, 64, 64)
    assert len(np.unique(one.rows(5) // 100)) > 50


@pytest.mark.parametrize("size", [order.WHOLE_BYTES, order.WHOLE_BYTES + 1])
def test_the_manifest_decides_and_never_the_machine(size: int) -> None:
    shards = (Shard("a", 50, size - 10, ()), Shard("b", 50, 10, ()))
    found = lines.of_epoch(Split(100, "", shards), Plan(100, 10, 10), seed=0, phase=0, epoch=0)
    assert isinstance(found, Windowed) == (size > order.WHOLE_BYTES)


def test_a_whole_line_is_orders() -> None:
    shards = (Shard("a", 103, 1000, ()),)
    plan = Plan(103, 10, 7, "keep")
    found = lines.of_epoch(Split(103, "", shards), plan, seed=4, phase=1, epoch=2)
    expected = order.line(103, seed=4, phase=1, epoch=2)
    for step in range(plan.steps):
        for rank in range(3):
            mine = order.rows(plan, expected, step, rank, 3)
            assert np.array_equal(found.rows(step, rank, 3), mine)


def test_too_many_ranks_and_steps_are_refused() -> None:
    one = line([50] * 4, 8, 4)
    with pytest.raises(Refusal, match="scale.workers=5"):
        one.rows(0, 0, 5)
    with pytest.raises(IndexError):
        one.rows(one.plan.steps)


def test_a_thousand_million_rows_take_little_memory() -> None:
    """10^9 rows in 10^6 shards: what any rank needs for its first steps."""
    sizes = np.full(1_000_000, 1000)
    tracemalloc.start()
    started = time.perf_counter()
    one = Windowed(Plan(10**9, 4096, 64), sizes, root=order.key(1))
    rows = one.rows(0, 7, 8)
    seconds, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows) == 512 and rows.max() < 10**9
    assert peak < 200 * 2**20, f"{peak / 2**20:.0f} MiB, {seconds:.2f} s"
