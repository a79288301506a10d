"""Where a model looks: the pointing game (arXiv 1608.00507) over boxes, and the part that a map's maximum is nearest to."""

# N pictures, S pixels a side, P parts

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.explain import Places

TOLERANCE = 15 / 224  # of a side, as the game's authors have it for pictures of about 224 pixels
GRID = 28  # places a side at which chance is measured

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """How many maxima are nearest to a part, and how many would be if they fell anywhere in the boxes' pictures."""

    name: str
    hits: int
    chance: float  # share


@dataclass(frozen=True)
class Pointed:
    """The game's score: `hits` of `rows`; `chance` is the share that maxima anywhere would score.

    `at` (N, 2) is where each map has its maximum, x and y in the model's pixels; `inside` (N,) whether it counts, which
    it does not where the box lies outside of what the model is shown (`seen`).
    """

    rows: int
    hits: int
    chance: float
    flat: int  # maps that are nothing anywhere: misses
    at: Floats
    seen: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    parts: tuple[Part, ...] = ()
    nearest: tuple[str, ...] = ()  # of each picture, "" where it has no visible part


def play(maps: NDArray[np.float32], places: Places) -> Pointed:
    """Of maps (N, S, S) for the true class of each picture."""
    side = maps.shape[1]
    flattened = maps.reshape(len(maps), -1)
    down, right = np.divmod(flattened.argmax(1), side)
    at = np.stack([right, down], 1) + 0.5
    alive = flattened.max(1) > 0
    left, top, far, bottom = places.boxes.T
    seen = (left < side) & (top < side) & (far > 0) & (bottom > 0)
    inside = _within(at[:, None], places.boxes, side)[:, 0] & alive & seen
    grid = (np.stack(np.meshgrid(np.arange(GRID), np.arange(GRID)), -1).reshape(-1, 2) + 0.5) * (
        side / GRID
    )
    anywhere = _within(np.broadcast_to(grid, (len(maps), *grid.shape)), places.boxes, side)
    chance = float(anywhere[seen].mean()) if seen.any() else 0.0
    parts, nearest = _parts(at, grid, places, seen & alive)
    return Pointed(
        rows=int(seen.sum()),
        hits=int(inside.sum()),
        chance=chance,
        flat=int((seen & ~alive).sum()),
        at=at,
        seen=seen,
        inside=inside,
        parts=parts,
        nearest=nearest,
    )


def _within(points: Floats, boxes: Floats, side: int) -> NDArray[np.bool_]:
    """Whether points (N, K, 2) lie in the boxes (N, 4), or beside them by no more than the tolerance."""
    near = boxes[:, None, :2] - TOLERANCE * side
    far = boxes[:, None, 2:] + TOLERANCE * side
    within = (points >= near) & (points <= far)
    found: NDArray[np.bool_] = within[..., 0] & within[..., 1]
    return found


def _parts(
    at: Floats, grid: Floats, places: Places, counted: NDArray[np.bool_]
) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    if places.parts is None:
        return (), ()
    visible = places.parts[..., 2] > 0
    counted = np.where(visible.any(1), counted, False)
    own = _nearest(at[:, None], places.parts, visible)[:, 0]
    names = [name.removeprefix("left ").removeprefix("right ") for name in places.names]
    nearest = [names[part] if valid else "" for part, valid in zip(own, counted, strict=True)]
    by_chance = np.zeros(len(places.names))
    for row in np.flatnonzero(counted):
        found = _nearest(grid[None], places.parts[row : row + 1], visible[row : row + 1])[0]
        by_chance += np.bincount(found, minlength=len(by_chance)) / len(grid)
    share = by_chance / max(1, counted.sum())
    hits = np.bincount(own[counted], minlength=len(by_chance))
    listed = []
    for name in dict.fromkeys(names):  # left and right are one to a reader
        among = np.array([other == name for other in names])
        listed.append(Part(name, int(hits[among].sum()), float(share[among].sum())))
    return tuple(sorted(listed, key=lambda part: -part.hits)), tuple(nearest)


def _nearest(points: Floats, parts: Floats, visible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of points (N, K, 2), the number of the nearest visible part, (N, K)."""
    apart = np.square(points[:, :, None] - parts[:, None, :, :2]).sum(3)
    found: NDArray[np.int64] = np.where(visible[:, None], apart, np.inf).argmin(2)
    return found
