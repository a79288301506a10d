"""Functions of x as people write them, `x**2 + 2*cos(x)`: parsed by `ast`, never evaluated by Python.

Known are + - * / ** and brackets, x, pi, e, numbers, and sin, cos, exp, log, sqrt, abs, tanh.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.refusal import Refusal

Numbers = NDArray[np.float64]
LONGEST = 500  # characters
CONSTANTS = {"pi": math.pi, "e": math.e}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    name: getattr(np, name) for name in ("sin", "cos", "exp", "log", "sqrt", "abs", "tanh")
}
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_KNOWN = f"known: x, {', '.join([*CONSTANTS, *FUNCTIONS])}, numbers, + - * / ** and brackets"


def function(text: str) -> Callable[[Numbers], Numbers]:
    """The function that an expression says. Raises Refusal, with the place in it, where it says none.

    What has no number at an x (log of -1, 1 / 0) is nan or infinite there, without a warning.
    """
    if len(text) > LONGEST:
        raise _none(text, f"it has {len(text)} characters", "", f"use {LONGEST} at most")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        place = getattr(error, "offset", None)  # 0 at the very end
        why = str(getattr(error, "msg", error))
        raise _none(text, why, f" at character {place or len(text)}", _KNOWN) from None
    if not _check(tree, text):
        raise _none(text, "there is no x in it", "", _KNOWN)

    def evaluated(x: Numbers) -> Numbers:
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(_value(tree, x), np.float64), x.shape)

    return evaluated


def _check(node: ast.expr, text: str) -> bool:
    """Whether x is in it. Raises Refusal for anything that is not of the grammar."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return False
        case ast.Name(id=name) if name == "x" or name in CONSTANTS:
            return name == "x"
        case ast.UnaryOp(op=op, operand=inner) if type(op) in _UNARY:
            return _check(inner, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            found = [_check(side, text) for side in (left, right)]
            return any(found)
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in FUNCTIONS:
            return _check(inner, text)
    place = f" at character {node.col_offset + 1}"
    said = ast.get_source_segment(text.strip(), node) or type(node).__name__
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
        raise _none(text, f"'{said}' is no power", place, "write x**2 for x squared")
    raise _none(text, f"'{said}' is not known", place, _KNOWN)


def _value(node: ast.expr, x: Numbers) -> Any:
    match node:
        case ast.Constant(value=value):
            # Powers of Python's whole numbers could fill the memory.
            return np.float64(value) if abs(value) < 1e300 else np.float64(np.inf)  # type: ignore[arg-type]
        case ast.Name(id=name):
            return x if name == "x" else CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=inner):
            return _UNARY[type(op)](_value(inner, x))
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, x), _value(right, x))
        case ast.Call(func=ast.Name(id=name), args=[inner]):
            return FUNCTIONS[name](_value(inner, x))
    raise AssertionError("the expression was checked")


def _none(text: str, why: str, place: str, remedy: str) -> Refusal:
    return Refusal(
        f"an expression that is not a function of x: {why}{place}", value=text, remedy=remedy
    )
