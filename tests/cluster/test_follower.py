"""What the driver reads of a run folder while a group writes, drops and writes anew."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster import capacity
from cluster.follower import Follower
from cluster.session import REGROUP, STOP, RayWorker


class Shown:
    """A bar that keeps the steps it was shown."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def show(self, rows: list[dict[str, Any]]) -> None:
        self.steps += [row["step"] for row in rows]


def line(step: int) -> str:
    return json.dumps({"step": step, "loss": 1 / 3 if step % 2 else 1}) + "\n"


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def follower(metrics: Path) -> tuple[Follower, Shown]:
    bar = Shown()
    return Follower(str(metrics.parent), bar, []), bar  # type: ignore[arg-type]


def test_each_whole_line_is_shown_once(metrics: Path) -> None:
    follows, bar = follower(metrics)
    follows.during(lambda: None, str)
    assert not bar.steps
    metrics.write_text(line(1) + line(2) + line(3)[:5])
    follows.during(lambda: None, str)
    follows.during(lambda: None, str)
    assert bar.steps == [1, 2]
    metrics.write_text(line(1) + line(2) + line(3))
    follows.during(lambda: None, str)
    assert bar.steps == [1, 2, 3]


def test_rows_of_an_earlier_start_are_not_news(metrics: Path) -> None:
    metrics.write_text(line(1))
    follows, bar = follower(metrics)
    with metrics.open("a") as file:
        file.write(line(2))
    follows.during(lambda: None, str)
    assert bar.steps == [2]


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("rows", [[1], [1, 10, 3, 4, 5, 6, 7], []])
def test_a_file_that_a_restart_cut_and_wrote_on_is_read_anew(
    metrics: Path, rows: list[int], earlier: bool
) -> None:
    """Between two looks the file may have become shorter, longer than it was, or be as long with other rows."""
    first = "".join(map(line, [1, 2, 3, 4]))
    if earlier:
        metrics.write_text(first)
    follows, bar = follower(metrics)
    metrics.write_text(first)
    follows.during(lambda: None, str)
    bar.steps.clear()
    metrics.write_text("".join(map(line, rows)))
    follows.during(lambda: None, str)
    assert bar.steps == rows


def waits_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_drivers_wish_and_a_persons_are_told_apart(tmp_path: Path) -> None:
    stop, regroup = tmp_path / STOP, tmp_path / REGROUP
    signals: list[int] = []
    follows = Follower(str(tmp_path), Shown(), signals)  # type: ignore[arg-type]
    follows.during(lambda: waits_for(regroup), lambda: "a node goes")
    assert follows.why == "a node goes" and not stop.exists()

    def work() -> None:
        signals.append(15)
        waits_for(stop)

    follows.during(work, str)
    assert follows.why == ""


@pytest.mark.parametrize("name", [STOP, REGROUP])
def test_rank_0_hears_either_wish(tmp_path: Path, name: str) -> None:
    ranks = [
        RayWorker(torch.device("cpu"), str(tmp_path), rank, 2, "token", leads=True)
        for rank in (0, 1)
    ]
    assert not any(rank.should_stop() for rank in ranks)
    (tmp_path / name).touch()
    assert [rank.should_stop() for rank in ranks] == [True, False]


def test_who_wishes_to_stop_does_not_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "on_cluster", lambda: True)
    monkeypatch.setattr(capacity, "room", lambda device: 0)
    wishes = iter([False, False, True])
    said: list[str] = []
    found = capacity.awaited(
        1, 2, torch.device("cpu"), seconds=60, say=said.append, stopping=lambda: next(wishes)
    )
    assert found == 0
