"""Which seeds a study has: those of its file, those asked for later, and those that it once had and now leaves out."""

from __future__ import annotations

from dataclasses import asdict

from cluster.run import Run
from search.studies import arms as arms_of
from search.studies.arms import BEFORE, Arm, Cell
from search.studies.digests import Digests
from search.studies.folder import Entry, Folder
from search.studies.study import Study


def with_more(
    study: Study, folder: Folder, more: int, *, said: bool = False
) -> tuple[Study, list[int]]:
    """The study with `more` seeds, and those beyond its file: what an earlier call asked for stays.

    They are counted on from the file's; where it now has fewer, those that have run before them stay too. Where the seeds
    are `said`, by the command, they are all that is asked for.
    """
    if said and not more:
        return study, []
    extra = [seed for seed in folder.state.get("more_seeds", []) if seed not in study.run_seeds]
    first = max([*study.run_seeds, *extra]) + 1
    extra += range(first, first + more)
    if extra:
        between = {each.seed for each in _ended(folder, "left_out") if each.seed < max(extra)}
        extra = sorted({*extra, *between} - {*study.run_seeds})
    return (_of(study, [*study.run_seeds, *extra]) if extra else study), extra


def note_left_out(
    folder: Folder, study: Study, listed: list[Arm], digests: Digests, runs: str
) -> None:
    """Keep in mind which cells of this very study have run, of seeds that it has no more.

    `ended` of the state are all that ever did, also of what it was meanwhile; `left_out` those of what it is now.
    """
    known = {each.run: each for each in _ended(folder, "ended") if each.seed not in study.run_seeds}
    away = sorted({each.seed for each in known.values()})
    cells = {
        (cell.arm, cell.seed): cell for cell in arms_of.cells(_of(study, away), listed) if away
    }
    left = [
        asdict(each)
        for each in known.values()
        if (cell := cells.get((each.arm, each.seed)))
        and _is_of(each, folder, cell, digests.of(cell), runs)
    ]
    ended = [asdict(each) for each in _ended(folder, "ended")]
    folder.amend(ended=ended or None, left_out=left or None)


def _of(study: Study, seeds: list[int]) -> Study:
    sized = study.scales.get(study.scale or "")
    if sized and sized.seeds:
        scales = {**study.scales, str(study.scale): sized.model_copy(update={"seeds": seeds})}
        return study.model_copy(update={"scales": scales})
    return study.model_copy(update={"seeds": seeds})


def _ended(folder: Folder, more: str) -> list[Entry]:
    """The cells of now and those of another key of the state, as far as they came to an end of their own, each run once."""
    listed = [*(Entry(**each) for each in folder.state.get(more, ())), *folder.entries]
    return [
        *{each.run: each for each in listed if each.status == "finished" or each.diverged}.values()
    ]


def _is_of(entry: Entry, folder: Folder, cell: Cell, digest: str, runs: str) -> bool:
    """Whether an old cell's run is the one that the study would make of it today, and is there."""
    from cluster import opening
    from cluster.train import run_folder

    run = Run(folder.run_url(entry))
    if not run.summary.get("status"):
        return False
    phases = run.recipe.phases
    # What it starts from is taken as it was: only a run before it that has ended has a folder.
    urls = {
        phase.init.removeprefix(BEFORE): phases[index].init or ""
        for index, phase in enumerate(cell.recipe.phases)
        if phase.init and phase.init.startswith(BEFORE) and index < len(phases)
    }
    if urls.keys() != {*cell.starts_from}:
        return False
    made = run_folder(opening.resolved(cell.after(urls)), digest, runs)
    return made.rsplit("/", 1)[-1] == entry.run.rsplit("/", 1)[-1]
