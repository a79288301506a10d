"""`retrieve`: pictures by likeness: an index of features, what is nearest in it, how good it is."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from datasets.refusal import Refusal
from verbs.door import Debug, Json, Overrides, Workers, app, draw, one_of, tasks_of, tell, verb

retrieve = typer.Typer(
    help="Pictures by likeness: an index, what is nearest in it, and how good it is.",
    no_args_is_help=True,
)
app.add_typer(retrieve, name="retrieve")

IndexPath = Annotated[str, typer.Argument(help="a folder that `retrieve index` made")]


@verb(
    "python launch.py retrieve index timm:resnet50 imagefolder:/my/photos model.pretrained=true data.size=224 --out indexes/photos",
    group=retrieve,
)
def index(
    what: Annotated[
        str, typer.Argument(help="a run folder, or a model as recipes name it", metavar="WHAT")
    ],
    data: Annotated[str, typer.Argument(help="a packed data set, or a source", metavar="DATA")],
    overrides: Overrides = None,
    out: Annotated[
        str | None,
        typer.Option("--out", help="folder of the index [$MANTA_OUT, else runs: /index-NAME-HASH]"),
    ] = None,
    on: Annotated[str, typer.Option(help="a split: train, val or test; or all")] = "all",
    subset: Annotated[
        int | None, typer.Option(help="so many pictures of each split, classes in proportion")
    ] = None,
    metric: Annotated[str, typer.Option(help="cosine or l2")] = "cosine",
    approximate: Annotated[
        str | None, typer.Option(help="ivf or hnsw: faster than exact in an index of millions")
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Embed pictures by a model without its head, and write an index of them."""
    one_of("--metric", metric, ("cosine", "l2"))
    if approximate is not None:
        one_of("--approximate", approximate, ("ivf", "hnsw"))
    tasks = tasks_of(workers)
    from cluster.retrieval.index import index as make
    from datasets.progress import shown

    made = make(
        what,
        data,
        overrides or (),
        out=out,
        on=on,
        subset=subset,
        metric=metric,  # type: ignore[arg-type]
        approximate=approximate,  # type: ignore[arg-type]
        workers=tasks,
        shown=shown,
    )
    for note in made.notes:
        sys.stderr.write(f"note: {note}\n")
    found = made.index
    told = {"index": found.url, "rows": len(found), "features": found.features.shape[1]}
    line = f"{len(found):,} pictures, {told['features']} features each, {metric}"
    again = "" if made.new else " (there already)"
    tell(as_json, {**told, **found.about, "new": made.new}, f"{line}{again}\n{found.url}")


@verb("python launch.py retrieve query indexes/photos query.jpg --out sheet.png", group=retrieve)
def query(
    index: IndexPath,
    images: Annotated[list[str] | None, typer.Argument(help="pictures (JPEG, PNG)")] = None,
    picture: Annotated[
        list[int] | None, typer.Option("--id", help="a picture of the index, by its id; repeatable")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="of --id, where splits have the same ids")
    ] = None,
    k: Annotated[int, typer.Option("--k", help="how many to find")] = 5,
    out: Annotated[str | None, typer.Option("--out", help="a PNG: the sheet of results")] = None,
    model: Annotated[
        str | None, typer.Option(help="where the run of the index lies now, if it was moved")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the pictures of an index that are nearest to others: a table, JSON, and a sheet."""
    from cluster.retrieval.index import alike
    from cluster.retrieval.index import query as ask
    from datasets import figures, store
    from search.retrieved import found
    from trainers.retrieval.answers import sheet
    from trainers.retrieval.index import Index

    if not images and not picture:
        raise Refusal("nothing is asked for", path="IMAGE", remedy="name pictures, or --id")
    opened = Index.open(index)
    answers = [alike(opened, one, split=split, k=k) for one in picture or ()]
    answers += ask(opened, images, k=k, model=model) if images else []
    if out:
        store.write_bytes(out, figures.png(sheet(opened, answers)))
    if as_json:
        told: dict[str, Any] = {"answers": [answer.told(opened) for answer in answers]}
        tell(True, {**told, "sheet": out}, "")
    else:
        draw(*found(opened, answers), *([out] if out else []))


@verb(
    "python launch.py retrieve score indexes/photos --queries test --against train", group=retrieve
)
def score(
    index: IndexPath,
    ks: Annotated[str, typer.Option("--k", help="how many are looked at, as 1,5,10")] = "1,5,10",
    queries: Annotated[
        str | None, typer.Option(help="the split whose pictures ask [all of the index]")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="the split among which they ask [all of the index]")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Let each picture of an index ask for its class among the others: precision, recall, hits at k, mean average precision."""
    numbers = ks.replace(" ", "").split(",")
    if not all(number.isdecimal() for number in numbers):
        raise Refusal("is no list of numbers", path="--k", value=ks, remedy="write --k 1,5,10")
    from datasets.progress import shown
    from search.retrieved import scored
    from trainers.retrieval.index import Index
    from trainers.retrieval.scores import Ranking
    from trainers.retrieval.scores import score as judge

    opened = Index.open(index)
    ranking = Ranking.of(opened, queries, against)
    with shown("score", unit="queries") as progress:
        told = judge(ranking, [*map(int, numbers)], opened.classes, progress=progress)
    if as_json:
        tell(True, {"index": opened.url, **told}, "")
    else:
        draw(*scored(told))
