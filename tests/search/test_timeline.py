"""What happened to a run, over the clock: read from whatever its summary holds, and drawn where there is something to tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from search import canvas, timeline

BEGAN = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def told(*events: tuple[str, float, int, int | None]) -> dict[str, Any]:
    """A summary with (event, minutes, step, workers)."""
    return {
        "events": [
            {
                "time": (BEGAN + timedelta(minutes=minutes)).isoformat(),
                "event": name,
                "step": step,
                **({"workers": workers} if workers else {"why": "something"}),
            }
            for name, minutes, step, workers in events
        ]
    }


DISTURBED = told(
    ("started", 0, 0, 2),
    ("died", 5, 500, None),
    ("resumed", 6, 480, 2),
    ("stopped", 9, 800, 2),
    ("preempted", 9.1, 800, None),
    ("resumed", 10, 800, 1),
    ("finished", 14, 1000, 1),
)


def test_a_run_that_went_through_has_nothing_to_tell() -> None:
    found = timeline.events(told(("started", 0, 0, 1), ("finished", 3, 100, 1)))
    assert len(found) == 2
    assert timeline.panel(found) is None and timeline.sheet(found) is None
    assert timeline.events({}) == []


def test_why_it_stopped_stands_for_the_stop() -> None:
    names = [event.name for event in timeline.events(DISTURBED)]
    assert names == ["started", "died", "resumed", "preempted", "resumed", "finished"]


def test_each_group_is_a_line_and_each_end_has_a_name() -> None:
    panel = timeline.panel(timeline.events(DISTURBED))
    assert panel
    axes = canvas.single(panel).axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 2]
    spans = [(*line.get_xdata(), *line.get_ydata()) for line in lines]
    expected = [(0, 5, 0, 500), (6, 9.1, 480, 800), (10, 14, 800, 1000)]
    assert [x for span in spans for x in span] == pytest.approx([x for e in expected for x in e])
    assert axes.get_xlabel() == "minutes"
    said = {text.get_text() for text in axes.texts}
    assert said == {"a worker died", "a node was taken away", "finished"}


def test_the_table_has_every_event() -> None:
    sheet = timeline.sheet(timeline.events(DISTURBED))
    assert sheet and [row[1].text for row in sheet.rows][1] == "a worker died"
    assert [row[3].text for row in sheet.rows] == ["2", "–", "2", "–", "1", "1"]


@pytest.mark.parametrize(
    "spoilt",
    [{"event": "died"}, "died", None, {"time": "yesterday", "event": "died", "step": 1}, 7],
)
def test_what_cannot_be_read_is_left_out(spoilt: Any) -> None:
    events = [*DISTURBED["events"]]
    events.insert(2, spoilt)
    assert len(timeline.events({"events": events})) == 6
