"""Lines: every row once, the same global batches for any world, windows that stay near, plans of any size."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import order, store
from datasets.fetching.ranges import Stats
from datasets.order import Plan
from datasets.packed.manifest import Shard, Split
from datasets.refusal import Refusal
from datasets.sampling import lines
from datasets.sampling.lines import Windowed
from datasets.sampling.samplers import Shuffled
from datasets.stream import check_lanes


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


@pytest.mark.parametrize(
    ("url", "budget", "remedy"),
    [
        ("s3://bucket/set", "2999", "data.lanes=29 or less, or set MANTA_CACHE_BYTES=3000 or more"),
        ("s3://bucket/set", "99", "-- set MANTA_CACHE_BYTES=3000 or more"),
        ("s3://bucket/set", "3000", ""),
        ("/a/set", "0", ""),  # mapped where it lies
    ],
)
def test_lanes_that_the_cache_cannot_serve_are_refused(
    url: str, budget: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "WHOLE_BYTES", 1000)
    monkeypatch.setenv("MANTA_CACHE_BYTES", budget)
    shards = tuple(Shard(name, 50, size, ()) for name, size in (("a", 100), ("b", 50), ("c", 900)))
    sets = {size: Split(100, "", shards[: size + 1]) for size in (1, 2)}
    manifest = SimpleNamespace(split=lambda name: sets[1])
    dataset = SimpleNamespace(stats=Stats() if store.is_remote(url) else None, manifest=manifest)
    whole = Shuffled(sets[1], Plan(100, 64, 30))
    check_lanes(dataset, "train", whole)  # type: ignore[arg-type]
    monkeypatch.setattr(order, "WHOLE_BYTES", 100)
    with pytest.raises(Refusal) if remedy else nullcontext() as caught:
        check_lanes(dataset, "train", Shuffled(sets[1], Plan(100, 64, 30)))  # type: ignore[arg-type]
    if remedy:
        assert caught.value.path == "data.lanes" and remedy in str(caught.value)
        assert (
            f"30 lanes read windows of 100 bytes each at a time, 3000 in all, and the host's cache holds {budget}"
            in str(caught.value)
        )


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
