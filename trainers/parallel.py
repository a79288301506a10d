"""What crosses ranks: sums, exact weighting, wrapping in DDP, synchronised batch norm. The identity on one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from datasets.refusal import Refusal

REHEARSALS = 3
_alone = False  # process-wide: CUDA's backward runs in threads of its own


def world_size() -> int:
    """Ranks in the process group, 1 without one."""
    grouped = not _alone and dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if grouped else 1


@contextmanager
def alone() -> Iterator[None]:
    """Within it this rank has no group: nothing is exchanged with the others, who may do something else."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def summed(values: Tensor) -> Tensor:
    """The sum over ranks, on every rank. float64 sums of counts are exact."""
    if world_size() == 1:
        return values
    total = values.detach().to(_device(), copy=True)
    dist.all_reduce(total)
    return total.to(values.device)


def gathered_rows(rows: Tensor) -> Tensor:
    """All ranks' rows in rank order, (sum of n_r, ...), on every rank; ranks may hold different numbers, or none."""
    if world_size() == 1:
        return rows
    counts = torch.zeros(world_size(), dtype=torch.long)
    counts[rank()] = len(rows)
    counts = summed(counts)
    padded = rows.new_zeros((int(counts.max()), *rows.shape[1:]), device=_device())
    padded[: len(rows)] = rows
    pieces = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(pieces, padded)
    return torch.cat([p[:n] for p, n in zip(pieces, counts.tolist(), strict=True)]).to(rows.device)


