"""`report`: the page of a run, a search, a study or what a protocol found."""

from __future__ import annotations

from verbs.door import Debug, Json, RunPath, run_at, tell, verb


@verb("python launch.py report runs/digits-71f2417a")
def report(run: RunPath, as_json: Json = False, debug: Debug = False) -> None:
    """Draw report.html anew from the folder of a run, a search (with TensorBoard's HParams), a study or a protocol, alone."""
    from cluster.protocol import SCORES
    from datasets import store
    from search.studies.folder import STUDY
    from search.tune.folder import RECIPE

    if store.exists(store.join(run, RECIPE)):
        from search.trials import hparams
        from search.trials.page import write as write_search

        page = write_search(run)
        hparams.write(run)
    elif store.exists(store.join(run, STUDY)):
        from search.studies.folder import Folder
        from search.studies.page import write as write_study

        page = write_study(Folder.open(run))
    elif store.exists(store.join(run, SCORES)):
        from search.protocols.page import write as write_protocol

        page = write_protocol(run)
    else:
        from search.report import write

        page = write(run_at(run).url)
    tell(as_json, {"report": page}, page)
