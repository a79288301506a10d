"""Writes card.html and card.json, and says whether the set can be trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from datasets import store
from datasets.card import findings, page
from datasets.progress import Progress
from datasets.refusal import Refusal
from datasets.shards import open_dataset


@dataclass(frozen=True)
class Card:
    """What was found, where its page is, and what it comes to in a line."""

    found: dict[str, Any]
    page: str
    verdict: str

    def refuse_leaks(self, url: str) -> None:
        """Raises Refusal where a picture is in two splits, pixel for pixel."""
        if page.leaking(self.found):
            raise Refusal(
                self.verdict,
                path=url,
                value=self.found["duplicates"]["leaks"],
                remedy=f"see {self.page}; pack the set again without them, or say --allow-leaks",
            )


def write(
    url: str,
    out: str | None = None,
    *,
    near: int,
    threads: int = 0,
    progress: Progress | None = None,
) -> Card:
    """Into the folder `out`, or beside the set's manifest. Raises Refusal for a set that is damaged or not there."""
    dataset = open_dataset(url)
    found = findings.whole(dataset, near=near, threads=threads, progress=progress)
    drawn = page.html(dataset, found)
    place = store.join(out or url, "card.html")
    store.write_bytes(place, drawn.encode())
    store.write_bytes(store.join(out or url, "card.json"), json.dumps(found, indent=1).encode())
    return Card(found, place, " ".join(page.verdict(found)))
