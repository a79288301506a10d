"""A study's table on lines of any length: what fits is shown, what does not is named."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from search.studies import narrow

HEADINGS = [
    *("arm", "n", "test/accuracy, mean ± sd", "95 % interval", "beside lr 0.1"),
    *("p", "verdict", "runs", "time", "images"),
]
ROWS = [
    ["lr 0.1", "3", "98.8 % ± 0.6", "97.4 to 100.0 %", "baseline", "", "best", "all", "17.0 s", "75 k"],
    ["lr 5", "3", "98.6 % ± 0.8", "96.7 to 99.9 %", "−0.1 points (−3.1 to 2.8)", ".87", "tie, = best", "all", "17.0 s", "75 k"],
    ["lr 50", "0", "–", "–", "–", "–", "untested", "3 collapsed (seeds 0, 1, 2)", "16.0 s", "75 k"],
]  # fmt: skip


def printed(width: int, rows: list[list[str]] = ROWS) -> str:
    stream = io.StringIO()
    for each in narrow.drawn(HEADINGS, rows, width):
        Console(file=stream, width=width).print(each, soft_wrap=isinstance(each, str))
    return stream.getvalue()


@pytest.mark.parametrize("width", [78, 80, 100, 120, 200])
def test_nothing_is_left_out_where_cells_may_stand_on_two_lines(width: int) -> None:
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width and "left out" not in text
    words = {word.strip(",") for word in text.split()}
    for said in (*HEADINGS, *(cell for row in ROWS for cell in row)):
        assert {word.strip(",") for word in said.split()} <= words, said
    lines = text.splitlines()
    if width == 200:
        assert len(lines) == 4 and "−0.1 points (−3.1 to 2.8)" in lines[2]
    if width == 100:
        (first,) = (n for n, line in enumerate(lines) if line.startswith("lr 5 "))
        assert "98.6 % ± 0.8" in lines[first] and "tie, = best" in lines[first]
        assert "96.7 to 99.9 %" in lines[first + 1], "the interval stands below the mean"


def test_what_is_left_out_is_named_with_what_shows_it() -> None:
    text = printed(60)
    assert "left out for want of width: time, images; COLUMNS=73, or a pipe" in text
    assert "collapsed" in text, "runs that do not count stay"
    assert "left out" not in printed(73)
    alike = [[*row[:7], "all", *row[8:]] for row in ROWS]
    assert "time, images, runs; COLUMNS=" in printed(50, alike)


def test_many_like_columns_are_several_tables() -> None:
    headings = ["arm", *(f"seed {seed}" for seed in range(20))]
    rows = [["lr 0.1", *("98.5 %" for _ in range(20))]]
    shown = narrow.blocks(headings, rows, 80)
    stream = io.StringIO()
    for each in shown:
        Console(file=stream, width=80).print(each)
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert all(heading in text for heading in headings) and text.count("98.5 %") == 20
    assert text.count("lr 0.1") == 3
    assert len(narrow.blocks(headings, rows, 400)) == 1


def test_long_claims_lose_no_letter() -> None:
    rows = [["cosine beside euclidean", "+1 points", "–", "not run", "x" * 70]]
    stream = io.StringIO()
    (table,) = narrow.drawn(["claim", "printed", "here", "verdict", "source"], rows, 60)
    Console(file=stream, width=60).print(table)
    assert stream.getvalue().count("x") == 70
