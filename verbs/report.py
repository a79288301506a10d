"""`report`: a run's page, or a search's."""

from __future__ import annotations

from verbs.door import Debug, Json, RunPath, run_at, tell, verb


@verb("python launch.py report runs/digits-71f2417a")
def report(run: RunPath, as_json: Json = False, debug: Debug = False) -> None:
    """Draw report.html anew from the folder of a run, or of a search (with TensorBoard's HParams), alone."""
    from datasets import store
    from search.tune.folder import RECIPE

    if store.exists(store.join(run, RECIPE)):
        from search.trials import hparams
        from search.trials.page import write as write_search

        page = write_search(run)
        hparams.write(run)
    else:
        from search.report import write

        page = write(run_at(run).url)
    tell(as_json, {"report": page}, page)
