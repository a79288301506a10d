"""What a study shows while it runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from search.studies.folder import Entry
from search.studies.telling import Teller


def test_on_a_terminal_a_table_fills() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80, color_system=None)
    entries = {("plain", seed): Entry("plain", seed, "run", "d") for seed in range(3)}
    with Teller("test/accuracy", quiet=False, console=console) as teller:
        teller.show(entries)
        entries["plain", 0].status, teller.scores["plain", 0] = "finished", 0.985
        entries["plain", 1].status = "running"
        teller.show(entries)
        teller.line("plain, seed 0: [done]")
    shown = text.getvalue()
    assert "98.5 %" in shown and "running" in shown and "·" in shown and "seed 2" in shown
    assert "plain, seed 0: [done]" in shown


def test_elsewhere_lines_and_when_quiet_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with Teller("test/accuracy", quiet) as teller:
            teller.show({("plain", 0): Entry("plain", 0, "", "")})
            teller.line("one of three")
        assert capsys.readouterr().err == ("" if quiet else "one of three\n")
