"""What a person wants explained, and what of it is refused before any model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.run import Run
from datasets.refusal import Refusal, nearest
from search.explanation import features
from trainers.explaining.maps import METHODS


@dataclass(frozen=True)
class Wanted:
    """`classes` by name (none: all), `images` right and as many wrong ones with maps, `embed` names of projections,
    `points` of each split in them, `pointing` pictures for the pointing game, `out` a folder (none: the run's explain/)."""

    on: str = "val"
    checkpoint: str = "best"
    method: str = "gradcam"
    layer: str | None = None
    classes: tuple[str, ...] = ()
    images: int = 24
    embed: tuple[str, ...] = ("pca", "tsne")
    points: int = 500
    pointing: int = 200
    out: str | None = None

    def check(self, run: Run) -> list[int]:
        """The chosen classes by number; all of them where none are named.

        Raises Refusal for a method, a projection, a class or a split that is not known.
        """
        if self.method not in METHODS:
            raise Refusal(
                f"'{self.method}' is none of {', '.join(METHODS)}",
                path="--method",
                value=self.method,
                remedy=nearest(self.method, METHODS),
            )
        features.check(self.embed)
        splits = run.json("data.json").get("rows")
        if isinstance(splits, dict) and not splits.get(self.on):
            raise Refusal(
                f"the data have no split '{self.on}'",
                path="--on",
                value=self.on,
                remedy=nearest(self.on, [name for name, rows in splits.items() if rows]),
            )
        return self._numbers(run.classes)

    def _numbers(self, known: list[str]) -> list[int]:
        for name in self.classes:
            if name not in known:
                raise Refusal(
                    f"the run knows no class '{name}'",
                    path="--classes",
                    value=name,
                    remedy=nearest(name, known, f"it knows {len(known)}: see data.json"),
                )
        return sorted({known.index(name) for name in self.classes}) or list(range(len(known)))


def names(words: str, known: list[str], option: str) -> tuple[str, ...]:
    """`a,b` as two names; a comma may be within a name of a class. Raises Refusal, on `option`, for none."""
    if not words.strip(" ,"):
        raise Refusal(
            "no name is said", path=option, value=words, remedy="name some, or leave it out"
        )
    if words in known:
        return (words,)
    return tuple(word.strip() for word in words.split(",") if word.strip())
