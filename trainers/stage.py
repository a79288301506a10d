"""One phase set up to run: task, optimizers, schedule, freezing, and the spending of a batch's losses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from datasets.batch import Batch
from datasets.mixing import Mixing
from datasets.order import Plan
from datasets.refusal import Refusal
from trainers import anatomy, build, groups, parallel, rooms
from trainers.accumulation import MicroBatches
from trainers.average import Average
from trainers.phase import Phase
from trainers.recipe import Recipe
from trainers.schedules import Progress
from trainers.task import Step, Task

MEASURED = 20  # steps between looks at the gradient's norm, where nothing else needs it
# What a step leaves behind for the log: name -> mean over this rank's samples, still on the device.
Logs = dict[str, Tensor]


class Stage:
    """One phase on this rank."""

    def __init__(
        self,
        recipe: Recipe,
        index: int,
        network: nn.Module,
        *,
        plan: Plan,
        device: torch.device,
        bf16: bool,
        mixing: Mixing | None = None,
        counts: Callable[[], Sequence[int]] = tuple,
        classes: Sequence[str] = (),
    ) -> None:
        self.index, self.plan, self.device, self.mixing = index, plan, device, mixing
        self.phase: Phase = recipe.phases[index]
        self.steps_per_epoch, self.steps = length(self.phase, plan)
        self.micro = MicroBatches(plan, recipe.scale.micro_batch)
        self.task: Task = build.task(recipe, index, network, counts, classes).to(device)
        freeze(network, build.learning(recipe, index), f"phases.{index}.train")
        if recipe.scale.sync_bn and parallel.world_size() > 1:
            parallel.SyncBatchNorm.convert(self.task)
        self.sync_norms = [m for m in self.task.modules() if isinstance(m, parallel.SyncBatchNorm)]
        if recipe.scale.compile:
            compile_networks(self.task)
        # After freezing: DDP waits for a gradient of every parameter that learns when it wraps.
        self.wrapped = parallel.wrap(self.task)
        networks = self.task.networks()
        self.optimizers = {
            name: groups.optimizer(optim, networks[name], f"phases.{index}.optim.{name}")
            for name, optim in self.phase.optim.items()
        }
        self.penalties = groups.Penalties(
            self.phase.penalties or [], network, f"phases.{index}.penalties"
        )
        self.schedule: Callable[[Progress], float] = partial(
            rooms.door("schedules", self.phase.schedule.name).load(),
            **self.phase.schedule.arguments,
        )
        # What every step needs, found once: a step is too short for pydantic's and torch's look-ups.
        self._advance = {name: groups.step_of(each) for name, each in self.optimizers.items()}
        several = len(self.optimizers) > 1
        self.lrs: dict[str, float] = {}
        rates = {name: optim.rate(plan.batch) for name, optim in self.phase.optim.items()}
        self._bases = [
            (f"{name}_lr" if several else "lr", optimizer.param_groups, rates[name])
            for name, optimizer in self.optimizers.items()
        ]
        self._learning = {
            name: [p for group in optimizer.param_groups for p in group["params"]]
            for name, optimizer in self.optimizers.items()
        }
        self._clips = {name: optim.clip for name, optim in self.phase.optim.items()}
        self._world, self._bf16 = parallel.world_size(), bf16
        # A step that is skipped, or done again, leaves nothing behind, in running statistics neither.
        self._skips = self.phase.nonfinite == "skip"
        self._buffers = [b for b in self.task.buffers() if self._skips or self.micro.auto]
        self._before = [buffer.clone() for buffer in self._buffers]
        self._measures = False
        # What each sample of the last step came to; only a ledger asks for it.
        self.keeps_samples = recipe.data.ledger
        self.repeats = recipe.phase_data(index).train.repeat or 1
        self.samples: dict[str, Tensor] = {}
        self.average: Average | None = None  # once the weights that it begins with are loaded
        self.train_mode()

    def judged(self) -> AbstractContextManager[None]:
        """Within it the task holds what is judged and saved: the average of its weights, where it has one."""
        return self.average.judged() if self.average else nullcontext()

    def settle(self) -> None:
        """The phase is over: what was judged is what stays."""
        if self.average:
            self.average.exchange()
            self.average = None

    def train_mode(self) -> None:
        """Train mode, but for what is frozen: a frozen batch norm that moves its statistics is not frozen."""
        self.task.train()
        _rest(self.task)

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 where the recipe or the device asks for it; bf16 needs no loss scaler."""
        if not self._bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def spend(self, batch: Batch, step: int, scores: tuple[float, ...]) -> Logs:
        """One training step: every loss that the task yields is backpropagated and stepped in turn.

        `step` counts within the phase, `scores` are the phase's evaluations so far (more is better).
        """
        self._set_lr(step, scores)
        self._measures = step % MEASURED == 0
        self.samples = {}
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)
        total = self.plan.rows_at(step % self.steps_per_epoch)
        for norm in self.sync_norms:
            norm.counted = not batch.weightless
        with parallel.through(self.task, self.wrapped) if self.wrapped else nullcontext():
            num_chunks = self.micro.of(total)
            if num_chunks > 1:
                return self._accumulate(batch, total, num_chunks)
            return self._once(batch, total)

    def rehearse(self, batch: Batch, total: int) -> bool:
        """Whether this rank's largest part of a batch fits into memory: forward and backward alone, and nothing kept."""
        chunk = max(batch.chunks(self.micro.of(total)), key=len)
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)
        try:
            with parallel.alone():
                step = self._next(self._losses(chunk))
                assert step is not None, "a task yields at least once"
                step.loss.backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError:
            return False
        finally:
            self.undo()
        return True

    def undo(self) -> None:
        """As it was before the step that did not come to its end."""
        for name in self.optimizers:
            self._forget_gradients(name)
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._before)

    def _once(self, batch: Batch, total: int) -> Logs:
        logs: Logs = {}
        steps = self._losses(batch)
        rows = 0 if batch.weightless else len(batch)
        while (step := self._next(steps)) is not None:
            self._forget_gradients(step.optim)
            scaled(step, rows, total, self._world).backward()  # type: ignore[no-untyped-call]
            logs |= self._step(step.optim) | _named(step)
            self._note(step)
        return logs

    def _losses(self, batch: Batch) -> Iterator[Step]:
        """The task's, of the batch with each picture as often as the recipe repeats it: means, so nothing else changes."""
        return self.task.training_step(batch.stacked() if self.repeats > 1 else batch)

    def _note(self, step: Step) -> None:
        """Keep what the step knows of each sample, after that of micro-batches before it; of views their mean."""
        if self.keeps_samples and step.samples:
            for name, known in step.samples().items():
                mean = known.float().view(self.repeats, -1).mean(0)
                values = mean == 1 if known.dtype == torch.bool else mean
                former = self.samples.get(name)
                self.samples[name] = values if former is None else torch.cat([former, values])

    def _accumulate(self, batch: Batch, total: int, num_chunks: int) -> Logs:
        """Gradients of micro-batches summed, then one optimizer step: the same as the whole batch but for batch norm."""
        self._forget_gradients("main")
        means: Logs = {}
        weights: list[Tensor] = []
        for number, chunk in enumerate(batch.chunks(num_chunks)):
            with ExitStack() as stack:
                if number < num_chunks - 1:
                    for child in self.wrapped.values():
                        stack.enter_context(child.no_sync())
                step = self._next(self._losses(chunk))
                assert step is not None, "a task yields at least once"
                if step.weight is None:
                    loss = scaled(step, len(chunk), total, self._world)
                else:  # what the weights add up to is known at the end
                    weights.append(step.weight * (not chunk.weightless))
                    loss = step.loss * weights[-1] * self._world
                loss.backward()  # type: ignore[no-untyped-call]
            self._note(step)
            for name, value in _named(step).items():
                means[name] = means.get(name, torch.zeros_like(value)) + value * len(chunk)
        if weights:
            over = 1 / parallel.summed(torch.stack(weights).sum())
            for parameter in self._learning["main"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(over)
        own = self._step("main")
        return own | {name: value / len(batch) for name, value in means.items()}

    def _next(self, steps: Iterator[Step]) -> Step | None:
        if not self._bf16:
            return next(steps, None)
        with self.autocast():
            return next(steps, None)

    def _forget_gradients(self, name: str) -> None:
        # What zero_grad(set_to_none=True) does, without its profiler hooks [20 µs a step].
        for parameter in self._learning[name]:
            parameter.grad = None

    def _step(self, name: str) -> Logs:
        """The optimizer's step; what is known of it alone: how large the penalties and the gradient were."""
        prefix, logs = "" if name == "main" else f"{name}_", {}
        if self.penalties.terms:
            penalty = self.penalties.add(self._learning[name])
            if penalty is not None:
                logs[f"{prefix}penalty"] = penalty
        if clip := self._clips[name]:
            logs[f"{prefix}gradient_norm"] = clip_grad_norm_(self._learning[name], clip)
        elif self._measures:
            logs[f"{prefix}gradient_norm"] = self._norm(name)
        if self._skips and not self._finite(name):
            self.undo()
            return logs
        self._advance[name]()
        return logs

    def _finite(self, name: str) -> bool:
        """Whether all gradients are numbers: the same answer on every rank, whose gradients are summed already."""
        return bool(self._norm(name).isfinite())

    def _norm(self, name: str) -> Tensor:
        return get_total_norm([p.grad for p in self._learning[name] if p.grad is not None])

    def _set_lr(self, step: int, scores: tuple[float, ...]) -> None:
        scale = self.schedule(Progress(step, self.steps, self.steps_per_epoch, scores))
        self.lrs = {}
        for name, param_groups, base in self._bases:
            self.lrs[name] = lr = base * scale
            for group in param_groups:
                group["lr"] = lr * group[groups.SHARE]


def compile_networks(task: Task) -> None:
    """Each child of the task through torch.compile, in place: names stay, and DDP is wrapped around it."""
    if not shutil.which(os.environ.get("CXX", "g++")):
        raise Refusal(
            "torch.compile needs a C++ compiler, and there is none",
            path="scale.compile",
            value=True,
            remedy="install g++ (or name one with CXX), or set scale.compile=false",
        )
    for child in task.children():
        child.compile()


def length(phase: Phase, plan: Plan) -> tuple[int, int]:
    """(steps per epoch, steps) of a phase."""
    return plan.steps, phase.steps or (phase.epochs or 0) * plan.steps


def scaled(step: Step, rows: int, total: int, world: int) -> Tensor:
    """A rank's mean loss times weight · world / Σ weight: DDP's mean over ranks is then the mean over the global batch.

    Plain DDP takes every rank for equal and errs on uneven ones. `rows` are this rank's (0 when it only keeps step),
    `total` the global batch's.
    """
    if step.summed:
        assert step.weight is None, "a sum has no denominator"
        return step.loss * (rows * world)
    if step.weight is None:
        return step.loss if rows * world == total else step.loss * (rows * world / total)
    weight = step.weight if rows else torch.zeros_like(step.weight)
    return step.loss * (weight * world / parallel.summed(weight))


def freeze(network: nn.Module, words: list[str], path: str) -> None:
    """Only parameters that `words` mean learn (anatomy.learning). A word that means nothing is a `Refusal`."""
    chosen = anatomy.learning(network, words, path)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in chosen)


def _rest(module: nn.Module) -> None:
    """Put into eval mode every subtree that has parameters, none of which learns."""
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            child.eval()
        else:
            _rest(child)


def _named(step: Step) -> Logs:
    prefix = "" if step.optim == "main" else f"{step.optim}_"
    named = {f"{prefix}loss": step.loss.detach()}
    for name, value in step.logs.items():
        named[f"{prefix}{name}"] = value
    return named