def gather(rows: Tensor, *, counted: bool = True) -> Tensor:
    """All ranks' rows in rank order, with gradient: for losses over the pairs of the global batch. Identity on one process.

    Each rank then takes the same loss of all rows; its own rows' gradient is the sum of what the ranks found, and DDP's
    mean over ranks makes the whole equal to one process with the global batch. With `counted=False` this rank's rows,
    padding of a ragged batch, are left out.
    """
    if world_size() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows if counted else rows[:0])
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        counts = torch.zeros(world_size(), dtype=torch.long)
        counts[rank()] = len(rows)
        first = int(summed(counts)[: rank()].sum())
        ctx.own = slice(first, first + len(rows))
        return gathered_rows(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return summed(grad)[ctx.own]


def reduction_seconds(parameters: Iterable[Tensor]) -> float:
    """What one all-reduce of the gradients takes by itself; 0 on one process. The median of a few, after a first."""
    if world_size() == 1:
        return 0.0
    gradients = torch.zeros(sum(p.numel() for p in parameters), device=_device())
    taken = []
    for _ in range(REHEARSALS + 1):
        barrier()
        start = time.perf_counter()
        dist.all_reduce(gradients)
        if gradients.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        summed(torch.zeros(1))


def _device() -> torch.device:
    """Where the backend's tensors must live."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def wrap(task: nn.Module) -> dict[str, DistributedDataParallel]:
    """Each child of the task that learns, in DDP. Children, not the task: a task's own methods run as they are.

    Buffers are not broadcast at each step, which costs a collective: training reads no running statistics, and rank 0's
    are shared before an evaluation (`share_buffers`) and written into checkpoints.
    """
    if world_size() == 1:
        return {}
    assert not list(task.parameters(recurse=False)), "a task's own parameters belong into a child"
    wrapped = {}
    for name, child in task.named_children():
        if any(p.requires_grad for p in child.parameters()):
            # device_ids stays None: each rank holds one device, and gloo must not be given CUDA ids.
            wrapped[name] = DistributedDataParallel(
                child, broadcast_buffers=False, gradient_as_bucket_view=True
            )
    return wrapped


@contextmanager
def through(task: nn.Module, wrapped: dict[str, DistributedDataParallel]) -> Iterator[None]:
    """Within it the task's children are their DDP wrappers; outside (evaluation, checkpoints) they are plain."""
    # Past Module.__setattr__, which looks through every parameter and buffer by name [20 µs a child].
    children = task._modules
    children.update(wrapped)
    try:
        yield
    finally:
        for name, child in wrapped.items():
            children[name] = child.module


@contextmanager
def fixed(module: nn.Module) -> Iterator[None]:
    """Within it a forward asks no gradient of the module's parameters, and no reduction of them; its input still gets one.

    For losses that go through a network and are stepped by another's optimizer.
    """
    learning = [p for p in module.parameters() if p.requires_grad]
    quiet = module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()
    with quiet:
        for parameter in learning:
            parameter.requires_grad = False
        try:
            yield
        finally:
            for parameter in learning:
                parameter.requires_grad = True


def share_buffers(module: nn.Module) -> None:
    """Give every rank rank 0's buffers: what is evaluated is then what is saved."""
    if world_size() > 1:
        for buffer in module.buffers():
            shared = buffer.to(_device())
            dist.broadcast(shared, src=0)
            buffer.copy_(shared)


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the global batch on any backend (torch's own refuses CPU).

    Ranks exchange (count, mean, sum of squared deviations), merged without cancellation (Chan et al. 1979), so uneven
    ranks are exact. `counted=False` leaves this rank's rows out: they are padding of a ragged batch.
    """

    counted = True

    @classmethod
    def convert(cls, module: nn.Module) -> None:
        """Turn every batch norm beneath the module into a synchronised one, in place, parameters kept."""
        for name, child in module.named_modules():
            if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
                child.__class__ = cls
            elif isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, cls):
                if not (hasattr(child, "act") and hasattr(child, "drop")):
                    raise Refusal(
                        f"the batch norm '{name}' is a {type(child).__name__}, which we cannot synchronise",
                        path="scale.sync_bn",
                        value=True,
                        remedy="set scale.sync_bn=false, or use one worker",
                    )
                child.__class__ = SyncBatchNormAct

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm takes (B, C, ...), not {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count, mean, variance = _global_moments(input, self.counted)
        if self.track_running_stats and self.running_mean is not None:
            self._track(count, mean, variance)
        out: Tensor = _Normalise.apply(
            input, self.weight, self.bias, mean, variance, count, self.eps, self.counted
        )
        return out

    def _track(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        assert self.running_var is not None and self.num_batches_tracked is not None
        assert self.running_mean is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / float(self.num_batches_tracked)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class SyncBatchNormAct(SyncBatchNorm):
    """timm's batch norms with dropout and activation of their own (`BatchNormAct2d`), synchronised."""

    def forward(self, input: Tensor) -> Tensor:
        drop, act = self.get_submodule("drop"), self.get_submodule("act")
        out: Tensor = act(drop(super().forward(input)))
        return out


def _global_moments(x: Tensor, counted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(count, mean (C), biased variance (C)) over all ranks' rows and positions."""
    with torch.no_grad():
        axes = [0, *range(2, x.dim())]
        variance, mean = torch.var_mean(x.float(), axes, correction=0)
        count = x.numel() // x.shape[1] if counted else 0
        own = torch.cat([mean.new_tensor([count]), mean, variance * count])
        pieces = [torch.empty_like(own) for _ in range(world_size())]
        if len(pieces) > 1:
            dist.all_gather(pieces, own)
        all_RM = torch.stack(pieces) if len(pieces) > 1 else own[None]
        counts_R1, (means_RC, squares_RC) = all_RM[:, :1], all_RM[:, 1:].chunk(2, dim=1)
        total = counts_R1.sum()
        mean = (counts_R1 * means_RC).sum(0) / total
        between = (counts_R1 * (means_RC - mean).square()).sum(0)
        return total, mean, (squares_RC.sum(0) + between) / total


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) · weight + bias, with the gradient through the global moments."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
        counted: bool,
    ) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        deviation = torch.rsqrt(variance + eps)
        normal = (x.float() - mean.view(shape)) * deviation.view(shape)
        ctx.save_for_backward(normal.to(x.dtype), weight, deviation, count)
        ctx.shape, ctx.counted, ctx.affine = shape, counted, weight is not None
        if weight is None or bias is None:
            return normal.to(x.dtype)
        return (normal * weight.view(shape) + bias.view(shape)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        normal, weight, deviation, count = ctx.saved_tensors
        axes = [0, *range(2, grad.dim())]
        wide = grad.float()
        grad_bias = wide.sum(axes)
        grad_weight = (wide * normal).sum(axes)
        # This rank's loss does not reach other ranks' rows but for these two sums.
        sums = torch.cat([grad_bias, grad_weight])
        if world_size() > 1:
            dist.all_reduce(sums)
        mean_grad, mean_product = (sums / count).chunk(2)
        shape = ctx.shape
        if ctx.counted:
            wide = wide - mean_grad.view(shape) - normal * mean_product.view(shape)
        scale = deviation if weight is None else deviation * weight
        grad_x = (wide * scale.view(shape)).to(grad.dtype)
        affine = (grad_weight, grad_bias) if ctx.affine else (None, None)
        return (grad_x, *affine, None, None, None, None, None)
