"""A study from its file to its table: guarded, its cells run where there is room, those that are there already taken as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from cluster import opening
from cluster.doctor.admit import admit
from cluster.environment import code
from cluster.lock import Lock
from cluster.pool import Pool, Served, Wanted, alone
from cluster.run import Run, runs_folder
from cluster.session import stopping_on_signals
from cluster.train import run_folder, set_aside
from datasets import progress, store
from datasets.refusal import Refusal, nearest
from datasets.shards import Dataset
from search.studies import arms as arms_of
from search.studies import checked, firsts, fitting, guards, leaks, looking, same, seeds
from search.studies.arms import Arm, Cell
from search.studies.digests import Digests
from search.studies.folder import STUDY, Entry, Folder
from search.studies.study import Study
from search.studies.telling import Teller
from trainers import feed
from trainers.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """What is to be run, and what has to be said beside its table."""

    study: Study
    arms: list[Arm]
    datasets: Mapping[str, Dataset]
    confounds: list[guards.Confound]  # that are allowed
    notes: list[str]
    lookalikes: dict[str, list[list[Any]]]  # by digest


def plan(
    study: Study, *, quiet: bool = True, known: Mapping[str, list[list[Any]]] | None = None
) -> Plan:
    """Everything that can be known beforehand. Raises Refusal for whatever would spoil the table."""
    listed = arms_of.arms(study)
    guards.check_names(study, listed)
    guards.check_seeded(study, listed)
    shown = progress.silent if quiet else progress.shown
    datasets = leaks.opened(listed, shown=shown)
    notes = leaks.check(study, listed, datasets)
    found = guards.confounds(study, listed, datasets)
    guards.refuse(study, found)
    alike, more = leaks.lookalikes(listed, datasets, known or {})
    return Plan(
        study, listed, datasets, found, [*notes, *guards.covered(study, listed), *more], alike
    )


def run(
    study: Study,
    *,
    out: str | None,
    quiet: bool = True,
    only: Sequence[str] = (),
    more_seeds: int = 0,
    rerun_stale: bool = False,
    by_folder: bool = False,
    seeds_said: bool = False,
) -> Folder:
    """Run what is missing of a study; the same call goes on after any end. `only` are arms, by name.

    `by_folder`: it was read from its folder, so it is the same one whatever was changed. `seeds_said`: its seeds are the
    command's, whatever more an earlier one asked for.
    """
    folder = Folder.of(study, out)
    if not by_folder:
        same.check(folder, study)
    study, extra = seeds.with_more(study, folder, more_seeds, said=seeds_said)
    made = plan(study, quiet=quiet, known=folder.state.get("lookalikes"))
    known = [arm.label for arm in made.arms]
    for name in only:
        if name not in known:
            raise Refusal(
                f"there is no arm '{name}'", path="--only", value=name, remedy=nearest(name, known)
            )
    runs = runs_folder(out)
    cells = arms_of.cells(study, made.arms)
    digests = Digests(made.arms, made.datasets)
    guards.distinct([(cell.arm, cell.recipe, digests.of(cell)) for cell in cells])
    _same_data(folder, {(cell.arm, cell.seed): digests.of(cell) for cell in cells}, rerun_stale)
    then, now = folder.state.get("marks", {}), looking.marks(study, made.arms)
    changed = [arm for arm, mark in now.items() if then.get(arm, mark) != mark]
    wished = fitting.first_of(cells, only)
    fitting.check_devices(wished)
    fitting.check(study, fitting.unproven(wished, folder, changed), made.datasets, folder)
    with Lock(folder.url, "this study is being run", "wait for it, or stop it: this then goes on"):
        others = [
            same.other_arms(folder.state.get("arms", ()), known),
            same.other_recipes(changed),
        ]
        seeds.note_left_out(folder, study, made.arms, digests, runs)
        _written(folder, made, extra)
        driver = _Driver(made, folder, runs, cells, digests, quiet)
        for line in filter(None, others):
            driver.teller.line(line)
        driver.run(only, rerun_stale)
    return folder


def _same_data(folder: Folder, digests: Mapping[tuple[str, int], str], anew: bool) -> None:
    for entry in folder.entries:
        now = digests.get((entry.arm, entry.seed))
        if entry.status == "finished" and now and entry.digest != now and not anew:
            raise Refusal(
                f"the data of arm '{entry.arm}' have changed since its runs "
                f"({entry.digest[:8]} then, {now[:8]} now)",
                path=folder.url,
                value=now,
                remedy="bring the old data back, give the study another name, "
                "or run all of it anew with --rerun-stale",
            )


def _written(folder: Folder, made: Plan, extra: list[int]) -> None:
    text = yaml.safe_dump(made.study.plain(), sort_keys=False, allow_unicode=True, width=100)
    store.write_bytes(store.join(folder.url, STUDY), text.encode())
    folder.amend(
        status="running",
        error=None,
        spent=None,
        # Run by its folder, the study has them among its own; by its file it has not.
        more_seeds=sorted({*folder.state.get("more_seeds", []), *extra}) or None,
        arms={arm.label: dict(arm.values) for arm in made.arms},
        marks=looking.marks(made.study, made.arms),
        confounds=[str(each) for each in made.confounds] or None,
        notes=made.notes or None,
        lookalikes=made.lookalikes,
        sets=checked.sets(made.arms, made.datasets, leaks.MOST_IDS),
    )


class _Driver:
    """A study at work in its folder."""

    def __init__(
        self,
        made: Plan,
        folder: Folder,
        runs: str,
        cells: Sequence[Cell],
        digests: Digests,
        quiet: bool,
    ) -> None:
        self.made, self.folder, self.runs = made, folder, runs
        self.teller = Teller(made.study.metric, quiet)
        self.cells, self.digests = cells, digests
        self.signals: list[int] = []
        self.begun, self.spent = time.monotonic(), float(folder.state.get("seconds", 0.0))
        self.entries: dict[tuple[str, int], Entry] = {}
        self.first = {
            (name, seed): recipe for name, seed, recipe in arms_of.before(made.study)
        }  # runs that others start from
        self.urls: dict[tuple[str, int | None], str] = {}
        self.failed: dict[tuple[str, int | None], str] = {}

    def run(self, only: Sequence[str], rerun_stale: bool) -> None:
        """Everything that is missing, of the arms in `only`."""
        wished = [cell for cell in self.cells if not only or cell.arm in only]
        # What the largest of them needs is reserved for each.
        scale = max((arm.recipe.scale for arm in self.made.arms), key=lambda each: each.group[1])
        with stopping_on_signals(self.signals), self.teller:
            for cell in self.cells:
                self._note(cell)
            first = [*self._missing_first(wished)]
            queue: list[Wanted | Cell] = [*first, *self._missing(wished, rerun_stale)]
            self._keep()
            if queue:
                before = f", and {len(first)} before them" if first else ""
                many = len(queue) - len(first)
                runs = "1 run" if many == 1 else f"{many} runs"
                todo = f"{runs} to do of {len(self.cells)}{before}"
                self.teller.line(f"{todo} -> {self.folder.url}")
                pool = Pool(scale, self.made.study.parallel or alone(scale))
                if not pool.here:
                    admit(self.runs)
                for served in pool.serve(lambda: self._next(queue), self._stopping):
                    self._ended(served)
        self._end(queue)

    def _end(self, queue: Sequence[Wanted | Cell]) -> None:
        """Write down how it ended, with what was not begun."""
        status = "finished"
        if not all(self._final(entry) for entry in self.entries.values()):
            status = "stopped" if self.signals else "incomplete"
        self._keep(status=status)
        left = sum(isinstance(each, Cell) for each in queue)
        if left and self._late() and not self.signals:
            spent = (
                f"the {self.made.study.seconds:g} s of `seconds` are spent, "
                f"{left} of {len(self.cells)} runs not begun: a larger seconds=... goes on"
            )
            self.folder.amend(spent=spent, notes=[*self.made.notes, spent])

    def _note(self, cell: Cell) -> None:
        """The cell's entry, as far as it can be known before what it starts from has run."""
        key = (cell.arm, cell.seed)
        ready = self._ready(cell)
        entry = Entry(cell.arm, cell.seed, "", self.digests.of(cell))
        if ready:
            entry.run = self._url(ready, entry.digest)
            done = Run(self.folder.run_url(entry))
            entry.status = str(done.summary.get("status", "missing"))
            if (score := done.scores.get(self.made.study.metric)) is not None:
                self.teller.scores[key] = score
            entry.why = str(done.summary.get("error") or "") if entry.status == "failed" else ""
            if entry.status == "running":  # by whom? we hold the study
                entry.status = "stopped"
        self.entries[key] = entry

    def _ready(self, cell: Cell) -> Recipe | None:
        """Its recipe, once the runs are there that it starts from."""
        urls: dict[str, str] = {}
        for name in cell.starts_from:
            seed = cell.seed if (name, cell.seed) in self.first else None
            if (name, seed) not in self.urls:
                return None
            urls[name] = self.urls[name, seed]
        return opening.resolved(cell.after(urls))

    def _missing_first(self, wished: Sequence[Cell]) -> Iterator[Wanted]:
        """Runs that others start from, each once."""
        needed = {name for cell in wished for name in cell.starts_from}
        for (name, seed), recipe in self.first.items():
            if name not in needed:
                continue
            resolved = opening.resolved(recipe)
            dataset = feed.dataset(resolved.data)
            url = run_folder(resolved, dataset.manifest.digest, self.runs)
            if Run(url).finished:
                self.urls[name, seed] = url
            else:
                yield Wanted((arms_of.BEFORE, name, seed), resolved, url)
        for cell in self.cells if self.urls else ():  # those whose runs before them are there
            self._note(cell)

    def _missing(self, wished: Sequence[Cell], rerun_stale: bool) -> Iterator[Cell]:
        now = code()
        for cell in wished:
            entry = self.entries[cell.arm, cell.seed]
            if entry.status == "finished" and rerun_stale:
                url = self.folder.run_url(entry)
                if Run(url).json("env.json").get("code") != now:
                    set_aside(url)
                    entry.status = "missing"
            if not self._final(entry):
                yield cell

    def _final(self, entry: Entry) -> bool:
        """Whether there is nothing to be gained from trying again: what diverged does so each time, with the same code."""
        if not entry.diverged:
            return entry.status == "finished"
        return bool(Run(self.folder.run_url(entry)).json("env.json").get("code") == code())

    def _next(self, queue: list[Any]) -> Wanted | None:
        """The first in the queue that can begin now."""
        if self._late():
            return None
        for place, item in enumerate(queue):
            if isinstance(item, Wanted):
                return queue.pop(place)
            ready = self._ready(item)
            entry = self.entries[item.arm, item.seed]
            if ready is None:
                if self._hopeless(item):
                    queue.pop(place)
                    entry.status, entry.why = "failed", "what it starts from failed"
                    return self._next(queue)
                continue
            queue.pop(place)
            entry.run = self._url(ready, entry.digest)
            entry.status = "running"
            self._keep()
            return Wanted((item.arm, item.seed), ready, self.folder.run_url(entry))
        return None

    def _hopeless(self, cell: Cell) -> bool:
        return any(
            (name, seed) in self.failed for name in cell.starts_from for seed in (cell.seed, None)
        )

    def _ended(self, served: Served) -> None:
        key = served.wanted.key
        if key[0] == arms_of.BEFORE:
            _, name, seed = key
            of = f" for seed {seed}" if seed is not None else ""
            if served.status == "finished":
                self.urls[name, seed] = served.wanted.folder
            elif served.status == "failed":
                self.failed[name, seed] = served.why
            self.teller.line(f"before: {name}{of}: {served.why or served.status}")
            return
        entry = self.entries[key]
        entry.status, entry.why = served.status, served.why
        done = sum(each.status == "finished" for each in self.entries.values())
        metric = self.made.study.metric
        told = served.why or served.status
        run = Run(served.wanted.folder)
        if served.status == "finished":
            score, took = run.scores.get(metric), run.summary.get("seconds", 0.0)
            told = f"{metric} {score:.4f}, {took:.1f} s" if score is not None else f"no {metric}"
            if score is not None:
                self.teller.scores[key] = score
        self.teller.line(f"{entry.arm}, seed {entry.seed}: {told} ({done} of {len(self.entries)})")
        self._keep()

    def _url(self, recipe: Recipe, digest: str) -> str:
        """The run's folder by its name alone: it is beside the study's."""
        return run_folder(recipe, digest, self.runs).rsplit("/", 1)[-1]

    def _stopping(self) -> bool:
        return bool(self.signals)

    def _late(self) -> bool:
        budget = self.made.study.seconds
        return budget is not None and self._seconds() >= budget

    def _seconds(self) -> float:
        return self.spent + time.monotonic() - self.begun

    def _keep(self, **changes: Any) -> None:
        self.folder.write_entries(
            self.entries.values(),
            seconds=round(self._seconds(), 1),
            before=firsts.told(self.urls),
            **changes,
        )
        self.teller.show(self.entries)
