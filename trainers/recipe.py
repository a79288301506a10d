"""The recipe: what a run is, as data. `Recipe.load` reads, `Recipe.override` changes, nothing else does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from datasets import store
from datasets.refusal import Refusal, nearest
from trainers import rooms, searching
from trainers.cleaned import finder
from trainers.data import Data
from trainers.grammar import NAME, ORIGINS, SCORE, assign, change, pairs, read_yaml, refusal
from trainers.model_part import ModelPart
from trainers.part import Frozen, Part
from trainers.phase import Optim, Phase
from trainers.scale import Scale
from trainers.searching import Search

Name = Annotated[str, Field(pattern=NAME)]
Score = Annotated[str, Field(pattern=SCORE)]


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
    ceiling: float | None = Field(
        None, description="the best score that can be believed: a better one is told as an alarm"
    )
    every_steps: PositiveInt | None = None
    every_seconds: PositiveFloat | None = 60.0
    last: PositiveInt = Field(1, description="newest checkpoints that stay")
    best: PositiveInt = Field(1, description="checkpoints of the best scores that stay")

    @field_validator("metric")
    @classmethod
    def _not_on_test(cls, metric: str | None) -> str | None:
        if metric and metric.startswith("test/"):
            raise ValueError("a checkpoint is never chosen by a test metric: use a val/ metric")
        return metric


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
    search: Search | None = None

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
        tree = read_yaml(store.read_bytes(path).decode("utf-8", errors="replace"), path)
        if not isinstance(tree, dict):
            raise Refusal("a recipe is a mapping of keys to values", path=path, value=tree)
        if "question" in tree and "phases" not in tree:
            study = f"`python launch.py study {path}`"
            raise Refusal("this is a study", path=path, value=path, remedy=study)
        recipe = cls.check(tree)
        return recipe.override(*overrides) if overrides else recipe

    @classmethod
    def check(cls, tree: Mapping[str, Any]) -> Recipe:
        """The recipe of a plain tree, its parts' names and arguments checked and coerced."""
        try:
            recipe = cls.model_validate(tree)
        except ValidationError as error:
            raise refusal(error, cls) from None
        plain = recipe.plain()
        for path, part in parts(recipe):
            try:
                assign(plain, path.split("."), part.checked(path))
            except ValidationError as error:
                door = rooms.door(part.room, part.name)
                own = type(part).model_fields
                raise refusal(error, door.schema, path, more_keys=own) from None
        if not plain["data"]["lanes"]:
            plain["data"]["lanes"] = min(plain["data"]["batch"], 64)
        recipe = cls.model_validate(plain)
        for index in range(len(recipe.phases)):
            try:
                recipe.phase_data(index)
            except ValidationError as error:
                raise refusal(error, Data, f"phases.{index}.data") from None
        recipe._check_scores()
        if recipe.search:
            searching.check(recipe)
        if recipe.data.cleaned:
            finder(recipe)
        return recipe

    def override(self, *changes: str | Mapping[str, Any], **named: Any) -> Recipe:
        """A new recipe with `"dotted.path=value"`s or `{"dotted.path": value}`s applied in order."""
        wanted = [*pairs(changes), *named.items()]
        # Names first: they drop the former part's arguments, not those given beside them.
        wanted.sort(key=lambda pair: not pair[0].endswith(".name"))
        tree = self.plain()
        origins = {path for path, value in wanted if path in ORIGINS and value is not None}
        if len(origins) > 1:
            raise Refusal(
                f"{' and '.join(sorted(origins))} are both said: which of them?",
                path="data",
                value=sorted(origins),
                remedy="say one of them",
            )
        if any(path == "data.batch" for path, _ in wanted):
            tree["data"]["lanes"] = None if self._default_lanes() else tree["data"]["lanes"]
        for path, value in wanted:
            change(tree, path, value, _own_keys)
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
        for key in ("name", "rows", "scale", "evals", "log", "search"):
            del tree[key]
        for key in ("ceiling", "every_steps", "every_seconds", "last", "best"):
            del tree["keep"][key]
        for key in (
            "source",
            "url",
            "mixture",
            "splits",
            "leave_out",
            "extra",
            "ledger",
            "allow_leaks",
        ):
            del tree["data"][key]
        if tree["data"][
            "cleaned"
        ]:  # a list that is named counts by its content, which is in the digest
            del tree["data"]["cleaned"]["path"]
        # What is left out is left out, or every new key would make every old run another one.
        text = json.dumps({**_told(tree), "digest": digest}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def scores(self) -> set[str]:
        """What its evaluators give: `val/accuracy`, ..."""
        known, before = set(), self.score_prefixes()
        for key, evaluator in self.evals.items():
            constants = rooms.door("evals", evaluator.name, f"evals.{key}").constants
            known |= {
                f"{evaluator.on}/{before[key]}{score}" for score in constants.get("SCORES", ())
            }
        return known

    def score_prefixes(self) -> dict[str, str]:
        """Key of `evals` -> what stands before its scores: of a second one of the same kind its key, `own_kid`, else nothing."""
        kinds = [evaluator.name for evaluator in self.evals.values()]
        return {
            key: f"{key}_" if kind in kinds[:place] else ""
            for place, (key, kind) in enumerate(zip(self.evals, kinds, strict=True))
        }

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
            if self.keep.ceiling is not None:
                raise Refusal(
                    "a ceiling needs a metric that it is one of",
                    path="keep.ceiling",
                    value=self.keep.ceiling,
                    remedy="set keep.metric",
                )
            return
        known = self.scores()
        if self.keep.metric not in known:
            raise Refusal(
                f"no evaluator gives '{self.keep.metric}'",
                path="keep.metric",
                value=self.keep.metric,
                remedy=nearest(self.keep.metric, known) if known else "add an evaluator to evals",
            )


def _told(node: Any) -> Any:
    """A tree without its nulls, and without what is empty for that."""
    if isinstance(node, list):
        return [_told(item) for item in node]
    if not isinstance(node, dict):
        return node
    told = {key: _told(value) for key, value in node.items() if value is not None}
    return {key: value for key, value in told.items() if value != {}}


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


def _own_keys(keys: list[str]) -> list[str]:
    """What stays beside a part's name when another part takes its place."""
    kinds: dict[str, type[Part]] = {"optim": Optim, "evals": Eval}
    return list(kinds.get(keys[-2] if len(keys) > 1 else "", Part).model_fields)
