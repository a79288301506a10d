"""What the driver reads of a run folder while a group writes, drops and writes anew."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.follower import Follower


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
