"""What a search may try: `loguniform(1e-5, 1e-1)`, `choice(sgd, adam)`, each perhaps only `if` another choice was made.

A space is read and checked here without knowing who draws from it (search/tune/draws.py does, with Optuna).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from datasets.refusal import Refusal, nearest
from trainers.grammar import Loader

# name -> what its arguments are called; the last one of a q... is its quantum.
KINDS = {
    "uniform": ("least", "most"),
    "quniform": ("least", "most", "step"),
    "loguniform": ("least", "most"),
    "qloguniform": ("least", "most", "step"),
    "normal": ("mean", "sd"),
    "qnormal": ("mean", "sd", "step"),
    "lognormal": ("mean", "sd"),
    "qlognormal": ("mean", "sd", "step"),
    "randint": ("least", "most"),
    "qrandint": ("least", "most", "step"),
    "lograndint": ("least", "most"),
    "choice": (),
    "weighted": (),
}
WHOLE = ("randint", "qrandint", "lograndint")
_CALL = re.compile(r"^\s*([A-Za-z_]\w*)\s*\(")
_CONDITION = re.compile(r"^\s*([\w.*]+)\s*(==|!=|<=|>=|<|>|not in\b|in\b)\s*(.+?)\s*$", re.S)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "in": lambda value, among: value in among,
    "not in": lambda value, among: value not in among,
}
ABSENT = object()


@dataclass(frozen=True)
class Condition:
    """`path == value`, of what a trial has chosen or its recipe says."""

    path: str
    sign: str
    value: Any

    def holds(self, look: Callable[[str], Any]) -> bool:
        """`look` gives the value at a path, ABSENT where there is none."""
        found = look(self.path)
        try:
            return found is not ABSENT and _COMPARE[self.sign](found, self.value)
        except TypeError:
            return False

    @property
    def example(self) -> Any:
        """A value for which it holds, ABSENT where none is plain."""
        if self.sign in ("==", "<=", ">="):
            return self.value
        return self.value[0] if self.sign == "in" and self.value else ABSENT


@dataclass(frozen=True)
class Dimension:
    """One path of the recipe and what may stand there: numbers of a distribution, or one of `values`."""

    path: str
    kind: str
    numbers: tuple[float, ...] = ()
    values: tuple[Any, ...] = ()
    weights: tuple[float, ...] = ()  # of the values, sum 1
    conditions: tuple[Condition, ...] = ()  # it is there only where all of them hold

    @property
    def finite(self) -> bool:
        return bool(self.grid)

    @property
    def grid(self) -> tuple[Any, ...]:
        """All that may stand there, in order; nothing of a continuous one."""
        if self.kind in ("choice", "weighted"):
            return self.values
        if self.kind == "lograndint":
            return ()
        if self.kind in ("randint", "qrandint", "quniform"):
            least, most, *step = self.numbers
            return tuple(_steps(least, most, step[0] if step else 1.0, self.kind in WHOLE))
        return ()

    @property
    def examples(self) -> tuple[Any, ...]:
        """Values that the recipe must take: all of a choice, the ends of a range."""
        if self.values:
            return self.values
        if "normal" in self.kind:
            mean = math.exp(self.numbers[0]) if "log" in self.kind else self.numbers[0]
            return (mean,)
        least, most = self.numbers[:2]
        if self.kind in WHOLE:
            return (int(least), int(most))
        # And one in between: the ends may be whole where nothing else is.
        return (least, self.quantised(least + 0.618 * (most - least)), most)

    def holds(self, value: Any) -> bool:
        """Whether a value is one of those that may stand there."""
        if self.values:
            return value in self.values
        if type(value) not in (int, float) or (self.kind in WHOLE and int(value) != value):
            return False
        if self.kind.startswith("q") and not math.isclose(
            self.quantised(value), value, rel_tol=1e-9, abs_tol=1e-12
        ):
            return False
        if "normal" in self.kind:
            return value > 0 or "log" not in self.kind
        least, most = self.numbers[:2]
        return bool(least <= value <= most)

    def quantised(self, value: float) -> float:
        """The value as the quantum of a q... has it, within the range."""
        if not self.kind.startswith("q"):
            return value
        step = self.numbers[2]
        rounded = round(value / step) * step
        if "normal" in self.kind:
            return rounded
        least, most = self.numbers[:2]
        return min(max(rounded, least), most)


@dataclass(frozen=True)
class Space:
    """Dimensions in an order in which each comes after those that it asks about; and what is set for all trials."""

    dimensions: tuple[Dimension, ...]
    constants: Mapping[str, Any]

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Space:
        """Of `{dotted.path: "loguniform(1e-5, 1e-1) if path == value"}`. Raises Refusal."""
        dimensions, constants = {}, {}
        for path, value in said.items():
            found = _dimension(path, value)
            if found is None:
                constants[path] = value
            else:
                dimensions[path] = found
        return cls(tuple(_ordered(dimensions)), constants)

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every point of a finite space, as {path: value}."""

        def points(left: tuple[Dimension, ...], chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
            if not left:
                yield chosen
                return
            first, *rest = left
            if not self.applies(first, chosen.get):
                yield from points(tuple(rest), chosen)
                return
            for value in first.grid:
                yield from points(tuple(rest), {**chosen, first.path: value})

        yield from points(self.dimensions, {})

    def applies(
        self, dimension: Dimension, chosen: Callable[[str, Any], Any], tree: Any = None
    ) -> bool:
        """Whether a dimension is there, after what was `chosen(path, otherwise)` and in the recipe's plain `tree`."""

        def look(path: str) -> Any:
            found = chosen(path, ABSENT)
            found = self.constants.get(path, ABSENT) if found is ABSENT else found
            return at(tree, path) if found is ABSENT and tree is not None else found

        return all(condition.holds(look) for condition in dimension.conditions)


def at(tree: Any, path: str) -> Any:
    """The value at a dotted path of a plain tree; a part by its bare name has `path.name`. ABSENT where there is none."""
    for key in path.split("."):
        if isinstance(tree, Mapping) and key in tree:
            tree = tree[key]
        elif isinstance(tree, list) and key.isdecimal() and int(key) < len(tree):
            tree = tree[int(key)]
        elif key == "name" and isinstance(tree, str):
            continue
        else:
            return ABSENT
    return tree


def _dimension(path: str, said: Any) -> Dimension | None:
    """None of a constant."""
    if not isinstance(said, str) or not (call := _CALL.match(said)):
        return None
    place, kind = f"search.space.{path}", call[1]
    if kind not in KINDS:
        raise Refusal(
            f"'{kind}' is no distribution", path=place, value=said, remedy=nearest(kind, KINDS)
        )
    inner, rest = _enclosed(said, call.end(), place)
    arguments = [_value(text) for text in _split(inner)]
    conditions = _conditions(rest, place, said)
    if kind == "choice":
        return _choice(path, arguments, conditions, place, said)
    if kind == "weighted":
        return _weighted(path, arguments, conditions, place, said)
    names = KINDS[kind]
    numbers = [each for each in arguments if type(each) in (int, float) and math.isfinite(each)]
    if len(arguments) != len(names) or len(numbers) != len(names):
        raise Refusal(
            f"{kind} takes numbers: {', '.join(names)}",
            path=place,
            value=said,
            remedy=f"write {kind}({', '.join(names)})",
        )
    _check_numbers(kind, numbers, place, said)
    return Dimension(path, kind, tuple(numbers), conditions=conditions)


def _check_numbers(kind: str, numbers: list[float], place: str, said: str) -> None:
    wrong = ""
    if "normal" in kind:
        wrong = "" if numbers[1] > 0 else "the standard deviation must be above 0"
    elif numbers[0] >= numbers[1]:
        wrong = "the first number must be below the second"
    elif "log" in kind and numbers[0] <= 0:
        wrong = "a logarithm needs numbers above 0"
    if not wrong and kind.startswith("q") and numbers[-1] <= 0:
        wrong = "the quantum must be above 0"
    if (
        not wrong
        and kind.startswith("q")
        and "normal" not in kind
        and numbers[2] > numbers[1] - numbers[0]
    ):
        wrong = "the quantum is larger than the range"
    if not wrong and kind in WHOLE and any(float(n) != int(n) for n in numbers):
        wrong = "whole numbers are asked for"
    if wrong:
        raise Refusal(wrong, path=place, value=said, remedy="mend the numbers")


def _choice(
    path: str, values: list[Any], conditions: tuple[Condition, ...], place: str, said: str
) -> Dimension:
    _check_values(values, place, said)
    return Dimension(path, "choice", values=tuple(values), conditions=conditions)


def _weighted(
    path: str, arguments: list[Any], conditions: tuple[Condition, ...], place: str, said: str
) -> Dimension:
    pairs = [next(iter(each.items())) for each in arguments if isinstance(each, dict) and each]
    weights = [weight for _, weight in pairs if type(weight) in (int, float) and weight > 0]
    if len(weights) != len(arguments):
        raise Refusal(
            "a weight above 0 for each value is asked for",
            path=place,
            value=said,
            remedy="write weighted(sgd: 3, adam: 1)",
        )
    values = [value for value, _ in pairs]
    _check_values(values, place, said)
    shares = tuple(weight / sum(weights) for weight in weights)
    return Dimension(path, "weighted", values=tuple(values), weights=shares, conditions=conditions)


def _check_values(values: list[Any], place: str, said: str) -> None:
    twice = any(value in values[:place] for place, value in enumerate(values))  # 1 is true
    if not values or twice:
        wrong = "a value is there twice" if values else "there is nothing to choose from"
        raise Refusal(wrong, path=place, value=said, remedy="write choice(a, b, c)")


def _conditions(rest: str, place: str, said: str) -> tuple[Condition, ...]:
    rest = rest.strip()
    if not rest:
        return ()
    word, _, conditions = rest.partition(" ")
    found = [_CONDITION.match(each) for each in re.split(r"\band\b", conditions)]
    if word != "if" or not all(found):
        raise Refusal(
            f"'{rest}' is not understood",
            path=place,
            value=said,
            remedy="write `if path == value`, with ==, !=, <, <=, >, >=, in (a, b) or not in (a, b), joined by and",
        )
    return tuple(_condition(match) for match in found if match)


def _condition(match: re.Match[str]) -> Condition:
    path, sign, text = match[1], match[2], match[3]
    if sign in ("in", "not in"):
        return Condition(path, sign, [_value(each) for each in _split(text.strip("()[] "))])
    return Condition(path, sign, _value(text))


def _enclosed(said: str, start: int, place: str) -> tuple[str, str]:
    """What is between the parenthesis before `start` and its partner, and what follows."""
    depth, quote = 1, ""
    for index in range(start, len(said)):
        char = said[index]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if not depth:
                return said[start:index], said[index + 1 :]
    raise Refusal("a parenthesis is not closed", path=place, value=said, remedy="add )")


def _split(text: str) -> list[str]:
    """At the commas that no bracket or quotation encloses."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        else:
            depth += (char in "([{") - (char in ")]}")
        if char == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def _value(text: str) -> Any:
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text  # a glob such as *.bias


def _ordered(dimensions: dict[str, Dimension]) -> Iterator[Dimension]:
    """Each after those that its conditions ask about."""
    left = dict(dimensions)
    while left:
        ready = [
            d
            for d in left.values()
            if not any(condition.path in left for condition in d.conditions)
        ]
        if not ready:
            path = next(iter(left))
            raise Refusal(
                "its conditions ask about each other in a circle",
                path=f"search.space.{path}",
                value=path,
                remedy="leave one of the conditions out",
            )
        for dimension in ready:
            del left[dimension.path]
            yield dimension


def _steps(least: float, most: float, step: float, whole: bool) -> Iterator[float]:
    count = int((most - least) / step + 1e-9) + 1
    for index in range(count):
        value = least + index * step
        yield int(value) if whole else value
