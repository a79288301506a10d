"""What all verbs share: Ctrl-C is a line, and so is a word that is no number of workers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
import typer

from datasets.refusal import Refusal
from tests.commands import cli
from verbs.door import Group, tasks_of, verb


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As a shell starts it: processes of pytest-xdist are deaf to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_a_line(capsys: pytest.CaptureFixture[str], interruptible: None) -> None:
    group = typer.Typer(cls=Group)

    @verb("launch.py waits", group)
    def waits() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(60)

    @verb("launch.py works", group)
    def works() -> None: ...

    with pytest.raises(SystemExit) as ended:
        group(["waits"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == (
        "interrupted: the same command goes on from what was saved, or begins again\n"
    )


@pytest.mark.parametrize("said", ["0", "-1", "some", "1.5", ""])
def test_what_is_no_number_of_workers_is_named(said: str) -> None:
    with pytest.raises(Refusal, match=f"--workers: '{said}' is no number of workers -- use 1"):
        tasks_of(said)
    assert (tasks_of("3"), tasks_of("auto"), tasks_of(None)) == (3, "auto", None)


def test_recipes_and_studies_are_listed_with_their_rows() -> None:
    lines = cli("list").out.splitlines()
    (recipe,) = (line for line in lines if line.startswith("recipes     curve "))
    (study,) = (line for line in lines if line.startswith("studies     coop "))
    assert " [32] " in recipe and " [" in study
    assert not any("[]" in line for line in lines)
