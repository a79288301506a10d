"""The study file: a question, the arms that answer it, seeds, what was claimed before. `Study.load` reads it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
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
from datasets.refusal import Refusal, nearest
from search import numbers
from search.studies.fields import (
    Arms,
    Factors,
    Line,
    Question,
    Recipes,
    Seeds,
    Set,
    Source,
    mapping,
)
from trainers.grammar import NAME, SCORE, change, pairs, read_yaml, refusal
from trainers.part import Frozen


def _each_once(said: list[int]) -> list[int]:
    if len({*said}) < len(said):
        raise ValueError("a seed is said twice: the same run would count twice")
    return said


class Claim(Frozen):
    """A number that somebody printed, of an arm, or of the difference `arm` minus `over`."""

    arm: str
    over: str | None = None
    value: float
    source: Source
    metric: Annotated[str, Field(pattern=SCORE)] | None = Field(
        None, description="default the study's"
    )
    tolerance: NonNegativeFloat | None = Field(
        None, description="how far ours may be from it; default: what our 95 % interval can tell"
    )
    scale: str | None = Field(
        "full", description="the scale whose data are those of the claim; null: any"
    )
    note: Line = Field("", description="what was different where it was printed")


class Before(Frozen):
    """A run that arms start from, once for each seed: `phases.0.init: before.NAME`."""

    recipe: str
    set: Set = {}
    seed: NonNegativeInt | None = Field(None, description="one run for all seeds; default one each")


Befores = dict[str, Annotated[Before, mapping("{recipe: FILE}")]]


class Scale(Frozen):
    """One size of the same study: the real data, or a small set that runs anywhere. What it says of arms and the like replaces the study's."""

    recipe: str | None = Field(None, description="in place of the study's")
    set: Set = Field({}, description="dotted.path: value, of every arm")
    seeds: Seeds | None = None
    ceiling: float | None = None
    arms: Arms | None = None
    factors: Factors | None = None
    vary: list[str] | None = None
    allow: list[str] | None = None
    baseline: str | None = None
    compare: str | None = None
    before: Befores | None = None


class Study(Frozen):
    """One question: what is compared, how often, by which score."""

    name: Annotated[str, Field(pattern=NAME)]
    question: Question
    rows: list[int] = Field([], description="rows of the experiments' list that it serves")
    recipe: Recipes = Field(description="a file; or label: file, which is a factor")
    set: Set = Field({}, description="dotted.path: value, of every arm")
    arms: Arms = Field({}, description="label: {dotted.path: value}")
    factors: Factors = Field(
        {},
        description="dotted.path: values, or name: {label: {dotted.path: value}}; all are crossed",
    )
    vary: list[str] = Field(
        [], description="paths that are the factor, where arms differ in more than one"
    )
    allow: list[str] = Field(
        [], description="other differences that are known: listed beside the table"
    )
    paired: bool = Field(
        True, description="arms share their seeds: order of the data, first weights, draws"
    )
    seeded: list[str] = Field(
        [], description="paths that get the seed too, such as data.noise.seed or data.splits.seed"
    )
    seeds: Seeds = Field(min_length=1)
    metric: Annotated[str, Field(pattern=SCORE)]
    mode: Literal["max", "min"] | None = Field(
        None, description="default: min of losses and errors, max of all else"
    )
    baseline: str | None = Field(
        None, description="the arm others are held against; default the first"
    )
    compare: str = Field(
        "baseline",
        description="all: every pair of arms; a factor: arms that differ in it alone, with its first level",
    )
    margin: NonNegativeFloat = Field(
        0.0, description="differences up to this are of no interest: ties"
    )
    ceiling: float | None = Field(None, description="a better score is an alarm, not a success")
    before: Befores = {}
    scales: dict[str, Scale] = {}
    scale: str | None = Field(None, description="which of scales; default small, else the first")
    seconds: PositiveFloat | None = Field(None, description="no run is begun after these")
    parallel: PositiveInt | None = Field(None, description="runs at a time; default what fits")
    claims: list[Annotated[Claim, mapping("{arm: NAME, value: NUMBER, source: TEXT}")]] = []

    _once = field_validator("seeds")(_each_once)

    @model_validator(mode="after")
    def _compared(self) -> Study:
        said: list[Study | Scale] = [self, *self.scales.values()]
        if isinstance(self.recipe, str) and not any(each.arms or each.factors for each in said):
            raise ValueError("nothing is compared: say arms, factors or several recipes")
        return self

    @classmethod
    def load(cls, path: str, overrides: Sequence[str] = ()) -> Study:
        """A study file, changed by `dotted.path=value`s; any mistake is a `Refusal`."""
        if not store.exists(path):
            raise Refusal("no such study", path=path, remedy="`python launch.py list studies`")
        tree = read_yaml(store.read_bytes(path).decode("utf-8", errors="replace"), path)
        if not isinstance(tree, dict):
            raise Refusal("a study is a mapping of keys to values", path=path, value=tree)
        if "phases" in tree and "question" not in tree:
            train = f"`python launch.py train {path}`"
            raise Refusal("this is a recipe", path=path, value=path, remedy=train)
        tree.setdefault("name", Path(path).stem)
        words = [*pairs(overrides)]
        tree.update((where, value) for where, value in words if where == "scale")
        sized, metric = _scale_in(tree), tree.get("metric")
        for where, value in words:
            head, _, rest = where.partition(".")
            if head not in cls.model_fields:
                raise Refusal(
                    f"a study has no '{head}'",
                    path=where,
                    value=value,
                    remedy=f"of all its runs: set.{where}=... -- of the study itself: "
                    f"{', '.join(cls.model_fields)}",
                )
            # What the scale says has the last word, so there it is changed.
            at = sized if head == "set" or sized.get(head) is not None else tree
            if head in ("set", "factors") and rest:  # whose keys have dots
                at[head] = {**(at.get(head) or {}), rest: value}
            elif head == "before" and _is_set(at, rest):
                name, _, key = rest.partition(".set.")
                run = at["before"][name]
                run["set"] = {**(run.get("set") or {}), key: value}
            else:
                change(at, where, value, lambda keys: ())
        if tree.get("metric") != metric:
            _leave_to(metric, tree, sized, {where for where, _ in words})
        return cls.check(tree)

    @classmethod
    def check(cls, tree: Mapping[str, Any]) -> Study:
        """The study of a plain tree."""
        _check_factors(tree)
        try:
            study = cls.model_validate(tree)
        except ValidationError as error:
            raise refusal(error, cls) from None
        chosen = _chosen(study.scale, study.scales)
        if chosen is not None and chosen not in study.scales:
            raise Refusal(
                f"the study has no scale '{chosen}'",
                path="scale",
                value=chosen,
                remedy=nearest(chosen, study.scales) if study.scales else "leave it out",
            )
        for index, claim in enumerate(study.claims):
            _check_claim(study, claim, f"claims.{index}")
        return study.model_copy(update={"scale": chosen, **_replaced(study, chosen)})

    def plain(self) -> dict[str, Any]:
        """What was said, as a plain tree."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def sized(self) -> Scale:
        """The chosen scale; without any an empty one."""
        return self.scales[self.scale] if self.scale else Scale()

    @property
    def run_seeds(self) -> list[int]:
        return self.sized.seeds or self.seeds

    @property
    def best_possible(self) -> float | None:
        """The declared ceiling of the chosen scale."""
        return self.ceiling if self.sized.ceiling is None else self.sized.ceiling

    @property
    def upwards(self) -> bool:
        return self.mode == "max" if self.mode else not numbers.lower_is_better(self.metric)


def _leave_to(
    metric: Any, tree: dict[str, Any], sized: dict[str, Any], words: Collection[str]
) -> None:
    """Where another metric is asked for, what the file says of its own stays that one's: its claims, and how it is read."""
    claims = tree.get("claims")
    if isinstance(claims, list) and "claims" not in words:
        tree["claims"] = [
            {"metric": metric, **each} if isinstance(each, dict) else each for each in claims
        ]
    for key in ("mode", "margin", "ceiling"):
        if key not in words:
            tree.pop(key, None)
            sized.pop(key, None)


