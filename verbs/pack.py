"""`pack`: pack a source into Arrow shards."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from datasets.refusal import Refusal
from verbs.door import Debug, Json, not_both, tell, verb


@verb("python launch.py pack digits /tmp/digits")
def pack(
    source: Annotated[str, typer.Argument(help="a source, as name or name:path")],
    url: Annotated[str, typer.Argument(help="a folder, local or s3://")],
    given: Annotated[
        list[str] | None,
        typer.Argument(
            help="more arguments of the source, as image=path label=kind", metavar="[NAME=VALUE]..."
        ),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(
            help="share of the rows for validation [.15 where the source has none]; not with --folds"
        ),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(help="share of the rows for the test [.15 where the source has none]"),
    ] = None,
    folds: Annotated[
        int, typer.Option(help="parts in place of train and val; data.fold then says which is val")
    ] = 0,
    seed: Annotated[int, typer.Option(help="decides splits and row order")] = 0,
    raw: Annotated[
        int | None,
        typer.Option(
            min=1, help="store pixels of this side [where all pictures have one size up to 64]"
        ),
    ] = None,
    no_raw: Annotated[bool, typer.Option("--no-raw", help="keep small pictures in files")] = False,
    extra: Annotated[
        list[str] | None,
        typer.Option(help="add altered copies to train: rotate:45, mirror, crop:0.667; repeatable"),
    ] = None,
    tile: Annotated[
        bool | None,
        typer.Option(
            "--tile/--no-tile", help="cut JPEGs into tiles, losslessly [where jpegtran is found]"
        ),
    ] = None,
    longest: Annotated[
        int | None, typer.Option(help="reduce pictures to this longest side, as JPEG")
    ] = None,
    shorter: Annotated[
        int | None, typer.Option(help="reduce pictures to this shorter side, as JPEG")
    ] = None,
    quality: Annotated[int | None, typer.Option(help="of reduced JPEGs [90]")] = None,
    workers: Annotated[int, typer.Option(min=0, help="threads; 0: as many as there are cores")] = 0,
    unchecked: Annotated[
        bool,
        typer.Option("--unchecked", help="do not decode every picture; those that fail end a run"),
    ] = False,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="leave out pictures that do not decode, by name")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="pack on the Ray cluster of RAY_ADDRESS, or a local Ray")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Pack a source into Arrow shards with a manifest. Interrupted, it goes on where it stopped."""
    from datasets import pack as packing
    from datasets.packed import leaks
    from datasets.pictures.prepare import Options
    from datasets.progress import shown
    from trainers.part import SourcePart

    _check_words(url, given or ())
    name, arguments = SourcePart.said(source, given or ())
    not_both("--folds", folds, "--val", val)
    not_both("--raw", raw, "--no-raw", no_raw)
    if quality is not None and longest is None and shorter is None:
        raise Refusal(
            "pictures that are not reduced are not compressed again",
            path="--quality",
            value=quality,
            remedy="leave it out, or give --longest or --shorter",
        )
    shares = {"val": 0.0 if folds else val, "test": test}
    runner = None
    if ray:
        from cluster.packing import on_ray

        arguments, runner = packing.everywhere(arguments), on_ray()
        url = packing.everywhere({"url": url})["url"]
    with shown(f"pack {name}") as progress:
        manifest = packing.pack(
            name,
            arguments,
            url,
            splits={split: share for split, share in shares.items() if share != 0},
            folds=folds,
            seed=seed,
            name=name,
            options=Options(tile, longest, shorter, quality or 90, checked=not unchecked),
            raw=0 if no_raw else raw,
            extras=extra or (),
            workers=workers or os.cpu_count() or 1,
            runner=runner,
            leave_out=leave_out,
            progress=progress,
        )
    rows = {split: found.rows for split, found in manifest.splits.items()}
    stored = manifest.packed.get("pictures", {})
    left_out: Any = manifest.packed.get("left_out", [])
    if left_out and not as_json:
        sys.stderr.write(
            f"left out {len(left_out)} that do not decode: {', '.join(left_out[:3])}\n"
        )
    if no_raw and manifest.codec == "raw":
        sys.stderr.write(
            f"note: '{name}' has pixels in memory, not files: --no-raw changes nothing\n"
        )
    for leak in leaks.of(manifest):
        sys.stderr.write(f"warning: {leak}: training refuses this without data.allow_leaks\n")
    told = {"url": url, "rows": rows, "digest": manifest.digest, "pictures": stored}
    known = manifest.packed.get("leaks", [])
    tell(as_json, {**told, "left_out": left_out, "leaks": known}, url)


def _check_words(url: str, given: Sequence[str]) -> None:
    """Refuse an argument where the folder belongs, which would be made, and words that are a recipe's."""
    if "=" in url.partition("/")[0]:
        raise Refusal(
            "this stands where the folder belongs",
            path="url",
            value=url,
            remedy="say the folder first: pack SOURCE FOLDER NAME=VALUE",
        )
    for word in given:
        if word.startswith("data."):
            raise Refusal(
                "a recipe says this of data that are packed",
                path=word.partition("=")[0],
                value=word.partition("=")[2],
                remedy="use --val, --test, --folds and --seed for splits, a source's own names for the rest",
            )
