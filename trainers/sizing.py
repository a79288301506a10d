"""`match_params`: the value of an argument that gives a model as many parameters as another, found on the meta device."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from datasets.refusal import Refusal
from trainers import networks, rooms
from trainers.model_part import MatchParams, ModelPart, NetworkPart

if TYPE_CHECKING:
    from trainers.build import Shape

MOST = 2**20  # steps of the argument: beyond it nothing that grows is meant


def settled(part: ModelPart, shape: Shape) -> ModelPart:
    """The part with the argument that `match_params` finds in its place; as it is without.

    Raises Refusal where no value comes close enough.
    """
    if part.match_params is None:
        return part
    found, _, _ = _found(json.dumps(part.model_dump(mode="json"), sort_keys=True), shape)
    plain = part.model_dump(exclude={"match_params"})
    return ModelPart.model_validate(plain | {_argument(part): _spread(part, found)})


def told(part: ModelPart, shape: Shape) -> dict[str, Any] | None:
    """What was found, for people: `{by, value, parameters, wanted, of}`."""
    if part.match_params is None:
        return None
    found, parameters, wanted = _found(
        json.dumps(part.model_dump(mode="json"), sort_keys=True), shape
    )
    other = part.match_params.model
    return {
        "by": part.match_params.by,
        "value": found,
        "parameters": parameters,
        "wanted": wanted,
        "of": other.name if other else None,
    }


@lru_cache(maxsize=64)
def _found(plain: str, shape: Shape) -> tuple[int, int, int]:
    """(value, the parameters it gives, those that are wanted)."""
    part = ModelPart.model_validate_json(plain)
    match, by = part.match_params, _argument(part)
    assert match
    target = match.params or _counted(_other(match), _shape_of(_other(match), shape))
    counts: dict[int, int] = {}

    def parameters(steps: int) -> int:
        """What a value gives; as if too many where the model refuses it."""
        if steps not in counts:
            given = part.arguments | {by: _spread(part, steps * match.step)}
            try:
                checked = NetworkPart.model_validate({"name": part.name, **given}).checked("model")
                counts[steps] = _counted(NetworkPart.model_validate(checked), shape)
            except (Refusal, ValidationError) as error:
                if steps == 1:
                    _counted(part.bare, shape)  # refused whatever the argument is: for what it is
                    raise _at_once(match, error) from None
                return MOST**4
        return counts[steps]

    best = nearest(parameters, target)
    found, given = best * match.step, counts[best]
    if abs(given - target) > match.within * target:
        raise _too_far(part, match, target, found, given)
    return found, given, target


def nearest(count: Callable[[int], int], target: int) -> int:
    """The number from 1 whose count, which grows with it, is nearest the target; between bounds first as if it grew evenly."""
    low, high = 1, 1
    while count(high) < target and high < MOST:
        low, high = high, 2 * high
    halve = False
    while high - low > 1:
        share = (target - count(low)) / max(1, count(high) - count(low))
        guess = (low + high) // 2 if halve else low + round(share * (high - low))
        guess = min(max(guess, low + 1), high - 1)
        low, high = (guess, high) if count(guess) < target else (low, guess)
        halve = not halve
    return min((low, high), key=lambda steps: abs(count(steps) - target))


def _other(match: MatchParams) -> NetworkPart:
    assert match.model
    return match.model


def _shape_of(other: NetworkPart, shape: Shape) -> Shape:
    """The data's shape, or what the other model insists on."""
    channels, size = networks.wanted(other)
    return replace(shape, channels=channels or shape.channels, size=size or shape.size)


def _counted(part: NetworkPart, shape: Shape) -> int:
    with torch.device("meta"):
        network = networks.bare(
            part, num_classes=shape.num_classes, channels=shape.channels, size=shape.size
        )
    return sum(p.numel() for p in network.parameters())


def _argument(part: ModelPart) -> str:
    assert part.match_params and part.match_params.by, "a checked part names it"
    return part.match_params.by


def _spread(part: ModelPart, value: int) -> int | list[int]:
    """The argument: of a list, such as a perceptron's layers, every entry."""
    door, by = rooms.doors("models").get(part.name), _argument(part)
    former = part.arguments.get(by)
    if former is None and door:
        former = door.schema.model_fields[by].default
    return [value] * len(former) if isinstance(former, list) else value


def _at_once(match: MatchParams, error: Refusal | ValidationError) -> Refusal:
    """The smallest value does not build: the argument is none, or takes multiples only."""
    text = error.error if isinstance(error, Refusal) else "it takes no whole number"
    return Refusal(
        f"{match.by}={match.step} does not build: {text}",
        path="model.match_params.by",
        value=match.by,
        remedy="name an argument that is a whole number, or set model.match_params.step to "
        "what it is a multiple of",
    )


def _too_far(part: ModelPart, match: MatchParams, target: int, found: int, given: int) -> Refusal:
    return Refusal(
        f"no {match.by} gives {part.name} within {match.within:.2%} of {target:,} parameters: "
        f"the nearest is {given:,}, at {match.by}={found}",
        path="model.match_params",
        value=target,
        remedy="name another argument (model.match_params.by), or raise model.match_params.within",
    )