def _check_factors(tree: Mapping[str, Any]) -> None:
    """Refuse factors that are neither a list of values nor labels with what each changes, the study's and its scales'."""
    scales = tree.get("scales")
    said = {"factors": tree.get("factors")}
    for name, scale in scales.items() if isinstance(scales, dict) else ():
        said[f"scales.{name}.factors"] = scale.get("factors") if isinstance(scale, dict) else None
    for place, factors in said.items():
        for name, values in factors.items() if isinstance(factors, dict) else ():
            path, short = f"{place}.{name}", str(name).rpartition(".")[2]
            if not isinstance(values, list | dict):
                raise Refusal(
                    f"a factor is a list of values, or labels with what each changes (it is {values!r})",
                    path=path,
                    value=values,
                    remedy=f"[{values}, ...]",
                )
            if not values:
                raise Refusal(
                    "a factor without values",
                    path=path,
                    value=values,
                    remedy=f"give it values, or leave {short} out",
                )
            for label, changes in values.items() if isinstance(values, dict) else ():
                if not isinstance(changes, dict):
                    raise Refusal(
                        f"'{label}' should be a mapping of dotted paths to values (it is {changes!r})",
                        path=f"{path}.{label}",
                        value=changes,
                        remedy=f"{label}: {{dotted.path: value}}, or a list of values",
                    )


def _is_set(tree: Mapping[str, Any], rest: str) -> bool:
    """Whether `NAME.set.PATH` is of a run before, whose name is known."""
    name, word, _ = rest.partition(".set.")
    return bool(word) and isinstance((tree.get("before") or {}).get(name), dict)


def _chosen(said: str | None, scales: Mapping[str, Any]) -> str | None:
    if said is not None or not scales:
        return said
    return "small" if "small" in scales else next(iter(scales))


def _scale_in(tree: dict[str, Any]) -> dict[str, Any]:
    """The chosen scale of a plain tree; without any, or of one that will be refused, the tree itself."""
    scales = tree.get("scales")
    if not isinstance(scales, dict):
        return tree
    found = scales.get(_chosen(tree.get("scale"), scales))
    return found if isinstance(found, dict) else tree


def _replaced(study: Study, scale: str | None) -> dict[str, Any]:
    """What the scale says in the study's place."""
    if scale is None:
        return {}
    names = ("arms", "factors", "vary", "allow", "baseline", "compare", "before")
    said = {name: getattr(study.scales[scale], name) for name in names}
    return {name: value for name, value in said.items() if value is not None}


def _check_claim(study: Study, claim: Claim, path: str) -> None:
    metric = claim.metric or study.metric
    if "scale" in claim.model_fields_set and claim.scale not in (None, *study.scales):
        raise Refusal(
            f"the study has no scale '{claim.scale}'",
            path=f"{path}.scale",
            value=claim.scale,
            remedy="null: ours is of the data of the claim",
        )
    if claim.over == claim.arm:
        raise Refusal("an arm beside itself", path=f"{path}.over", value=claim.over)
    if numbers.is_fraction(metric) and abs(claim.value) > 1:
        raise Refusal(
            f"{claim.value:g} is no share of 1, as {metric} is",
            path=f"{path}.value",
            value=claim.value,
            remedy=f"write {claim.value / 100:g}",
        )
