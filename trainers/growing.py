"""Figures that are drawn at every evaluation, kept one by one: `figures/over_time/<name>/step-00000420.png`."""

from __future__ import annotations

import re

from datasets import store

FOLDER = "figures/over_time"
DPI = 72  # they are looked at side by side
_NAME = re.compile(r"^step-(\d{8,})\.png$")


def place(name: str, step: int) -> str:
    """Where in the run folder a figure's picture of a step lies."""
    return f"{FOLDER}/{name}/step-{step:08d}.png"


def names(run: str) -> list[str]:
    """The figures of which there are such pictures."""
    return store.names(store.join(run, FOLDER))


def steps(run: str, name: str) -> list[int]:
    """The steps at which a figure was drawn, in order."""
    found = map(_NAME.match, store.names(store.join(run, FOLDER, name)))
    return sorted(int(match[1]) for match in found if match)


def forget(run: str, *, after: int) -> None:
    """Remove those past a step: that training is about to be done again."""
    for name in names(run):
        for step in steps(run, name):
            if step > after:
                store.remove(store.join(run, place(name, step)))
