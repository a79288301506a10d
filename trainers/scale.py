"""What a recipe says of hardware: how much, and how it is used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    WithJsonSchema,
)

from trainers.grammar import DEVICE
from trainers.part import Frozen


def _group(value: int | str) -> int | str:
    """How many workers: a number, `auto`, or `2..8`."""
    fewest, dots, most = str(value).partition("..")
    numbers = [int(text) for text in ((fewest, most) if dots else (fewest,)) if text.isdecimal()]
    if value != "auto" and (not numbers or min(numbers) < 1 or (dots and len(numbers) < 2)):
        raise ValueError("should be a number from 1, a range such as 2..8, or auto")
    if numbers != sorted(numbers):
        raise ValueError("should name the fewest workers first, then the most")
    return int(fewest) if numbers and not dots else value


def _rows(value: Any) -> Any:
    """How many rows at once: a number, `auto`, or all."""
    if value not in (None, "auto") and (type(value) is not int or value < 1):
        raise ValueError("should be a number from 1, auto, or null")
    return value


Group = Annotated[
    int | str,
    AfterValidator(_group),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"pattern": r"^(auto|[0-9]+\.\.[0-9]+)$"}]}
    ),
]


class Scale(Frozen):
    """How much hardware and how: never changes what is learnt, beyond rounding."""

    workers: Group = Field(
        1, description="auto: as many as there are GPUs; 2..8: as many as there is room for"
    )
    placement: Literal["packed", "spread"] = Field(
        "packed", description="workers on as few hosts as they fit on, or on as many as there are"
    )
    wait_seconds: NonNegativeFloat = Field(
        0.0, description="for hosts that are still to come, an autoscaler's"
    )
    device: Annotated[str, Field(pattern=DEVICE)] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    sync_bn: bool = True
    micro_batch: Annotated[int | Literal["auto"] | None, BeforeValidator(_rows)] = Field(
        None,
        description="rows a worker takes at once; auto: all, and half as many where they do not fit into memory",
    )
    checkpoint_activations: bool = Field(
        False,
        description="blocks keep their inputs alone and are computed again in the backward pass",
    )
    compile: bool = Field(False, description="networks through torch.compile")
    threads: PositiveInt | None = None
    readers: PositiveInt | None = Field(
        None,
        description="threads or processes of a worker that decode pictures; default its share of the cores",
    )
    decode_in: Literal["auto", "threads", "processes"] = Field(
        "auto",
        description="auto: processes beside a GPU, whose kernels' launches would wait for Python's lock; else threads",
    )
    decoded_bytes: NonNegativeInt = Field(
        0, description="splits whose pictures are no larger stay decoded in each worker's memory"
    )
    deterministic: bool = False
    hang_seconds: PositiveFloat | None = Field(
        900.0,
        description="without a step or a judged batch, after which Ray workers are ended and started again; null: never",
    )

    @property
    def group(self) -> tuple[int, int]:
        """The fewest and the most workers; of `auto` what is without GPUs, one."""
        fewest, _, most = str(self.workers).partition("..")
        return (1, 1) if fewest == "auto" else (int(fewest), int(most or fewest))
