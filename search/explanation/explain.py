"""`explain`: from a run and what is wanted of it to a folder with a page."""

from __future__ import annotations

from typing import Any

from cluster.explain import Subject
from cluster.run import Run
from search.explanation import gather, writing
from search.explanation.wanted import Wanted


def explain(run: Run, wanted: Wanted) -> dict[str, Any]:
    """What was found, with the page's path under `report`. Raises Refusal for what the run has not."""
    subject = Subject(run, wanted.checkpoint)
    chosen = wanted.check(run)
    return writing.write(gather.gathered(subject, wanted, chosen))
