"""Means over the global batch, kept on the device until they are written down."""

from __future__ import annotations

import math

import pytest
import torch

from datasets.fetching.ranges import Stats
from trainers import meter
from trainers.meter import Done, Meter, Row, Wishes

NONE = Wishes(stop=False, save=False)


def done(step: int = 0, loss: float = 0.0, rows: int = 1, **more: float) -> Done:
    logs = {name: torch.tensor(value) for name, value in {"loss": loss, **more}.items()}
    return Done(step, 0, 0, {"lr": 0.1}, 1.5, 0.5, 64, logs, rows)


def row(step: int, **means: float) -> Row:
    known = {"phase": 0, "epoch": 0, "lr": 0.1, "seconds": 1.5, "wait_seconds": 0.5, "samples": 64}
    return {"step": step, "split": "train", **known, **means}


def test_each_step_has_its_own_means() -> None:
    found = Meter()
    for step in (1, 2, 3):
        found.add(done(step, step / 2, rows=64, accuracy=1.0))
    rows, wishes = found.flush(stop=False, save=False)
    assert rows == [row(s, loss=s / 2, accuracy=1.0) for s in (1, 2, 3)]
    assert wishes == NONE
    assert found.flush(stop=False, save=False) == ([], NONE)


def test_what_is_fetched_is_told_on_top_of_what_was() -> None:
    stats = Stats()
    found = Meter(stats, {"fetched_bytes": 1000, "cache_hits": 1})
    assert found.fetched == {"fetched_bytes": 1000, "cache_hits": 1}
    found.add(done(1))
    stats.count(requests=2, retries=1, num_bytes=2**40, found=3)
    fetched = {"fetch_requests": 2, "fetch_retries": 1, "cache_hits": 4}
    fetched["fetched_bytes"] = 2**40 + 1000
    assert found.flush(stop=False, save=True) == (
        [row(1, loss=0.0, **fetched)],
        Wishes(stop=False, save=True),
    )
    assert found.fetched == fetched
    found.flush(stop=False, save=False)
    assert found.fetched == fetched, "counted once"
    assert Meter(None, fetched).fetched == {}


def test_a_rank_that_only_keeps_step_gives_no_number() -> None:
    found = Meter()
    found.add(done(1, math.nan, rows=0))
    rows, _ = found.flush(stop=False, save=False)
    assert rows == [row(1, loss=0.0)]


def test_a_loss_that_is_no_number_is_told() -> None:
    found = Meter()
    found.add(done(1, math.nan, rows=4))
    assert math.isnan(found.flush(stop=False, save=False)[0][0]["loss"])


@pytest.mark.parametrize(("stop", "save"), [(True, False), (False, True), (True, True)])
def test_wishes_come_back(stop: bool, save: bool) -> None:
    found = Meter()
    found.add(done(1, 1.0, rows=4))
    assert found.flush(stop=stop, save=save)[1] == Wishes(stop=stop, save=save)
    assert found.flush(stop=stop, save=save)[1] == Wishes(stop=stop, save=save)


def test_it_flushes_about_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(meter.time, "perf_counter", lambda: now[0])
    found = Meter()
    assert found.every == 1

    def steps(number: int, seconds_each: float) -> None:
        for _ in range(number):
            now[0] += seconds_each
            found.add(done())

    steps(1, 0.01)
    assert found.due
    found.flush(stop=False, save=False)
    assert found.every == 100
    steps(99, 0.01)
    assert not found.due
    steps(1, 5.0)  # a slow stretch: fewer steps the next time
    assert found.due
    found.flush(stop=False, save=False)
    assert found.every == 16
    steps(1, 30.0)
    found.flush(stop=False, save=False)
    assert found.every == 1
    steps(1, 1e-9)
    found.flush(stop=False, save=False)
    assert found.every == meter.MOST_STEPS
