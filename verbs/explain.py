"""`explain`: what a run looks at, and where it goes wrong."""

from __future__ import annotations

from typing import Annotated

import typer

from verbs.door import Debug, Json, RunPath, one_of, run_at, tell, verb


@verb("python launch.py explain runs/digits-71f2417a --classes 3,8 --method gradcam++")
def explain(
    run: RunPath,
    on: Annotated[str, typer.Option(help="a split: train, val or test")] = "val",
    checkpoint: Annotated[str, typer.Option(help="best or last")] = "best",
    method: Annotated[
        str,
        typer.Option(help="gradcam, gradcam++, hirescam, xgradcam, layercam or eigengradcam"),
    ] = "gradcam",
    layer: Annotated[
        str | None, typer.Option(help="whose map it is [the last feature map]")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="these alone: a,b [all]")] = None,
    images: Annotated[
        int, typer.Option(min=0, help="pictures with maps, of the right and of the wrong ones each")
    ] = 24,
    embed: Annotated[
        str, typer.Option(help="projections of features: pca, tsne, both, or none")
    ] = "pca,tsne",
    points: Annotated[int, typer.Option(min=8, help="of each split in a projection")] = 500,
    pointing: Annotated[
        int, typer.Option(min=0, help="pictures for the pointing game, where there are boxes")
    ] = 200,
    out: Annotated[
        str | None, typer.Option("--out", help="folder of report.html [RUN/explain]")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a run looks at and where it goes wrong: heat maps, mistakes, confused pairs, features, what was hard. Opening the test split is counted."""
    from search.explanation.explain import explain as explained
    from search.explanation.wanted import Wanted, names

    one_of("--checkpoint", checkpoint, ("best", "last"))
    opened = run_at(run)
    wanted = Wanted(
        on=on,
        checkpoint=checkpoint,
        method=method,
        layer=layer,
        classes=() if classes is None else names(classes, opened.classes, "--classes"),
        images=images,
        embed=() if embed == "none" else names(embed, [], "--embed"),
        points=points,
        pointing=pointing,
        out=out,
    )
    told = explained(opened, wanted)
    lines = [
        f"{told['rows'] - told['wrong']:,} of {told['rows']:,} {on} pictures are classified correctly",
        *told["pairs"][:3],
    ]
    tell(as_json, told, "\n".join([*lines, told["report"]]))
