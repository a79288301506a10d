"""From a source to a packed data set. The same arguments give the same digest on any machine."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets import shards, store
from datasets.packed.manifest import Json, Manifest
from datasets.packing import encoded, splits, writing
from datasets.packing import raw as raws
from datasets.packing.extras import Extra, extended
from datasets.packing.jobs import Runner
from datasets.packing.raw import Raw
from datasets.pictures.prepare import Options
from datasets.progress import Progress
from datasets.refusal import Refusal, nearest
from datasets.source import Source

Arguments: TypeAlias = Mapping[str, Json]
AS_THEY_ARE = Options()
SOURCES = Path(__file__).parent / "sources"
_PLACES = ("path", "root", "url")


def known_sources() -> list[str]:
    """Names of the files in `datasets/sources/`."""
    return sorted(path.stem for path in SOURCES.glob("*.py") if not path.stem.startswith("_"))


def load_source(source_name: str, args: Arguments) -> Source:
    """Calls the door of `datasets/sources/<source_name>.py`.

    Raises Refusal for an unknown source or argument, with the nearest known one.
    """
    door, complete = door_of(source_name, args)
    return door(**complete)


def everywhere(args: Arguments) -> dict[str, Any]:
    """Local paths among a source's arguments made absolute: workers and tasks have other working directories."""
    return {
        name: store.absolute(value)
        if name in _PLACES and isinstance(value, str) and value
        else value
        for name, value in args.items()
    }


def pack(
    source_name: str,
    args: Arguments,
    url: str,
    *,
    splits: Mapping[str, float | None],
    seed: int,
    folds: int = 0,
    name: str = "",
    options: Options = AS_THEY_ARE,
    raw: int | None = None,
    extras: Sequence[str] = (),
    workers: int = 1,
    runner: Runner | None = None,
    leave_out: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Packs a source to `url`: its official splits, the others cut from "train" by fractions.

    A fraction of None is .15 where the source has no such split of its own. Images are cut class
    by class, tables at random; `seed` decides the cut, the order of rows and what `extras`
    (packing/extras.py) draw. With `folds`, train and val are dealt out into as many parts. Pictures
    in files are stored by `options`, several shards at a time by `workers` threads or by `runner`;
    as pixels where `raw` gives their side, or where all have one small size (never with 0). Those
    that do not decode are a Refusal unless they are left out. Raises Refusal for a bad source,
    argument or fraction, and where `url` cannot be written.
    """
    altered = Extra.all_of(extras)
    door, complete = door_of(source_name, args)
    writing.refuse_occupied(url)
    source = door(**complete)
    fractions = _fractions(source, splits)
    rows = _cut(source, fractions, folds, seed)
    packed: dict[str, Json] = {
        "source": source_name,
        "args": complete,
        "fractions": dict(fractions),
        "seed": seed,
        "official_splits": [*sorted(source.splits or ())],
        **({"folds": folds} if folds else {}),
        **({"extra": [*extras]} if extras else {}),
    }
    if raw or source.pictures is None:
        _refuse_runner(runner, source_name)
    how = _How(workers, leave_out, progress)
    if made := _pixels(source, rows, raw, options, how):
        source, rows = made.source, dict(made.rows)
        packed |= {"pictures": made.says, "left_out": [*made.left_out]}
    if altered:
        source, rows = extended(source, rows, altered, seed)
    told: Any = {"name": name or source_name, "packed": packed, "seed": seed}
    if source.pictures is not None:
        return encoded.write(url, source, rows, options=options, runner=runner, **told, **vars(how))
    _refuse_runner(runner, source_name)
    return shards.write(
        url,
        dict.fromkeys(rows, source.columns),
        rows=rows,
        kind=source.kind,
        shape=source.shape,
        classes=source.classes,
        **told,
    )


@dataclass(frozen=True)
class _How:
    """Who decodes pictures, what becomes of those that cannot be, and who is told."""

    workers: int
    leave_out: bool
    progress: Progress | None


def _pixels(
    source: Source,
    rows: Mapping[str, NDArray[np.int64]],
    side: int | None,
    options: Options,
    how: _How,
) -> Raw | None:
    """Pictures in files made pixels, where that was asked for or all have one small size; else None."""
    if not side:
        plain = source.pictures is not None and side is None and options == AS_THEY_ARE
        return raws.of_one_size(source, rows, **vars(how)) if plain else None
    if source.pictures is None or options != AS_THEY_ARE:
        raise Refusal(
            "pictures that are stored as pixels are neither tiled nor reduced as files"
            if source.pictures
            else f"source '{source.name}' has no pictures in files",
            path="--raw",
            value=side,
            remedy="leave out either --raw or --tile, --longest, --shorter, --quality"
            if source.pictures
            else "leave out --raw",
        )
    return raws.of_side(source, rows, side, **vars(how))


def _refuse_runner(runner: Runner | None, source_name: str) -> None:
    if runner is not None:
        raise Refusal(
            f"'{source_name}' is packed from memory: there is nothing for other machines to do",
            path="--ray",
            value=source_name,
            remedy="leave out --ray, or keep pictures in files with --no-raw",
        )


def door_of(source_name: str, args: Arguments) -> tuple[Callable[..., Source], dict[str, Json]]:
    """The `build` of a source, and the arguments with its defaults, as JSON holds them."""
    if source_name not in known_sources():
        raise Refusal(
            f"there is no source '{source_name}'",
            path="data.source",
            value=source_name,
            remedy=nearest(source_name, known_sources()),
        )
    door = importlib.import_module(f"datasets.sources.{source_name}").build
    parameters = inspect.signature(door).parameters
    for name, value in args.items():
        if name not in parameters:
            raise Refusal(
                f"source '{source_name}' has no argument '{name}'",
                path=f"data.source.{name}",
                value=value,
                remedy=nearest(name, parameters),
            )
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return door, {**defaults, **args}


def _fractions(source: Source, asked: Mapping[str, float | None]) -> dict[str, float]:
    """The share of each split that is to be cut; what nobody gave a size the source may bring itself."""
    own = source.splits or {}
    return {
        name: splits.SHARE if share is None else share
        for name, share in asked.items()
        if share is not None or name not in own
    }


def _cut(
    source: Source, fractions: Mapping[str, float], folds: int, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Row numbers of each split; official splits stay as they are, but that val is dealt out with train into folds."""
    official = dict(source.splits or {splits.REST: np.arange(source.num_rows)})
    for name in fractions:
        if name in official and name != splits.REST:
            raise Refusal(
                f"source '{source.name}' brings its own split '{name}'",
                path=f"data.splits.{name}",
                value=fractions[name],
                remedy="leave it out of the fractions",
            )
    rows = official.pop(splits.REST)
    if folds:
        rows = np.sort(np.concatenate([rows, official.pop("val", rows[:0])]))
    labelled = source.kind == "image" and "label" in source.columns
    labels = source.columns["label"][rows] if labelled else np.zeros(len(rows), np.int64)
    cut = splits.stratified(labels, fractions, seed)
    if folds:
        rest = cut.pop(splits.REST)
        dealt = splits.folded(labels[rest], folds, seed)
        cut |= {name: rest[part] for name, part in dealt.items()}
    return {**{name: rows[part] for name, part in cut.items()}, **official}
