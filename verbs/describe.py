"""`describe`: what a model is made of."""

from __future__ import annotations

from typing import Annotated

import typer

from verbs.door import Debug, Json, Overrides, RecipePath, draw, recipe_or_run, tell, verb


@verb("python launch.py describe recipes/digits.yaml model=resnet18")
def describe(
    recipe: RecipePath,
    overrides: Overrides = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="instead of the data's classes")
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="samples in the shapes of the layers' outputs")
    ] = 1,
    all_layers: Annotated[
        bool, typer.Option("--layers", help="every layer, repeated blocks too")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Count a model's parameters and multiply-adds and list its layers, without building it."""
    from search.layers import layers

    loaded, _ = recipe_or_run(recipe, overrides)
    from cluster.describe import describe as count

    found = count(loaded, classes=classes, rows=batch)
    if as_json:
        tell(True, found, "")
    else:
        draw(layers(found, fold=not all_layers))
