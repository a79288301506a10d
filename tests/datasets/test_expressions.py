"""Functions of x as people write them: what they come to, and that nothing else is ever run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from datasets.formats import expressions
from datasets.refusal import Refusal

X = np.linspace(0.1, 3, 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x**2 + 2*cos(x) + 2/exp(x)", X**2 + 2 * np.cos(X) + 2 / np.exp(X)),
        ("-x", -X),
        ("  2 * (x - 1) ", 2 * (X - 1)),
        ("sin(pi * x) - e ** -x", np.sin(np.pi * X) - np.e**-X),
        ("sqrt(abs(log(x))) * tanh(+x)", np.sqrt(np.abs(np.log(X))) * np.tanh(X)),
        ("2 ** 3 ** x", 2 ** (3**X)),
        ("0 * x + 5", np.full(7, 5.0)),
        ("x", X),
    ],
)
def test_an_expression_is_what_it_says(text: str, expected: np.ndarray) -> None:
    np.testing.assert_allclose(expressions.function(text)(X), expected, rtol=1e-12)


@given(st.recursive(
    st.sampled_from(["x", "pi", "e", "2", "0.5"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["sin", "cos", "tanh", "abs"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
    ),
    max_leaves=12,
))  # fmt: skip
def test_it_is_what_python_makes_of_it(text: str) -> None:
    names = {"x": X, **expressions.CONSTANTS, **expressions.FUNCTIONS}
    if "x" not in text:
        text = f"x + {text}"
    with np.errstate(all="ignore"):
        try:
            expected = np.broadcast_to(eval(text, {"__builtins__": {}}, names), X.shape)
        except ZeroDivisionError:  # of two numbers, which numpy would call endless
            reject()
    np.testing.assert_allclose(expressions.function(text)(X), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("y + x", "'y' is not known at character 1"),
        ("x + foo(x)", "'foo(x)' is not known at character 5"),
        ("x^2", "'x^2' is no power at character 1"),
        ("2x", "at character"),
        ("x +", "at character 3"),
        ("", "an expression that is not a function of x"),
        ("3 + pi", "there is no x in it"),
        ("x.real", "'x.real' is not known at character 1"),
        ("__import__('os').system('true')", "is not known at character 1"),
        ("(lambda: x)()", "is not known at character 1"),
        ("[x][0]", "'[x][0]' is not known"),
        ("x if x else 1", "is not known"),
        ("sin(x, x)", "'sin(x, x)' is not known"),
        ("sin", "'sin' is not known"),
        ("x + True", "'True' is not known"),
        ("x + 'a'", "is not known at character 5"),
        ("x * 2j", "'2j' is not known"),
        ("x // 2", "'x // 2' is not known"),
        ("x = 2", "at character"),
        ("(" * 150 + "x" + ")" * 150 + "+" * 400, "it has 701 characters"),
        ("(" * 240 + "x" + ")" * 240, "an expression that is not a function of x"),
        ("x\0", "an expression that is not a function of x"),
    ],
)
def test_what_is_no_function_of_x_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(Refusal) as caught:
        expressions.function(text)
    assert why in caught.value.error and caught.value.value == text and caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["9**9**9**9**9 + x", "x * 1e999", "1 / (x - x)", "log(-x)"])
def test_what_has_no_number_is_no_number_and_takes_no_time(text: str) -> None:
    assert not np.isfinite(expressions.function(text)(X)).any()


def test_powers_of_powers_do_not_fill_the_memory() -> None:
    found = expressions.function("x + 2 ** 2 ** 2 ** 2")(X)
    assert math.isclose(found[0], 0.1 + 65536)
