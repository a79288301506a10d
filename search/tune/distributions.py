"""One parameter of a W&B sweep as a distribution of ours: `{min: 1e-5, max: 0.1, distribution: log_uniform_values}`
is `loguniform(1e-05, 0.1)`. What each means there is github.com/wandb/sweeps, src/sweeps/params.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import yaml

from datasets.refusal import Refusal, nearest
from trainers.grammar import Loader

Note = Callable[[str], None]  # hears a line of what is not the same
# distribution -> the keys that it takes, and what those are that may be left out
ENDS: dict[str, Any] = {"min": None, "max": None}
SPREAD: dict[str, Any] = {"mu": 0, "sigma": 1}
SHAPE: dict[str, Any] = {"a": 1, "b": 1}
STEP: dict[str, Any] = {"q": 1}
KEYS: dict[str, dict[str, Any]] = {
    "constant": {"value": None},
    "categorical": {"values": None},
    "categorical_w_probabilities": {"values": None, "probabilities": None},
    "int_uniform": ENDS,
    "uniform": ENDS,
    "log_uniform": ENDS,
    "log_uniform_values": ENDS,
    "inv_log_uniform": ENDS,
    "inv_log_uniform_values": ENDS,
    "q_uniform": ENDS | STEP,
    "q_log_uniform": ENDS | STEP,
    "q_log_uniform_values": ENDS | STEP,
    "normal": SPREAD,
    "log_normal": SPREAD,
    "q_normal": SPREAD | STEP,
    "q_log_normal": SPREAD | STEP,
    "beta": SHAPE,
    "q_beta": SHAPE | STEP,
}
GRID = ("constant", "categorical", "int_uniform", "q_uniform")  # what W&B makes a grid of
_PLAIN = re.compile(r"[A-Za-z_][\w.:/-]*")


def distribution(said: Mapping[str, Any], place: str, *, grid: bool, note: Note) -> Any:
    """What stands in a space for a parameter: a distribution's text, or a constant.

    Raises Refusal, with `place`, of what W&B would refuse and of what we cannot draw.
    """
    kind = _kind(said, place)
    given = _given(kind, said, place)
    if grid and kind not in GRID:
        raise Refusal(
            f"W&B makes no grid of {kind}",
            path=place,
            value=kind,
            remedy="give values, or method: random",
        )
    if kind == "constant":
        _check_plain([given["value"]], place)
        return given["value"]
    if kind.startswith("categorical"):
        return _listed(given, place)
    _check_numbers(given, place)
    if grid and kind == "q_uniform":
        return _listed({"values": _arange(**_ends(given, place), q=given["q"])}, place)
    if "normal" in kind:
        name = kind.replace("_", "")
        return f"{name}({', '.join(str(number) for number in given.values())})"
    if kind.endswith("beta"):
        if (given["a"], given["b"]) != (1, 1):
            raise Refusal(
                f"{kind} has no counterpart here",
                path=place,
                value=kind,
                remedy="give uniform, normal or values with probabilities",
            )
        kind, given = kind.replace("beta", "uniform"), {"min": 0.0, "max": 1.0, **given}
    return _range(kind, given, place, note)


def check_keys(node: Any, known: Collection[str], place: str) -> None:
    """Refuse what is no mapping, and keys that W&B does not know there."""
    if not isinstance(node, dict):
        raise Refusal(
            "a sweep is a mapping of keys to values" if not place else "is no mapping",
            path=place,
            value=str(node),
            remedy="see docs/search.md, From a W&B sweep",
        )
    for key in node:
        if key not in known:
            raise Refusal(
                f"W&B knows no key '{key}' here",
                path=f"{place}.{key}".lstrip("."),
                value=key,
                remedy=nearest(str(key), known),
            )


def _kind(said: Mapping[str, Any], place: str) -> str:
    """The distribution, or the one that W&B assumes where none is said."""
    kind = said.get("distribution")
    if kind is None:
        whole = all(type(said.get(end)) is int for end in ENDS)
        assumed = {
            "categorical_w_probabilities": "values" in said and "probabilities" in said,
            "categorical": "values" in said,
            "constant": "value" in said,
            "int_uniform": whole,
            "uniform": "min" in said and "max" in said,
        }
        kind = next((name for name, holds in assumed.items() if holds), None)
    if kind is None:
        raise Refusal(
            "says neither value, values, min and max, nor a distribution",
            path=place,
            value=str(dict(said)),
            remedy="for example {value: 0.1} or {values: [0.1, 0.2]}",
        )
    if str(kind) not in KEYS:
        raise Refusal(
            f"W&B has no distribution '{kind}'",
            path=f"{place}.distribution",
            value=kind,
            remedy=nearest(str(kind), KEYS),
        )
    return str(kind)


def _given(kind: str, said: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The distribution's keys, defaults filled in."""
    keys = KEYS[kind]
    check_keys(said, (*keys, "distribution"), place)
    for key, default in keys.items():
        if key not in said and default is None:
            raise Refusal(f"{kind} lacks {key}", path=place, remedy=f"add {key}: ...")
    return {key: said.get(key, default) for key, default in keys.items()}


def _check_numbers(given: Mapping[str, Any], place: str) -> None:
    for key, number in given.items():
        if type(number) not in (int, float) or not abs(number) < 1e300:
            raise Refusal(
                "is no number", path=f"{place}.{key}", value=number, remedy="write a number"
            )
    if given.get("q", 1) <= 0:
        raise Refusal(
            "the quantum must be above 0",
            path=f"{place}.q",
            value=given["q"],
            remedy="write q: 1, or another number above 0",
        )


