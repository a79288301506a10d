"""The engine: `fit`, a generator over phases, epochs and steps that knows nobody; the place drives it.

It yields a `Report` after every optimizer step, outside any torch context. `send("save")` writes a checkpoint at this
very step and yields its report; `send("stop")` does the same and ends. Closing it only releases resources.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch

from datasets import order, store, subsets
from datasets.batch import Batch
from datasets.refusal import Refusal
from datasets.stream import TrainStream
from trainers import (
    activations,
    build,
    checkpoint,
    evaluation,
    feed,
    final,
    ledger,
    nonfinite,
    parallel,
    resume,
    saving,
    shown,
    summary,
    symptoms,
)
from trainers.accumulation import Fitting
from trainers.average import Average
from trainers.checkpoint import State
from trainers.choice import Choice
from trainers.devices import choose_algorithms, memory_peaks, seed_step, uses_bf16
from trainers.evaluation import Evaluation
from trainers.ledger import Ledger
from trainers.meter import Done, Meter, Wishes
from trainers.nonfinite import Watch
from trainers.recipe import Recipe
from trainers.saving import Copier, Keeper, Snapshot, Times
from trainers.session import Session
from trainers.stage import Stage
from trainers.track import Track

logger = logging.getLogger(__name__)

Command = Literal["save", "stop"]


class Report(NamedTuple):
    """What happened at a step: nothing worth telling, an evaluation, a checkpoint."""

    step: int
    scores: Mapping[str, float] = MappingProxyType({})
    checkpoint: str | None = None


Reports = Generator[Report, Command | None, None]


def fit(recipe: Recipe, session: Session) -> Reports:
    """Train a recipe from wherever its run folder stands to its final scores."""
    training = Training(recipe, session)
    try:
        yield from training.run()
    finally:
        training.close()


class Training:
    """The state of one run on one rank."""

    def __init__(self, recipe: Recipe, session: Session) -> None:
        self.recipe, self.session, self.device = recipe, session, session.device
        choose_algorithms(self.device, deterministic=recipe.scale.deterministic)
        assert not recipe.data.cleaned or recipe.data.cleaned.path, "labels are cleaned first"
        self.dataset = feed.dataset(recipe.data)
        self.digest = self.dataset.manifest.digest
        self.shape = build.shape(recipe, self.dataset.manifest, begun=session.folder)
        self.samplers = feed.samplers(recipe, self.dataset)
        self.plans = [sampler.plan for sampler in self.samplers]
        self.latest = resume.agreed_latest(session)
        model = build.model(recipe, self.shape, pretrained=not self.latest)
        self.model = model.to(self.device)
        if recipe.scale.checkpoint_activations:
            activations.checkpoint_blocks(self.model)
        if self.device.type == "cuda":
            self.model = self.model.to(memory_format=torch.channels_last)
        self.bf16 = uses_bf16(recipe, self.device)
        self.ready = build.readying(self.shape, self.device)
        self.evaluation = Evaluation(
            recipe, self.shape, self.dataset, self.ready, self.device, alive=session.alive
        )
        self.draws = order.key(recipe.seed, "step")
        self.save_every = recipe.keep.every_steps
        self.state = resume.beginning(recipe, self.plans, self.digest)
        begun = time.perf_counter()
        if self.latest:
            found = checkpoint.read_state(self.latest)
            checkpoint.load_model(self.latest, self.model)
            child = found.recipe != self.state.recipe
            self.state = found.under(self.state) if child else found
        loaded = time.perf_counter() - begun
        self.step = self.state.step
        self.lengths = list(self.state.lengths)
        self.choice = Choice(recipe.keep, self.state.scores)
        self.meter = Meter(self.dataset.stats, self.state.fetched)
        self.waited, self.trained = self.state.wait_seconds, self.state.seconds
        self.samples = self.state.samples
        self.written = (self.trained, self.samples)
        self.saved_at, self.saved_seconds = self.step if self.latest else -1, time.perf_counter()
        self.fitting = Fitting(recipe, session)
        self.reduction_seconds = 0.0
        self.track: Track | None = None
        self.keeper: Keeper | None = None
        self.ledger = Ledger(session.folder, rank=session.rank, world=session.world)
        if session.leads and session.rank and store.is_remote(session.folder):
            self.keeper = Copier(session.folder, keep=1, ready=lambda: None)
        self.watch = Watch(
            session.folder, recipe, self.dataset, self.samplers, notes=session.rank == 0
        )
        if session.rank == 0:
            nonfinite.forget(session.folder, after=self.step)
            ledger.forget(session.folder, after=self.step)
            saving.sweep(session.folder)
            # A kill may have come between a checkpoint and this pointer; a child may have inherited one.
            saving.point(session.folder, self._chosen())
            self.keeper = Keeper(session.folder, keep=recipe.keep.last, ready=self._durable)
            self.keeper.times = Times.since(self.state.checkpoints)
            self.keeper.times.load_seconds += loaded
            self.track = Track(
                session.folder,
                resumed_step=self.step,
                tensorboard=recipe.log.tensorboard,
                figures=session.draws,  # nobody looks at a trial's, and its tables tell the same
                show=session.show,
            )
            event = "resumed" if self.latest else "started"
            summary.happened(session.folder, event, step=self.step, workers=session.world)
            if self.latest:
                restarts = summary.read(session.folder).get("restarts", [])
                summary.amend(session.folder, restarts=[*restarts, self.step])

    def run(self) -> Reports:
        """All phases that are left, then the final scores."""
        first = order.locate(self.step, self.lengths)[0]
        stage: Stage | None = None
        for index in range(min(first, len(self.plans) - 1), len(self.plans)):
            stage = self._stage(index)
            stopped = yield from self._phase(stage)
            if stopped:
                return
            stage.settle()
        assert stage is not None
        best = self.choice.best
        if best and best.step != self.step:
            final.load_best(self.session.folder, best, stage, self.model)
        splits = ("val", "test") if self.session.opens_test else ("val",)
        scores = final.final_scores(
            self.evaluation, stage, self.track, self.session.folder, self.step, splits
        )
        self.meter.flush(stop=False, save=False)  # what the final scores' rows had to be fetched
        self._summarise("finished", scores)
        saving.forget_copies(self.session.folder)
        yield Report(self.step, scores)

    def close(self) -> None:
        """Release files and threads; no checkpoint is begun, no collective."""
        if self.keeper:
            self.keeper.close()
        if self.track:
            self.track.close()

    def _stage(self, index: int) -> Stage:
        init = self.recipe.phases[index].init
        started = self.step > sum(steps for _, steps in self.lengths[:index])
        if init and not started:
            checkpoint.begin(checkpoint.chosen(init), self.model)
        stage = Stage(
            self.recipe,
            index,
            self.model,
            plan=self.plans[index],
            mixing=feed.mixing(self.recipe, index, self.shape),
            counts=partial(subsets.counts, self.dataset),
            classes=self.shape.classes,
            device=self.device,
            bf16=self.bf16,
        )
        self.fitting.begin(stage)
        learning = [p for p in stage.task.parameters() if p.requires_grad]
        self.reduction_seconds = parallel.reduction_seconds(learning)
        if started and self.latest:
            checkpoint.load_task(self.latest, stage.task, self.model)
            if self.state.optimizers == resume.optimizer_names(self.recipe, index):
                checkpoint.load_moments(self.latest, stage.optimizers)
            else:
                logger.warning("phases.%d.optim is another one: its moments begin anew", index)
        if decay := self.recipe.phases[index].ema:
            stage.average = Average(stage.task, decay)
            if started and self.latest:
                checkpoint.load_raw(self.latest, stage.average.live)
        return stage

    def _phase(self, stage: Stage) -> Generator[Report, Command | None, bool]:
        """Steps of one phase; True when asked to stop."""
        index, steps_per_epoch = stage.index, stage.steps_per_epoch
        before = sum(steps for _, steps in self.lengths[:index])
        stream = self._stream(stage)
        while (step := self.step - before) < self.lengths[index][1]:
            epoch, first = divmod(step, steps_per_epoch)
            batches = stream.epoch(index, epoch, start=first)
            while (step := self.step - before) < min(
                (epoch + 1) * steps_per_epoch, self.lengths[index][1]
            ):
                self._train_step(stage, next_timed(batches), step)
                last = self.step - before == self.lengths[index][1]
                keys = self._due(epoch, last) if last or (step + 1) % steps_per_epoch == 0 else []
                wishes = self._flush(force=last or bool(keys))
                scores = self._evaluate(stage, epoch, keys) if keys else {}
                if scores and self.choice.exhausted(index):
                    self.lengths[index] = (steps_per_epoch, self.step - before)
                    last = True
                better = bool(scores) and self.step in self.choice.kept
                due = last or better or wishes.save or self._save_due()
                url = self._save(stage, wait=last) if due or wishes.stop else None
                command = yield Report(self.step, scores, url)
                while command == "save":
                    command = yield Report(self.step, checkpoint=self._save(stage, wait=True))
                if command == "stop" or wishes.stop:
                    url = self._save(stage, wait=True)
                    self._summarise("stopped", {})
                    if command == "stop":  # answered last: whoever asked may not ask again
                        yield Report(self.step, checkpoint=url)
                    return True
        return False

    def _stream(self, stage: Stage) -> TrainStream:
        return TrainStream(
            self.dataset,
            "train",
            sampler=self.samplers[stage.index],
            seed=self.recipe.seed,
            rank=self.session.rank,
            world=self.session.world,
            view=shown.view(self.recipe, self.shape, self.device, index=stage.index),
            guests=stage.mixing is not None,
        )

    def _train_step(self, stage: Stage, timed: tuple[Batch, float], step: int) -> None:
        batch, waited = timed
        start = time.perf_counter()

        # No generator's state is ever saved: what a step draws is a function of (seed, step, rank).
        def seed() -> None:
            seed_step(order.extended(self.draws, self.step, self.session.rank), self.device)

        seed()
        batch = self.ready(batch)
        if stage.mixing:
            batch = stage.mixing(batch)
        logs = self.fitting.spend(stage, batch, step, self.choice.of_phase(stage.index), seed)
        if stage.average:
            stage.average.update(step + 1)
        self.step += 1
        rows = 0 if batch.weightless else len(batch)
        self.waited += waited
        self.trained += waited + time.perf_counter() - start
        self.samples += stage.plan.rows_at(step % stage.steps_per_epoch)
        done = Done(
            step=self.step,
            phase=stage.index,
            epoch=step // stage.steps_per_epoch,
            lrs=stage.lrs,
            seconds=self.trained,
            wait_seconds=self.waited,
            samples=self.samples,
            logs=logs,
            rows=rows,
        )
        self.meter.add(done)
        if stage.keeps_samples:
            epoch = step // stage.steps_per_epoch
            self.ledger.add(batch, stage.samples, phase=stage.index, epoch=epoch, step=self.step)

    def _flush(self, *, force: bool) -> Wishes:
        """Write down the steps since the last flush; what the ranks agreed to do."""
        alone = self.session.world == 1
        wanted = self.session.should_stop() if alone else False
        if not (force or wanted or self.meter.due):
            return Wishes(stop=False, save=False)
        stop = wanted or self.session.should_stop()
        if self.keeper:
            self.keeper.check()
        rows, wishes = self.meter.flush(stop=stop, save=self._seconds_due())
        self._write(rows)
        return wishes

    def _write(self, rows: list[dict[str, Any]]) -> None:
        """The rows of a stretch of steps, as many as `log.every` asks for."""
        if self.track:
            # The throughput of the stretch since the last rows were written.
            seconds, samples = self.trained - self.written[0], self.samples - self.written[1]
            self.written = (self.trained, self.samples)
            rate = {"images_per_second": round(samples / seconds, 1) if seconds > 0 else 0.0}
            if rows:
                rate["step_seconds"] = round(seconds / len(rows), 6)
            if self.reduction_seconds and seconds > 0:
                share = self.reduction_seconds * len(rows) / seconds
                rate["allreduce_share"] = round(min(1.0, share), 4)
            if self.device.type == "cuda":
                rate["device_memory_bytes"] = torch.cuda.max_memory_allocated(self.device)
            every = self.recipe.log.every
            self.track.write([{**row, **rate} for row in rows if row["step"] % every == 0])
        self.watch.look(rows, self.lengths)  # before a checkpoint could hold what came of it

    def _due(self, epoch: int, last: bool) -> list[str]:
        """Evaluators that look at the validation split at the end of an epoch, or of the phase."""
        if not self.evaluation.has("val"):
            return []
        evals = self.recipe.evals.items()
        return [k for k, e in evals if e.on == "val" and (last or (epoch + 1) % e.every == 0)]

    def _evaluate(self, stage: Stage, epoch: int, keys: list[str]) -> dict[str, float]:
        """Validation scores of the evaluators that are due."""
        with stage.judged():
            found, _ = self.evaluation.run(stage, "val", keys)
        scores = evaluation.scores(found, "val")
        kept = self.recipe.keep.metric
        if kept in scores:
            self.choice.add(stage.index, self.step, scores[kept])
        if self.track and scores:
            row = {"step": self.step, "split": "val", "phase": stage.index, "epoch": epoch}
            self.track.write([{**row, **scores}])
            evaluation.draw(found, "val", self.track, step=self.step, final=False)
        return scores

    def _save_due(self) -> bool:
        return bool(self.save_every and self.step % self.save_every == 0)

    def _seconds_due(self) -> bool:
        """Rank 0's word; while one checkpoint is being written, the next can wait."""
        every = self.recipe.keep.every_seconds
        late = every and time.perf_counter() - self.saved_seconds >= every
        return bool(late and self.track and self.keeper and not self.keeper.busy)

    def _save(self, stage: Stage, *, wait: bool = False) -> str:
        """A checkpoint at this very step, complete when what follows is, or at once where somebody waits for it."""
        url = checkpoint.folder(self.session.folder, self.step)
        if self.saved_at != self.step:
            # What is resumed from here is not done again: its rows must be written, what it fetched be counted.
            self._write(self.meter.flush(stop=False, save=False)[0])
            if stage.keeps_samples:
                self._check_held()
                self.ledger.write(self.step)
                parallel.barrier()  # a checkpoint is complete only when every rank's rows are there
            if self.keeper:
                self.keeper.put(partial(self._snapshot, stage), self._chosen(), self.choice.kept)
            self.saved_at, self.saved_seconds = self.step, time.perf_counter()
        if wait:
            if self.keeper:
                self.keeper.wait()
            parallel.barrier()
        return url

    def _snapshot(self, stage: Stage) -> Snapshot:
        with stage.judged():
            return saving.snapshot(
                self._state(stage.index),
                model=self.model,
                task=stage.task,
                optimizers=stage.optimizers,
                raw=stage.average.held if stage.average else None,
            )

    def _durable(self) -> None:
        """Before a checkpoint is complete: nobody else has the run, and the rows that it covers are safe."""
        self._check_held()
        assert self.track
        self.track.settle()

    def _check_held(self) -> None:
        if not self.session.holds():
            raise Refusal(
                "another launch has taken this run over, so this one stops",
                path=self.session.folder,
                remedy="nothing is lost: the other goes on from the last checkpoint",
            )

    def _state(self, index: int) -> State:
        return State(
            step=self.step,
            lengths=tuple(self.lengths),
            scores=tuple(self.choice.scores),
            samples=self.samples,
            seconds=self.trained,
            wait_seconds=self.waited,
            fetched=self.meter.fetched,
            checkpoints=self.keeper.times.told() if self.keeper else {},
            recipe=self.state.recipe,
            commit=resume.commit(),
            kept=self.state.kept,
            optimizers=resume.optimizer_names(self.recipe, index),
        )

    def _chosen(self) -> dict[str, Any]:
        """The best evaluation, for people."""
        best = self.choice.best
        return {**best._asdict(), "metric": self.recipe.keep.metric} if best else {}

    def _summarise(self, status: str, scores: Mapping[str, float]) -> None:
        """summary.json as far as the engine knows it; the place adds where it ran."""
        peaks = memory_peaks(self.device)
        if not self.track:
            return
        self.track.settle()
        folder = self.session.folder
        known = summary.read(folder)
        best, finished = self.choice.best, status == "finished"
        rows = self.fitting.rows
        noted = final.notes(self.evaluation, self.model, at_once=rows, finished=finished, best=best)
        noted += nonfinite.notes(folder)
        if finished:
            noted += self._symptoms(scores)
        notes = [*known.get("notes", []), *noted]
        summary.happened(folder, status, step=self.step, workers=self.session.world)
        summary.amend(
            folder,
            status=status,
            scores=dict(scores) or known.get("scores", {}),
            best=self._chosen() or None,
            steps=self.step,
            samples=self.samples,
            seconds=round(self.trained, 3),
            images_per_second=round(self.samples / self.trained, 1) if self.trained else 0.0,
            wait_seconds=round(self.waited, 3),
            **self.meter.fetched,
            checkpoints=self.keeper.times.told() if self.keeper else None,
            **peaks,
            parameters=sum(p.numel() for p in self.model.parameters()),
            nonfinite=len(nonfinite.steps(folder)) or None,
            notes=[*dict.fromkeys(notes)],
        )

    def _symptoms(self, scores: Mapping[str, float]) -> list[str]:
        """What the whole of the metrics says against the run."""
        assert self.track
        with self.track.metrics.open(encoding="utf-8") as lines:
            rows = symptoms.read(lines)
        return symptoms.found(self.recipe, self.model, self.dataset, rows, scores)


def next_timed(batches: Any) -> tuple[Batch, float]:
    """The next batch and the seconds that were waited for it."""
    start = time.perf_counter()
    batch = next(batches)
    return batch, time.perf_counter() - start
