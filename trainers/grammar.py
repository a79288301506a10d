"""The one grammar of change, `dotted.path=value`, on plain trees; and pydantic's mistakes in one line of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from datasets.refusal import Refusal, nearest

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$"
SCORE = r"^(val|test)/[a-z0-9_]+$"
DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"
ORIGINS = ("data.source", "data.url", "data.mixture")  # one takes another's place
PATTERNS = {
    NAME: "a letter or digit, then up to 79 letters, digits, '_', '.' or '-'",
    SCORE: "a score such as val/accuracy",
    DEVICE: "auto, cpu, mps, cuda or cuda:N",
}

# What pydantic calls a mistake -> what was expected.
EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "text",
    "string_too_short": "text of {min_length} letters or more",
    "list_type": "a list",
    "too_short": "a list of {min_length} or more (it has {actual_length})",
    "dict_type": "a mapping of keys to values",
    "model_type": "a name, or a mapping of keys to values",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "below {lt:g}",
    "less_than_equal": "{le:g} or less",
    "finite_number": "a finite number",
}


class Loader(yaml.SafeLoader):
    """YAML that refuses a key said twice instead of keeping the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key '{key.value}' is given twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


# YAML 1.2's words instead of 1.1's: `on: val` is a key called on, not true; 3e-4 is a number, not a string.
Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if not tag.endswith((":bool", ":float", ":timestamp"))
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def read_yaml(text: str, path: str) -> Any:
    """A YAML document; a `Refusal` with the line where it is none."""
    try:
        return yaml.load(text, Loader)
    except RecursionError:
        raise Refusal("not readable as YAML: nested too deeply", path=path) from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise Refusal(f"not readable as YAML{line}: {problem}", path=path) from None


def pairs(changes: Iterable[str | Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of `"path=value"`s and `{path: value}`s."""
    for change in changes:
        if isinstance(change, Mapping):
            for path, value in change.items():
                _check_keys(path, path)
                yield path, value
            continue
        path, equals, value = change.partition("=")
        if not equals or not path:
            raise Refusal(
                f"'{change}' is not dotted.path=value",
                value=change,
                remedy="for example data.batch=128",
            )
        _check_keys(path, change)
        try:
            yield path, yaml.load(value, Loader)
        except (yaml.YAMLError, ValueError, RecursionError):
            yield path, value  # `train.0=*` is a glob, not a YAML alias


def _check_keys(path: str, said: str) -> None:
    if "" in path.split("."):
        raise Refusal(
            f"in '{said}' a key is missing: a dotted path has one before and after each dot",
            path=path,
            value=said,
            remedy="for example data.batch=128",
        )


def change(
    tree: dict[str, Any], path: str, value: Any, own_keys: Callable[[list[str]], Iterable[str]]
) -> None:
    """Set one dotted path. A part that gets another name keeps only `own_keys`, those that are not its former self's."""
    keys = path.split(".")
    if path in ORIGINS and value is not None:
        tree["data"].update(source=None, url=None, mixture=None)
        if path == "data.url":  # what was asked of a source's packing is done already
            for key in ("splits", "leave_out", "extra"):
                tree["data"].pop(key, None)
    if keys[-1] == "name" and len(keys) > 1:
        part = _find(tree, keys[:-1], path)
        if isinstance(part, dict) and part.get("name") != value:
            for key in set(part) - set(own_keys(keys[:-1])):
                del part[key]
    assign(tree, keys, value, path)


def _find(tree: Any, keys: list[str], path: str) -> Any:
    for depth, key in enumerate(keys):
        at = ".".join(keys[:depth])
        if isinstance(tree, list):
            if not re.fullmatch(r"\d+", key) or int(key) >= len(tree):
                raise Refusal(
                    f"{at} has {len(tree)} entries, none is '{key}'",
                    path=path,
                    value=key,
                    remedy=f"count from 0 to {len(tree) - 1}",
                )
            tree = tree[int(key)]
        elif isinstance(tree, dict) and key in tree:
            if isinstance(tree[key], str) and depth == len(keys) - 1:
                name, colon, rest = tree[key].partition(
                    ":"
                )  # a part by its bare name, about to get arguments
                tree[key] = (
                    {"name": name, "path": rest}
                    if key == "source" and colon
                    else {"name": tree[key]}
                )
            if tree[key] is None:
                tree[key] = {}  # said for the first time, a value at a time
            tree = tree[key]
        else:
            known = tree if isinstance(tree, dict) else ()
            unsaid = path.split(".")[depth:]
            whole = ": {".join(unsaid) + ": ..." + "}" * len(unsaid)
            raise Refusal(
                f"no '{key}' here",
                path=path,
                value=key,
                # What was not said yet has no keys: it is said as a whole.
                remedy=nearest(key, known) if known else f"say it whole: '{at}={{{whole}'",
            )
    return tree


def assign(tree: Any, keys: list[str], value: Any, path: str = "") -> None:
    """Set a value in a tree of dicts and lists; the next index of a list appends."""
    *parents, last = keys
    node = _find(tree, parents, path)
    if isinstance(node, list):
        if last == str(len(node)):
            node.append(value)
            return
        _find(node, [last], path)
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise Refusal(
            f"{'.'.join(parents)} is a value, not a mapping",
            path=path,
            value=value,
            remedy=f"set {'.'.join(parents)} itself",
        )


def refusal(
    error: ValidationError, model: type[BaseModel], prefix: str = "", more_keys: Iterable[str] = ()
) -> Refusal:
    """The first mistake that pydantic found, in one line; `more_keys` are also known beneath the prefix."""
    problems = error.errors(include_url=False)
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = [str(key) for key in first["loc"] if not str(key).startswith(("function-", "is-"))]
    path = ".".join([*([prefix] if prefix else []), *location])
    path = re.sub(r"\.(constrained-int|int|literal\['auto'\])$", "", path)
    value = first["input"]
    remedy = ""
    if first["type"] == "extra_forbidden":
        known = {*_fields(model, first["loc"][:-1]), *more_keys}
        text, remedy = f"unknown key '{location[-1]}'", nearest(location[-1], known)
    elif first["type"] in ("missing", "blank"):
        text, value = "is missing", None
        remedy = f"add {path}: ..."
    else:
        text = _said(first)
        if not isinstance(value, dict | list):
            shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
            text += f" (it is {shown})"
        if first["type"] == "literal_error" and isinstance(value, str):
            remedy = nearest(value, re.findall(r"'([^']+)'", str(first["ctx"]["expected"])))
    more = len(problems) - 1
    others = f" ({more} more mistake{'s' if more > 1 else ''})" if more else ""
    return Refusal(text + others, path=path, value=_printable(value), remedy=remedy)


def _said(problem: ErrorDetails) -> str:
    """What was expected, in our words."""
    kind, about = problem["type"], problem.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return f"should be {PATTERNS.get(about['pattern'], about['pattern'])}"
    if kind in EXPECTED:
        return "should be " + EXPECTED[kind].format(**about)
    return re.sub(r"^(Value error, |Input (?=should))", "", problem["msg"])


def _printable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)[:200]


def _fields(model: Any, location: tuple[int | str, ...]) -> set[str]:
    """The keys that a node of the model takes."""
    for key in location:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            break
        if isinstance(key, str) and key in model.model_fields:
            model = _model_in(model.model_fields[key].annotation)
    known = isinstance(model, type) and issubclass(model, BaseModel)
    return set(model.model_fields) if known else set()


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _model_in(inner)) is not None:
            return found
    return None
