"""What a recipe says of a phase: its task, its optimizers, what learns and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from datasets.ranges import Rate, Share
from trainers.data import PhaseData
from trainers.part import Frozen, Part, SchedulePart, TaskPart


class Optim(Part):
    """An optimizer of trainers/optimizers.py; its own arguments stand beside these."""

    room = "optimizers"
    lr: Rate
    weight_decay: Rate = 0.0
    no_decay: bool = Field(False, description="leave biases and norms out of weight decay")
    clip: PositiveFloat | None = Field(None, description="largest norm of the gradient")
    layer_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="lr of a layer beside that of the layer after it; the head has lr"
    )
    lr_scaling: Literal["none", "linear", "sqrt"] | None = Field(
        None, description="how lr follows data.batch, beside lr_batch; default none"
    )
    lr_batch: PositiveInt | None = Field(None, description="the global batch that lr is said for")

    @model_validator(mode="after")
    def _scaled_from(self) -> Optim:
        if (self.lr_scaling in ("linear", "sqrt")) != (self.lr_batch is not None):
            raise ValueError("say lr_scaling (linear or sqrt) and lr_batch together")
        return self

    def rate(self, batch: int) -> float:
        """The learning rate at a global batch: linear as arXiv 1706.02677 has it, sqrt as arXiv 1404.5997."""
        if self.lr_batch is None:
            return self.lr
        ratio = batch / self.lr_batch
        return self.lr * (ratio if self.lr_scaling == "linear" else ratio**0.5)


class Penalty(Frozen):
    """Added to the loss: `strength` times the sum of |w| (l1), or of w² / 2 (l2), over some parameters."""

    norm: Literal["l1", "l2"]
    strength: Rate
    of: list[str] = Field(["*"], min_length=1, description="as a phase's `train` names them")


class Phase(Frozen):
    """A stretch of training with one task, one set of learning parameters and one schedule."""

    task: TaskPart
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    train: list[str] = Field(
        ["*"],
        min_length=1,
        description="what learns: globs of parameters, head, body, `last 2` or `layer4+`",
    )
    penalties: list[Penalty] | None = Field(None, description="norms of weights, added to the loss")
    optim: dict[str, Optim] = Field(min_length=1)
    schedule: SchedulePart = SchedulePart(name="constant")
    data: PhaseData = PhaseData()
    init: str | None = Field(None, description="a checkpoint; default: as the last phase left it")
    ema: Share | None = Field(
        None,
        description="decay of a moving average of the weights, judged and saved in their place",
    )
    nonfinite: Literal["stop", "skip"] | None = Field(
        None,
        description="a loss that is no number ends the run, or its step is skipped; default stop",
    )

    @model_validator(mode="after")
    def _one_length(self) -> Phase:
        if (self.epochs is None) == (self.steps is None):
            both = f"it has epochs={self.epochs} and steps={self.steps}: set one of them to null"
            raise ValueError(
                f"say either epochs or steps: {'it has neither' if self.steps is None else both}"
            )
        return self
