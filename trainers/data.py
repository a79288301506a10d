"""What a recipe says of its data: which samples, in which batches, how they are shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from datasets.ranges import Probability
from trainers.cleaned import Cleaned
from trainers.part import (
    FramePart,
    Frozen,
    MixerPart,
    NoisePart,
    OrderPart,
    SourcePart,
    TransformPart,
)

ClassName = Annotated[
    str, BeforeValidator(lambda given: str(given) if type(given) is int else given)
]


class View(Frozen):
    """How pictures are shown to the model while it learns."""

    frame: FramePart | None = Field(
        None,
        description="the part that is shown, of pictures in files; default random_resized_crop",
    )
    transforms: list[TransformPart] = []
    views: PositiveInt | None = Field(
        None,
        description="how often each picture is shown, with draws of its own: image, image_2, ...; default 1",
        le=16,
    )
    repeat: PositiveInt | None = Field(
        None,
        description="each picture so often in its batch, with draws of its own; data.batch counts pictures",
        le=16,
    )
    mix: list[MixerPart] | None = Field(
        None, description="cutmix, mixup: of several one is drawn a batch"
    )

    @model_validator(mode="after")
    def _one_use(self) -> View:
        if self.views and self.repeat:
            raise ValueError("say either views, for a task that compares them, or repeat")
        return self

    @field_validator("mix", "transforms", mode="before")
    @classmethod
    def _one_is_a_list(cls, given: Any) -> Any:
        return given if isinstance(given, list | None) else [given]


class EvalView(Frozen):
    """How pictures are shown when the model is judged."""

    frame: FramePart | None = Field(None, description="of pictures in files; default center")


class Splits(Frozen):
    """Stratified shares of a source without official splits, drawn by their own seed."""

    val: Probability | None = Field(
        None, description="default .15 where the source has none; not where there are folds"
    )
    test: Probability | None = Field(None, description="default .15 where the source has none")
    folds: int | None = Field(
        None, ge=2, description="parts in place of train and val; data.fold is the one that is val"
    )
    seed: NonNegativeInt = 0


class Subset(Frozen):
    """Some of the samples; draws are nested, so fewer shots are among more of the same seed."""

    classes: list[ClassName] | None = Field(
        None, min_length=1, description="in all splits; labels are numbered in this order"
    )
    shots: PositiveInt | None = Field(None, description="samples a class to learn from")
    fraction: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="of the samples to learn from, classes in proportion"
    )
    imbalance: Annotated[float, Field(ge=1)] | None = Field(
        None,
        description="samples of the first class to learn from, for one of the last; others lie between",
    )
    seed: NonNegativeInt = 0

    @property
    def fewer(self) -> dict[str, Any]:
        """What makes the samples to learn from fewer."""
        said = {"shots": self.shots, "fraction": self.fraction, "imbalance": self.imbalance}
        return {name: value for name, value in said.items() if value is not None}

    @model_validator(mode="after")
    def _one_kind(self) -> Subset:
        if len(self.fewer) > 1:
            raise ValueError(f"say either {' or '.join(self.fewer)}")
        if self.classes is None and not self.fewer:
            raise ValueError("say classes, shots, fraction or imbalance")
        return self


class HeldOut(Frozen):
    """A part of the samples to learn from, to be judged on."""

    fold: NonNegativeInt = Field(description="of the folds, from 0: this one is test")
    folds: int = Field(5, ge=2)
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _one_of_them(self) -> HeldOut:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} is none of {self.folds} folds")
        return self


class Ingredient(Frozen):
    """A set of a mixture, and its weight beside the others."""

    source: SourcePart | None = None
    url: str | None = None
    weight: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _one_origin(self) -> Ingredient:
        if (self.source is None) == (self.url is None):
            raise ValueError("say either source or url")
        return self


class Data(Frozen):
    """Which samples, in which batches."""

    source: SourcePart | None = None
    url: str | None = None
    mixture: list[Ingredient] | None = Field(
        None, min_length=2, description="several sets in every batch; the first one is judged on"
    )
    batch: PositiveInt = Field(64, description="global: over all workers")
    lanes: PositiveInt | None = Field(None, description="default min(batch, 64); most workers")
    tail: Literal["drop", "keep"] = "drop"
    order: OrderPart | None = Field(None, description="which samples fill a batch; default shuffle")
    subset: Subset | None = None
    noise: NoisePart | None = Field(None, description="wrong labels, to learn from")
    held_out: HeldOut | None = Field(
        None,
        description="a fold of train is the test split, in place of the set's own; its labels have the noise",
    )
    cleaned: Cleaned | None = Field(
        None,
        description="wrong labels dropped, corrected or weighed down: a list, or how to find them",
    )
    class_weights: Literal["balanced"] | None = Field(
        None, description="rare classes count more in the loss"
    )
    ledger: bool = Field(False, description="write down which sample was used when")
    train: View = View()
    eval: EvalView = EvalView()
    splits: Splits = Splits()
    fold: NonNegativeInt | None = Field(
        None, description="of a set in folds: this one is val, the others are train"
    )
    learn_from: list[str] | None = Field(
        None,
        min_length=1,
        description="splits that are learnt from together, such as [train, extra]; default train",
    )
    extra: list[str] | None = Field(
        None,
        description="altered copies of train, made when a source is packed: rotate:45, mirror, crop:0.667",
    )
    leave_out: bool | None = Field(
        None, description="pictures that do not decode: left out of the set, else a refusal"
    )
    allow_leaks: list[Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+$")]] = Field(
        [], description="pairs of splits, as train/test, that may share pictures"
    )
    size: PositiveInt | None = Field(None, description="pixels a side given to the model", le=4096)
    mean: list[float] | None = None
    std: list[PositiveFloat] | None = None

    @property
    def cleans_first(self) -> bool:
        """Whether wrong labels are to be found before a run begins."""
        return bool(self.cleaned and self.cleaned.by)

    @model_validator(mode="after")
    def _one_origin(self) -> Data:
        if sum(one is not None for one in (self.source, self.url, self.mixture)) != 1:
            raise ValueError(
                "say source (packed once into the cache), url (packed already) or mixture (of several)"
            )
        if self.mixture and self.order:
            raise ValueError("a mixture has an order of its own: leave out order")
        if self.mixture and self.tail == "keep":
            raise ValueError("a mixture has full batches alone: use tail=drop")
        cut = self.splits.val is not None or self.splits.test is not None or self.splits.folds
        if self.url is not None and cut:
            raise ValueError("splits are cut from a source; what url names is packed already")
        for name in ("leave_out", "extra"):
            if self.url is not None and getattr(self, name) is not None:
                raise ValueError(f"{name} is for a source; what url names is packed already")
        if self.learn_from and "test" in self.learn_from:
            raise ValueError("the test split is never learnt from: leave it out of learn_from")
        return self

    @model_validator(mode="after")
    def _one_part(self) -> Data:
        if self.held_out and self.cleaned and self.cleaned.by:
            raise ValueError(
                "finding wrong labels holds parts of train out itself: leave held_out out"
            )
        return self

    @model_validator(mode="after")
    def _known_fold(self) -> Data:
        # A url's folds are known when it is opened.
        if self.fold is not None and self.source and self.fold >= (self.splits.folds or 0):
            raise ValueError(f"fold {self.fold} is none of splits.folds={self.splits.folds}")
        return self


class PhaseData(Frozen):
    """What a phase reads differently."""

    batch: PositiveInt | None = None
    lanes: PositiveInt | None = None
    tail: Literal["drop", "keep"] | None = None
    order: OrderPart | None = None
    train: View | None = None
