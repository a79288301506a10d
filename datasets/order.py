"""Who reads which row at which step: pure functions of (seed, phase, epoch, world), numpy only.

N rows, global batch B, T = N // B full steps, L lanes, c(l) = l * B // L. Lane l fills slots
c(l) .. c(l+1)-1 of every batch from rows T*c(l) .. T*c(l+1)-1 of the epoch's line, and rank r of W
owns lanes r*L // W .. (r+1)*L // W - 1. So the global batches do not depend on W, and a position
is one integer: the step.

Randomness is a keyed 64-bit hash (the finaliser of splitmix64, Steele et al. 2014) and never
numpy's Generator, whose streams may change between versions.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datasets.refusal import Refusal

Integers: TypeAlias = NDArray[np.int64]
Hashes: TypeAlias = NDArray[np.uint64]

# Splits larger than this (by their manifest, never by the machine) are not permuted whole.
WHOLE_BYTES = 16 * 2**30
# Lines of a small set are made for as many epochs together as have so many rows, at most so many.
LINE_ROWS, LINE_EPOCHS = 2**14, 64

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_START = 0x6D616E7461  # "manta": an empty key is not zero


@dataclass(frozen=True, slots=True)
class Plan:
    """How `rows` of an epoch become steps of `batch` rows, in `lanes` lanes.

    Raises Refusal when there is no full batch to run, or when lanes cannot fill a batch.
    """

    rows: int
    batch: int
    lanes: int
    tail: Literal["drop", "keep"] = "drop"
    cuts: tuple[int, ...] | None = None  # where lanes begin and end, where they are not equal

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise Refusal(
                f"{self.batch} is not a batch",
                path="data.batch",
                value=self.batch,
                remedy="use 1 or more",
            )
        if self.tail not in ("drop", "keep"):
            raise Refusal(
                f"'{self.tail}' is not a tail",
                path="data.tail",
                value=self.tail,
                remedy="use drop or keep",
            )
        if self.cuts is not None:
            assert len(self.cuts) == self.lanes + 1 and self.cuts[-1] == self.batch
            assert self.tail == "drop", "a ragged batch has equal lanes"
        elif not 1 <= self.lanes <= self.batch:
            raise Refusal(
                f"data.lanes={self.lanes} is not between 1 and data.batch={self.batch}",
                path="data.lanes",
                value=self.lanes,
                remedy=f"use data.lanes={min(self.batch, 64)}",
            )
        if self.rows < 1:
            raise Refusal(
                "there are no rows to train on",
                path="data",
                value=self.rows,
                remedy="check the split and the subset",
            )
        if self.rows < self.batch and self.tail == "drop":
            raise Refusal(
                f"a batch of {self.batch} is more than the split has rows, {self.rows}",
                path="data.batch",
                value=self.batch,
                remedy=f"use data.batch={self.rows} or less, data.tail=keep, or more rows",
            )

    @property
    def bounds(self) -> tuple[int, ...]:
        """The slots at which lanes begin, and the end of the last: c(0) .. c(L)."""
        if self.cuts is not None:
            return self.cuts
        return tuple(lane * self.batch // self.lanes for lane in range(self.lanes + 1))

    @property
    def full_steps(self) -> int:
        """T: steps with `batch` rows."""
        return self.rows // self.batch

    @property
    def ragged(self) -> int:
        """Rows of the last, smaller batch; 0 when there is none or the tail is dropped."""
        return self.rows % self.batch if self.tail == "keep" else 0

    @property
    def steps(self) -> int:
        """Steps of an epoch on every rank, the ragged one included."""
        return self.full_steps + (self.ragged > 0)

    def rows_at(self, step: int) -> int:
        """Rows of the global batch at a step of the epoch."""
        return self.batch if step < self.full_steps else self.ragged


def slots(plan: Plan, rank: int, world: int, batch: int | None = None) -> tuple[int, int]:
    """The slots first .. last-1 of a batch that this rank fills; `batch` is the ragged one's size.

    Raises Refusal when there are more ranks than lanes.
    """
    if world > plan.lanes:
        raise Refusal(
            f"scale.workers={world} is more than data.lanes={plan.lanes}",
            path="scale.workers",
            value=world,
            remedy="raise data.lanes or use fewer workers",
        )
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} is not one of {world}")
    first, last = rank * plan.lanes // world, (rank + 1) * plan.lanes // world
    if plan.cuts is not None:
        return plan.cuts[first], plan.cuts[last]
    size = plan.batch if batch is None else batch
    return first * size // plan.lanes, last * size // plan.lanes


def rows(plan: Plan, line: Integers, step: int, rank: int, world: int) -> Integers:
    """Row numbers this rank reads at `step`, in slot order; of the ragged batch perhaps none."""
    if not 0 <= step < plan.steps:
        raise IndexError(f"step {step} is not one of {plan.steps}")
    if step == plan.full_steps:
        first, last = slots(plan, rank, world, plan.ragged)
        start = plan.full_steps * plan.batch
        return line[start + first : start + last]
    starts, widths = _lanes(plan, rank, world)
    return line.take(starts + step * widths)


def table(plan: Plan, line: Integers, rank: int, world: int) -> Integers:
    """`rows` of all full steps at once: (full steps, slots of the rank)."""
    starts, widths = _lanes(plan, rank, world)
    return line.take(starts + np.arange(plan.full_steps)[:, None] * widths)


@functools.lru_cache(maxsize=64)
def _lanes(plan: Plan, rank: int, world: int) -> tuple[Integers, Integers]:
    """Per slot of the rank: its place in the line at step 0, and how far it moves each step."""
    bounds = np.array(plan.bounds, np.int64)
    lane_widths = np.diff(bounds)
    lane = np.repeat(np.arange(plan.lanes), lane_widths)  # the lane of each slot
    slot = np.arange(plan.batch, dtype=np.int64)
    starts = plan.full_steps * bounds[lane] + slot - bounds[lane]
    first, last = slots(plan, rank, world)
    return starts[first:last], lane_widths[lane][first:last]


def line(n: int, *, seed: int, phase: int, epoch: int) -> Integers:
    """The epoch's permutation of range(n): the stable argsort of a keyed hash. Not to be written to."""
    # Of a small set several epochs' at once: numpy's calls would take longer than its work.
    epochs = min(LINE_EPOCHS, LINE_ROWS // max(1, n))
    if epochs < 2:
        return permutation(n, key("line", seed, phase, epoch))
    lines: Integers = _lines(n, seed, phase, epoch // epochs, epochs)
    return lines[epoch % epochs]


@functools.lru_cache(maxsize=8)
def _lines(n: int, seed: int, phase: int, block: int, epochs: int) -> Integers:
    """`line` of the epochs block * epochs .. (block + 1) * epochs - 1, (epochs, n)."""
    root = key("line", seed, phase)
    first = block * epochs
    # As `hashes` has it of each epoch's key and draw 0.
    mixed = [_mix(extended(root, epoch) + _GOLDEN) for epoch in range(first, first + epochs)]
    starts = np.array(mixed, np.uint64)
    bits = _mix_array(np.arange(n, dtype=np.uint64) * np.uint64(_GOLDEN) + starts[:, None])
    found = np.argsort(bits, axis=1, kind="stable").astype(np.int64, copy=False)
    found.flags.writeable = False
    return found


def permutation(n: int, root: int) -> Integers:
    """The permutation of range(n) that belongs to the key `root`."""
    return np.argsort(hashes(root, np.arange(n), 0), kind="stable").astype(np.int64, copy=False)


def share(rows: int, rank: int, world: int) -> range:
    """The contiguous rows that this rank evaluates; over all ranks each row once."""
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} is not one of {world}")
    return range(rank * rows // world, (rank + 1) * rows // world)


def locate(global_step: int, lengths: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """(phase, epoch, step) of a global step, given (steps an epoch, steps in all) of each phase.

    The step after the last one is (len(lengths), 0, 0). Raises Refusal beyond that.
    """
    left = global_step
    for phase, (epoch_steps, total_steps) in enumerate(lengths):
        if left < total_steps:
            return phase, left // epoch_steps, left % epoch_steps
        left -= total_steps
    if left or global_step < 0:
        raise Refusal(
            f"step {global_step} is not within the {global_step - left} steps of the recipe",
            path="phases",
            value=global_step,
            remedy="raise epochs or steps, or start anew with --fresh",
        )
    return len(lengths), 0, 0


def key(*parts: int | str) -> int:
    """The 64-bit root of a draw; depends on every part and on their order."""
    return extended(_START, *parts)


def extended(root: int, *parts: int | str) -> int:
    """A key continued: `extended(key(a), b)` is `key(a, b)`, without mixing `a` again."""
    for part in parts:
        if isinstance(part, str):
            part = int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
        root = _mix((root ^ _mix(int(part) + _GOLDEN)) + _GOLDEN)
    return root


def uniform(key: int, ids: ArrayLike, draw: int | Integers) -> NDArray[np.float64]:
    """One number in [0, 1) per id; a function of (key, id, draw) alone."""
    return (hashes(key, ids, draw) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(key: int, ids: ArrayLike, draw: int, high: int) -> Integers:
    """One integer in 0 .. high-1 (high below 2**32) per id; a function of (key, id, draw) alone."""
    if not 1 <= high < 2**32:
        raise ValueError(f"high={high} is not between 1 and 2**32 - 1")
    top = hashes(key, ids, draw) >> np.uint64(32)
    return ((top * np.uint64(high)) >> np.uint64(32)).astype(np.int64)


def normal(key: int, ids: ArrayLike, width: int) -> NDArray[np.float32]:
    """(len(ids), width) standard normal numbers by Box and Muller; row i depends on (key, ids[i]).

    A row's first numbers do not depend on `width`.
    """
    num = (width + 1) // 2
    draws = np.arange(2 * num).reshape(num, 2).T.ravel()  # of all radii, then of all angles
    drawn = uniform(key, np.asarray(ids).reshape(-1, 1), draws)
    # 1 - u is in (0, 1], so that the logarithm is finite.
    radius, angle = np.sqrt(-2 * np.log1p(-drawn[:, :num])), 2 * np.pi * drawn[:, num:]
    both = np.empty((len(drawn), num, 2), np.float32)
    both[..., 0], both[..., 1] = radius * np.cos(angle), radius * np.sin(angle)
    return both.reshape(len(drawn), -1)[:, :width]


def hashes(key: int, ids: ArrayLike, draw: int | Integers) -> Hashes:
    """64 random bits for each id (and draw, by broadcasting): the root of every draw above."""
    bits = np.array(ids, ndmin=1).astype(np.uint64)  # a copy, so that it may be mixed in place
    bits *= np.uint64(_GOLDEN)
    if isinstance(draw, int):
        bits += np.uint64(_mix(key + (draw + 1) * _GOLDEN))
        return _mix_array(bits)
    draws = (draw.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
    return _mix_array(bits + _mix_array(draws + np.uint64(key & _MASK)))


def _mix(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK
    return value ^ (value >> 31)


def _mix_array(bits: Hashes) -> Hashes:
    """`_mix` on an array of its own, in place: products wrap modulo 2**64 by definition."""
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(_MIX_1)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(_MIX_2)
    bits ^= bits >> np.uint64(31)
    return bits