def _ends(given: Mapping[str, Any], place: str) -> dict[str, Any]:
    if given["min"] >= given["max"]:
        raise Refusal(
            "min must be below max",
            path=f"{place}.min",
            value=given["min"],
            remedy="exchange them, or give a value",
        )
    if (given["max"] - given["min"]) / given.get("q", 1) > 1e9 and "q" in given:
        raise Refusal(
            "makes more than 1e9 steps",
            path=f"{place}.q",
            value=given["q"],
            remedy="give a larger q",
        )
    return {"least": given["min"], "most": given["max"]}


def _range(kind: str, given: Mapping[str, Any], place: str, note: Note) -> str:
    ends = _ends(given, place)
    least, most = ends["least"], ends["most"]
    name = kind.removeprefix("q_").removeprefix("inv_").removesuffix("_values").replace("_", "")
    if name == "loguniform" and not kind.endswith("_values"):
        # Of 1/X where it is inverse: then X goes from e^-max to e^-min.
        least, most = (-most, -least) if kind.startswith("inv_") else (least, most)
        if max(abs(least), abs(most)) > 300:
            raise Refusal(
                "min and max are exponents of e, too large for a number",
                path=place,
                value=f"{least}, {most}",
                remedy=f"{kind}_values takes the numbers themselves",
            )
        least, most = _tidy(math.exp(least)), _tidy(math.exp(most))
        note(
            f"{place}: {kind} takes exponents of e, so it goes from {least:g} to {most:g} "
            f"({kind}_values would take the numbers themselves)"
        )
    if name == "intuniform":
        name = "randint"
    if "q" in given:
        return _in_steps(name, least, most, given["q"], place, note)
    return f"{name}({least}, {most})"


def _in_steps(name: str, least: float, most: float, step: float, place: str, note: Note) -> str:
    """W&B gives multiples of the quantum, from that nearest to min to that nearest to max."""
    fewest, last = round(least / step), round(most / step)
    if name == "loguniform":
        fewest = max(fewest, 1)  # nought has no logarithm
    if fewest >= last:
        raise Refusal(
            f"there is no choice between {least:g} and {most:g} in steps of {step:g}",
            path=place,
            value=step,
            remedy="give a smaller q, or a value",
        )
    first, final = _tidy(fewest * step), _tidy(last * step)
    if not (math.isclose(first, least, rel_tol=1e-6) and math.isclose(final, most, rel_tol=1e-6)):
        note(f"{place}: in multiples of q={step:g}, from {first:g} to {final:g}")
    whole = name == "uniform" and type(step) is int
    return f"{'qrandint' if whole else f'q{name}'}({first}, {final}, {step})"


def _arange(least: float, most: float, q: float) -> list[float]:
    """A grid of q_uniform leaves max out, there too."""
    return [_tidy(least + index * q) for index in range(math.ceil((most - least) / q - 1e-9))]


def _tidy(number: float) -> float:
    """Without what rounding left: nine digits are more than anybody chose."""
    return number if type(number) is int else float(f"{number:.9g}")


def _listed(given: Mapping[str, Any], place: str) -> Any:
    values, weights = given["values"], given.get("probabilities")
    if not isinstance(values, list) or not values:
        raise Refusal(
            "values is a list of one or more", path=place, value=values, remedy="[0.1, 0.2]"
        )
    _check_plain(values, place)
    if weights is not None:
        values, weights = _weights(values, weights, place)
    if len(values) == 1:
        return values[0]
    words = [word(value) for value in values]
    if weights is None:
        return f"choice({', '.join(words)})"
    pairs = [f"{each}: {weight}" for each, weight in zip(words, weights, strict=True)]
    return f"weighted({', '.join(pairs)})"


def _weights(values: Sequence[Any], weights: Any, place: str) -> tuple[list[Any], list[float]]:
    """Without those that are never drawn."""
    numbers = isinstance(weights, list) and all(type(each) in (int, float) for each in weights)
    wrong = ""
    if not numbers or len(weights) != len(values) or not all(0 <= each <= 1 for each in weights):
        wrong = "probabilities is a list of numbers from 0 to 1, one for each of values"
    elif not math.isclose(sum(weights), 1, rel_tol=1e-5):
        wrong = f"the probabilities sum to {sum(weights):g}, not to 1"
    elif any(isinstance(value, list | dict) for value in values):
        wrong = "lists and mappings have no probabilities here"
    if wrong:
        raise Refusal(
            wrong, path=f"{place}.probabilities", value=str(weights), remedy="mend the list"
        )
    kept = [(value, each) for value, each in zip(values, weights, strict=True) if each > 0]
    return [value for value, _ in kept], [each for _, each in kept]


def _check_plain(values: Sequence[Any], place: str) -> None:
    try:
        json.dumps(values)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refusal(
            f"is no plain value: {error}", path=place, remedy="write numbers, words and lists"
        ) from None


def word(value: Any) -> str:
    """A value as the grammar of spaces reads it: JSON where a bare word would be something else."""
    bare = isinstance(value, str) and _PLAIN.fullmatch(value)
    return value if bare and yaml.load(value, Loader) == value else json.dumps(value)
