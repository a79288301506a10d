"""`predict`: classify pictures with a checkpoint, or by texts with a CLIP."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from verbs.door import Debug, Json, one_of, run_at, tell, verb


@verb(
    "python launch.py predict runs/digits-71f2417a runs/digits-71f2417a/figures/data_examples.png"
)
def predict(
    run: Annotated[
        str,
        typer.Argument(
            help="a run folder, local or s3://; with --texts also open_clip:ARCHITECTURE",
            metavar="RUN",
        ),
    ],
    images: Annotated[list[str], typer.Argument(help="pictures (PNG, JPEG)")],
    texts: Annotated[
        list[str] | None,
        typer.Option(help="a text that may fit the pictures; say it once for each (CLIP)"),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="of open_clip's architectures: which weights, by name or file"),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="best or last")] = "best",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Classify pictures with a run's checkpoint; with --texts, say which text fits each best, of a CLIP."""
    one_of("--checkpoint", checkpoint, ("best", "last"))
    if texts is not None or pretrained is not None:
        from cluster.texts import Reader, check

        check(texts or [])
        reader = Reader.of(run, pretrained=pretrained, checkpoint=checkpoint)
        found = reader.predict(images, texts or []).to_dict("records")
        tell(as_json, {"predictions": found}, "\n".join(map(_by_text, found)))
        return
    opened = run_at(run)
    rows = (opened.best if checkpoint == "best" else opened.last).predict(images)
    found = rows.to_dict("records")
    lines = "\n".join(f"{r['image']}: {r['prediction']} ({r['probability']:.1%})" for r in found)
    tell(as_json, {"predictions": found}, lines)


def _by_text(row: dict[Any, Any]) -> str:
    each = {key[2:-1]: value for key, value in row.items() if str(key).startswith("p(")}
    lines = [f"  {value:.4e}  {text}" for text, value in each.items()]
    return "\n".join([f"{row['image']}: {row['prediction']} ({row['probability']:.1%})", *lines])
