"""`report`: a run's page."""

from __future__ import annotations

from verbs.door import Debug, Json, RunPath, run_at, tell, verb


@verb("python launch.py report runs/digits-71f2417a")
def report(run: RunPath, as_json: Json = False, debug: Debug = False) -> None:
    """Draw report.html anew from a run folder alone."""
    from search.report import write

    page = write(run_at(run).url)
    tell(as_json, {"report": page}, page)
