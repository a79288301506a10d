"""`data`: what is in a packed data set, what a run read of it, and which of its labels are wrong."""

from __future__ import annotations

from typing import Annotated

import typer

from verbs.door import Debug, Json, Overrides, RecipePath, RunPath, app, run_at, tell, verb

data = typer.Typer(
    help="What is in a data set, which of its labels are wrong, and what of it a run has read.",
    no_args_is_help=True,
)
app.add_typer(data, name="data")


@verb(
    "python launch.py data card /tmp/digits  # packed by: python launch.py pack digits /tmp/digits",
    group=data,
)
def card(
    url: Annotated[str, typer.Argument(help="a packed data set, local or s3://")],
    out: Annotated[
        str | None, typer.Option("--out", help="folder of card.html and card.json [the set's own]")
    ] = None,
    near: Annotated[
        int, typer.Option(help="bits of 64 in which near duplicates differ at most")
    ] = 6,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="exit with 0 though splits share pictures")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="threads; 0: as many as there are cores")] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw a data set's card: counts, sizes, examples, duplicates; a picture in two splits is an error."""
    from datasets.card.write import write
    from datasets.progress import shown

    with shown("data card") as progress:
        drawn = write(url, out, near=near, threads=workers, progress=progress)
    if not allow_leaks:
        drawn.refuse_leaks(url)
    tell(as_json, {**drawn.found, "page": drawn.page}, f"{drawn.verdict}\n{drawn.page}")


@verb(
    "python launch.py data ledger runs/digits-71f2417a  # of a run trained with data.ledger=true",
    group=data,
)
def ledger(
    run: Annotated[str, typer.Argument(help="a run folder, local or s3://")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prove from a run's ledger that every step used the samples of its order, each once."""
    from cluster.run import Run
    from search.ledger import prove

    proof = prove(Run.open(run))
    if not proof.holds:
        proof.refuse(run)
    tell(as_json, proof.as_dict(), str(proof))


@verb("python launch.py data replay runs/digits-71f2417a --step 17", group=data)
def replay(
    run: RunPath,
    step: Annotated[int, typer.Option(help="as metrics.jsonl counts them, from 1")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a step's batch again, as the model was shown it: its arrays, and its pictures on a sheet."""
    from cluster.replay import write

    told = write(run_at(run), step)
    where = f"step {step} is of phase {told['phase']}, epoch {told['epoch'] + 1}"
    tell(as_json, told, "\n".join([where, told["arrays"], *filter(None, [told.get("pictures")])]))


@verb(
    "python launch.py data clean recipes/digits_plain.yaml --by kfold --out labels.csv", group=data
)
def clean(
    recipe: RecipePath,
    overrides: Overrides = None,
    by: Annotated[
        str | None, typer.Option(help="kfold, loss or neighbours [the recipe's, else kfold]")
    ] = None,
    action: Annotated[
        str | None, typer.Option(help="drop, relabel or downweight what seems wrong [drop]")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="of kfold [5]")] = None,
    share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="of all labels, to call wrong [as many as it seems]"),
    ] = None,
    neighbours: Annotated[
        int | None, typer.Option(min=1, help="that vote on a sample [10]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="whose features tell neighbours: timm:NAME, pretrained")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="a run folder whose features tell neighbours")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", help="the list, .csv or .parquet; its page lies beside")
    ] = None,
    runs: Annotated[
        str | None, typer.Option("--runs", help="folder of run folders [$MANTA_OUT, else runs]")
    ] = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="runs at a time [as many as there is room for]")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find wrong labels among those that a recipe learns from, and list what is to become of each."""
    from cluster.cleaning.command import clean as found

    said = {"by": by, "action": action, "folds": folds, "share": share, "neighbours": neighbours}
    told = found(
        recipe,
        overrides or [],
        {**said, "model": model, "run": run},
        out=out,
        runs=runs,
        parallel=parallel,
        quiet=quiet or as_json,
    )
    tell(as_json, told, f"{told['verdict']}\n{told['list']}\n{told['page']}")
