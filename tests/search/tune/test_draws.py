"""Points of a space: what Optuna draws is of the distribution, and a point that is told to it comes back as it was."""

from __future__ import annotations

import math
import statistics
from typing import Any

import optuna
import pytest

from search.tune.draws import draw, encoded
from trainers.space import Space

optuna.logging.set_verbosity(optuna.logging.ERROR)
KINDS = {
    "uniform": "uniform(-1, 3)",
    "quniform": "quniform(0, 1, 0.25)",
    "loguniform": "loguniform(1e-5, 1e-1)",
    "qloguniform": "qloguniform(1, 1000, 10)",
    "normal": "normal(2, 0.5)",
    "qnormal": "qnormal(0, 2, 0.5)",
    "lognormal": "lognormal(-3, 1)",
    "randint": "randint(1, 8)",
    "qrandint": "qrandint(8, 64, 8)",
    "lograndint": "lograndint(1, 1024)",
    "choice": "choice(sgd, 0.5, null, {name: resnet20, width: 8}, [a, b])",
    "weighted": "weighted(sgd: 3, adam: 1)",
}


def drawn(space: Space, trials: int, **options: Any) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for point in options.get("first", ()):
        study.enqueue_trial(encoded(space, point))
    return [draw(study.ask(), space, {}) for _ in range(trials)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_is_of_the_space_and_comes_back(kind: str) -> None:
    space = Space.parse({"x": KINDS[kind]})
    (dimension,) = space.dimensions
    points = drawn(space, 50)
    for point in points:
        assert dimension.holds(point["x"]), point
    again = drawn(space, 5, first=points[:5])
    for point, told in zip(again, points[:5], strict=True):
        if isinstance(told["x"], float):
            assert point["x"] == pytest.approx(told["x"], rel=1e-6)
        else:
            assert point["x"] == told["x"] and type(point["x"]) is type(told["x"])
    if dimension.grid:
        assert len({repr(point["x"]) for point in points}) == len(dimension.grid)


def test_distributions_have_their_moments() -> None:
    said = {
        "n": "normal(2, 0.5)",
        "l": "lognormal(-3, 1)",
        "u": "loguniform(1e-4, 1e-2)",
        "w": "weighted(sgd: 3, adam: 1)",
    }
    points = drawn(Space.parse(said), 1_500)
    assert statistics.fmean(p["n"] for p in points) == pytest.approx(2, abs=0.05)
    assert statistics.stdev(p["n"] for p in points) == pytest.approx(0.5, rel=0.1)
    assert statistics.fmean(math.log(p["l"]) for p in points) == pytest.approx(-3, abs=0.1)
    assert statistics.median(p["u"] for p in points) == pytest.approx(1e-3, rel=0.25)
    assert statistics.fmean(p["w"] == "sgd" for p in points) == pytest.approx(0.75, abs=0.04)


def test_what_is_drawn_follows_its_conditions_and_holds_the_constants() -> None:
    said = {
        "momentum": "uniform(0.5, 0.9) if optim == sgd",
        "optim": "choice(sgd, adam)",
        "nesterov": "choice(true, false) if momentum > 0.7",
        "batch": 64,
    }
    points = drawn(Space.parse(said), 60)
    for point in points:
        assert point["batch"] == 64
        assert ("momentum" in point) == (point["optim"] == "sgd")
        assert ("nesterov" in point) == (point.get("momentum", 0) > 0.7)
    assert {len(point) for point in points} == {2, 3, 4}
