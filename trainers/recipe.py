"""The recipe: what a run is, as data. `Recipe.load` reads, `Recipe.override` changes, nothing else does."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from datasets import store
from datasets.ranges import Probability
from datasets.refusal import Refusal, nearest
from trainers import rooms
from trainers.part import (
    Frozen,
    ModelPart,
    Part,
    SchedulePart,
    SourcePart,
    TaskPart,
    TransformPart,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
Score = Annotated[str, Field(pattern=r"^(val|test)/[a-z0-9_]+$")]


class View(Frozen):
    """How the pictures of a split are shown to the model."""

    transforms: list[TransformPart] = []


class Splits(Frozen):
    """Stratified shares of a source without official splits, drawn by their own seed."""

    val: Probability = 0.15
    test: Probability = 0.15
    seed: NonNegativeInt = 0


class Data(Frozen):
    """Which samples, in which batches."""

    source: SourcePart | None = None
    url: str | None = None
    batch: PositiveInt = Field(64, description="global: over all workers")
    lanes: PositiveInt | None = Field(None, description="default min(batch, 64); most workers")
    tail: Literal["drop", "keep"] = "drop"
    train: View = View()
    splits: Splits = Splits()
    size: PositiveInt | None = Field(None, description="pixels a side given to the model", le=4096)
    mean: list[float] | None = None
    std: list[PositiveFloat] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Data:
        if (self.source is None) == (self.url is None):
            raise ValueError("say either source (packed once into the cache) or url (packed already)")
        return self


class PhaseData(Frozen):
    """What a phase reads differently."""

    batch: PositiveInt | None = None
    lanes: PositiveInt | None = None
    tail: Literal["drop", "keep"] | None = None
    train: View | None = None


class Optim(Part):
    """An optimizer of trainers/optimizers.py; its own arguments stand beside these."""

    room = "optimizers"
    lr: NonNegativeFloat
    weight_decay: NonNegativeFloat = 0.0
    no_decay: bool = Field(False, description="leave biases and norms out of weight decay")
    clip: PositiveFloat | None = Field(None, description="largest norm of the gradient")


class Phase(Frozen):
    """A stretch of training with one task, one set of learning parameters and one schedule."""

    task: TaskPart
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    train: list[str] = Field(["*"], min_length=1)
    optim: dict[str, Optim] = Field(min_length=1)
    schedule: SchedulePart = SchedulePart(name="constant")
    data: PhaseData = PhaseData()
    init: str | None = Field(None, description="a checkpoint; default: as the last phase left it")

    @model_validator(mode="after")
    def _one_length(self) -> Phase:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("say either epochs or steps")
        return self


class Eval(Part):
    """An evaluator of trainers/evals; its own arguments stand beside these."""

    room = "evals"
    on: Literal["val", "test"] = Field("val", description="test: only at the end, with the others")
    every: PositiveInt = Field(1, description="epochs")


class Keep(Frozen):
    """Which checkpoints stay, and when to stop."""

    metric: Score | None = None
    mode: Literal["max", "min"] = "max"
    patience: PositiveInt | None = Field(None, description="evaluations without a better score")
    every_steps: PositiveInt | None = None
    every_seconds: PositiveFloat | None = 600.0
    last: PositiveInt = 1

    @field_validator("metric")
    @classmethod
    def _not_on_test(cls, metric: str | None) -> str | None:
        if metric and metric.startswith("test/"):
            raise ValueError("a checkpoint is never chosen by a test metric: use a val/ metric")
        return metric


class Scale(Frozen):
    """How much hardware and how: never changes what is learnt, beyond rounding."""

    workers: PositiveInt | Literal["auto"] = 1
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    sync_bn: bool = True
    micro_batch: PositiveInt | None = Field(None, description="rows a worker takes at once")
    threads: PositiveInt | None = None
    deterministic: bool = False


class Log(Frozen):
    """What is written down while training."""

    every: PositiveInt = Field(1, description="steps between rows of metrics.jsonl")
    tensorboard: bool = True


class Recipe(Frozen):
    """One run. The same file runs in this process, on Ray workers, on a cluster and as a trial."""

    name: Name
    seed: NonNegativeInt = Field(0, lt=2**63)
    rows: list[int] = Field([], description="rows of the experiments' list that it serves")
    data: Data
    model: ModelPart
    phases: list[Phase] = Field(min_length=1)
    evals: dict[Name, Eval] = {}
    keep: Keep = Keep()
    scale: Scale = Scale()
    log: Log = Log()

    @model_validator(mode="before")
    @classmethod
    def _named_evals(cls, tree: Any) -> Any:
        """`accuracy: {every: 1}` is an evaluator of that name unless it gives another."""
        if not isinstance(tree, dict) or not isinstance(tree.get("evals"), dict):
            return tree
        evals = {
            key: {"name": key, **(value or {})} if isinstance(value, dict | None) else value
            for key, value in tree["evals"].items()
        }
        return {**tree, "evals": evals}

    @classmethod
    def load(cls, path: str, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
        """A recipe file, changed by `dotted.path=value`s; any mistake is a `Refusal`."""
        if not store.exists(path):
            raise Refusal("no such recipe", path=path, remedy="`python launch.py list recipes`")
        tree = _yaml(store.read_bytes(path).decode("utf-8", errors="replace"), path)
        if not isinstance(tree, dict):
            raise Refusal("a recipe is a mapping of keys to values", path=path, value=tree)
        recipe = cls.check(tree)
        return recipe.override(*overrides) if overrides else recipe

    @classmethod
    def check(cls, tree: Mapping[str, Any]) -> Recipe:
        """The recipe of a plain tree, its parts' names and arguments checked and coerced."""
        try:
            recipe = cls.model_validate(tree)
        except ValidationError as error:
            raise _refusal(error, cls) from None
        plain = recipe.plain()
        for path, part in parts(recipe):
            try:
                _assign(plain, path.split("."), part.checked(path))
            except ValidationError as error:
                raise _refusal(error, rooms.door(part.room, part.name).schema, path) from None
        if not plain["data"]["lanes"]:
            plain["data"]["lanes"] = min(plain["data"]["batch"], 64)
        recipe = cls.model_validate(plain)
        recipe._check_scores()
        return recipe

    def override(self, *changes: str | Mapping[str, Any], **named: Any) -> Recipe:
        """A new recipe with `"dotted.path=value"`s or `{"dotted.path": value}`s applied in order."""
        pairs = [*_pairs(changes), *named.items()]
        # Names first: they drop the former part's arguments, not those given beside them.
        pairs.sort(key=lambda pair: not pair[0].endswith(".name"))
        tree = self.plain()
        if any(path == "data.batch" for path, _ in pairs):
            tree["data"]["lanes"] = None if self._default_lanes() else tree["data"]["lanes"]
        for path, value in pairs:
            _override(tree, path, value)
        return type(self).check(tree)

    def plain(self) -> dict[str, Any]:
        """The recipe as JSON types."""
        return self.model_dump(mode="json")

    def yaml(self) -> str:
        """The recipe as YAML, every value written out."""
        return yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True, width=100)

    def phase_data(self, index: int) -> Data:
        """The data of one phase: the recipe's, with the phase's own changes."""
        changes = self.phases[index].data.model_dump(exclude_none=True)
        if "batch" in changes and "lanes" not in changes:
            changes["lanes"] = min(changes["batch"], self.data.lanes or 64)
        return Data.model_validate({**self.data.model_dump(), **changes})

    def identity(self, digest: str) -> str:
        """Eight hex digits: equal for runs that learn the same thing from the same data."""
        tree = self.plain()
        for key in ("name", "rows", "scale", "evals", "log"):
            del tree[key]
        for key in ("every_steps", "every_seconds", "last"):
            del tree["keep"][key]
        for key in ("source", "url", "splits"):
            del tree["data"][key]
        text = json.dumps({**tree, "digest": digest}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def _default_lanes(self) -> bool:
        return self.data.lanes == min(self.data.batch, 64)

    def _check_scores(self) -> None:
        if self.keep.metric is None:
            if self.keep.patience:
                raise Refusal(
                    "patience needs a metric to watch",
                    path="keep.patience",
                    value=self.keep.patience,
                    remedy="set keep.metric",
                )
            return
        known = set()
        for key, evaluator in self.evals.items():
            constants = rooms.door("evals", evaluator.name, f"evals.{key}").constants
            known |= {f"{evaluator.on}/{score}" for score in constants.get("SCORES", ())}
        if self.keep.metric not in known:
            raise Refusal(
                f"no evaluator gives '{self.keep.metric}'",
                path="keep.metric",
                value=self.keep.metric,
                remedy=nearest(self.keep.metric, known) if known else "add an evaluator to evals",
            )


def parts(node: Any, path: str = "") -> Iterator[tuple[str, Part]]:
    """(dotted path, part) of every part beneath a node."""
    if isinstance(node, Part):
        yield path, node
        return
    children: dict[Any, Any] = {}
    if isinstance(node, BaseModel):
        children = {name: getattr(node, name) for name in type(node).model_fields}
    elif isinstance(node, dict):
        children = node
    elif isinstance(node, list):
        children = dict(enumerate(node))
    for name, child in children.items():
        yield from parts(child, f"{path}.{name}" if path else str(name))


class _Loader(yaml.SafeLoader):
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
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith((":bool", ":float", ":timestamp"))]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def _yaml(text: str, path: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise Refusal(f"not readable as YAML{line}: {problem}", path=path) from None


def _pairs(changes: tuple[str | Mapping[str, Any], ...]) -> Iterator[tuple[str, Any]]:
    for change in changes:
        if isinstance(change, Mapping):
            yield from change.items()
            continue
        path, equals, value = change.partition("=")
        if not equals or not path:
            raise Refusal(
                f"'{change}' is not dotted.path=value",
                value=change,
                remedy="for example data.batch=128",
            )
        try:
            yield path, yaml.load(value, _Loader)
        except (yaml.YAMLError, ValueError):
            yield path, value  # `train.0=*` is a glob, not a YAML alias


def _override(tree: dict[str, Any], path: str, value: Any) -> None:
    keys = path.split(".")
    if path in ("data.source", "data.url"):
        tree["data"].update(source=None, url=None)
    if keys[-1] == "name" and len(keys) > 1:
        part = _find(tree, keys[:-1], path)
        if isinstance(part, dict) and part.get("name") != value:
            own = {"optim": Optim, "evals": Eval}.get(keys[-3] if len(keys) > 2 else "", Part)
            for key in set(part) - set(own.model_fields):
                del part[key]
    _assign(tree, keys, value, path)


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
            tree = tree[key]
        else:
            known = tree if isinstance(tree, dict) else ()
            raise Refusal(f"no '{key}' here", path=path, value=key, remedy=nearest(key, known))
    return tree


def _assign(tree: Any, keys: list[str], value: Any, path: str = "") -> None:
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


def _refusal(error: ValidationError, model: type[BaseModel], prefix: str = "") -> Refusal:
    """The first mistake that pydantic found, in one line."""
    problems = error.errors(include_url=False)
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = [str(key) for key in first["loc"] if not str(key).startswith(("function-", "is-"))]
    path = ".".join([*([prefix] if prefix else []), *location])
    path = re.sub(r"\.(constrained-int|int|literal\['auto'\])$", "", path)
    value = first["input"]
    remedy = ""
    if first["type"] == "extra_forbidden":
        known = _fields(model, first["loc"][:-1])
        text, remedy = f"unknown key '{location[-1]}'", nearest(location[-1], known)
    elif first["type"] == "missing":
        text, value = "is missing", None
        remedy = f"add {path}: ..."
    else:
        shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
        text = f"{first['msg'].removeprefix('Value error, ')} (it is {shown})"
        if first["type"] == "literal_error" and isinstance(value, str):
            remedy = nearest(value, re.findall(r"'([^']+)'", str(first["ctx"]["expected"])))
    more = len(problems) - 1
    others = f" ({more} more mistake{'s' if more > 1 else ''})" if more else ""
    return Refusal(text + others, path=path, value=_printable(value), remedy=remedy)


def _printable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)[:200]


def _fields(model: Any, location: tuple[int | str, ...]) -> set[str]:
    """The keys that a node of the model takes."""
    for key in location:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            break
        if isinstance(key, str) and key in model.model_fields:
            model = _model_in(model.model_fields[key].annotation)
    return set(model.model_fields) if isinstance(model, type) else set()


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _model_in(inner)) is not None:
            return found
    return None
