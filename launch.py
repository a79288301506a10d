"""Manta's one door: it parses, the rooms do the work.

    python launch.py train recipes/digits.yaml model.width=64

Nothing heavy is imported here: `--help`, `list` and the refusal of a misspelt recipe come without torch or ray.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

try:
    import typer
except ModuleNotFoundError:
    sys.stderr.write(
        "error: Manta's packages are not installed for this Python -- run `make install`, "
        "then use .venv/bin/python\n"
    )
    raise SystemExit(2) from None

from datasets.refusal import Refusal

if TYPE_CHECKING:
    from cluster.run import Run
    from trainers.recipe import Recipe

app = typer.Typer(
    help="Train, search and study vision models from one recipe.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

data = typer.Typer(help="What is in a packed data set.", no_args_is_help=True)
app.add_typer(data, name="data")

RecipePath = Annotated[str, typer.Argument(help="a recipe (YAML)", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="dotted.path=value ...", metavar="[PATH=VALUE]...")
]
RunPath = Annotated[str, typer.Argument(help="a run folder, local or s3://", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else")]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
Out = Annotated[
    str | None, typer.Option("--out", help="folder of run folders [$MANTA_OUT, else runs]")
]


def verb(
    epilog: str, group: typer.Typer = app
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a verb, of `group`; its refusals become one line on stderr (or one JSON object) and exit code 2."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except Refusal as refusal:
                if kwargs.get("debug"):
                    raise
                if kwargs.get("as_json"):
                    print(json.dumps(refusal.as_dict(), default=str))
                sys.stderr.write(f"error: {refusal}\n")
                raise SystemExit(2) from None
            except BrokenPipeError:  # `| head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise SystemExit(0) from None

        name = function.__name__.rstrip("_")
        return group.command(name=name, epilog=f"Example: {epilog}")(guarded)

    return register


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

    name, arguments = SourcePart.said(source, given or ())
    _not_both("--folds", folds, "--val", val)
    _not_both("--raw", raw, "--no-raw", no_raw)
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
    _tell(as_json, {**told, "left_out": left_out, "leaks": known}, url)


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
    _tell(as_json, {**drawn.found, "page": drawn.page}, f"{drawn.verdict}\n{drawn.page}")


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
    _tell(as_json, proof.as_dict(), str(proof))


@verb("python launch.py data replay runs/digits-71f2417a --step 17", group=data)
def replay(
    run: RunPath,
    step: Annotated[int, typer.Option(help="as metrics.jsonl counts them, from 1")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a step's batch again, as the model was shown it: its arrays, and its pictures on a sheet."""
    from cluster.replay import write

    told = write(_run(run), step)
    where = f"step {step} is of phase {told['phase']}, epoch {told['epoch'] + 1}"
    _tell(as_json, told, "\n".join([where, told["arrays"], *filter(None, [told.get("pictures")])]))


@verb("python launch.py train recipes/digits.yaml model.width=64 data.batch=128 seed=3")
def train(
    recipe: Annotated[
        str, typer.Argument(help="a recipe (YAML), or a run folder to go on with", metavar="RECIPE")
    ],
    overrides: Overrides = None,
    out: Out = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="rename the old run folder and start anew")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe, or go on where its run was interrupted; ends with the path of a report."""
    loaded, parent = _recipe_or_run(recipe, overrides)
    from cluster.run import run

    if parent is not None and out is None:
        out = parent.url.rsplit("/", 1)[0]
    done: Run = run(loaded, out=out, fresh=fresh, quiet=quiet or as_json, parent=parent)
    summary = done.summary
    from search.report import write

    page = write(done.url)
    if summary.get("status") == "stopped":
        sys.stderr.write(
            f"stopped at step {summary['steps']}; the same command goes on from there\n"
        )
        if as_json:
            _tell(True, _scored(done), "")
        raise SystemExit(130)
    _tell(as_json, _scored(done), f"{_best_line(summary)}{page}")


@verb("python launch.py submit -- train recipes/digits.yaml --out s3://bucket/runs")
def submit(
    words: Annotated[
        list[str] | None, typer.Argument(help="what the job runs, behind --", metavar="-- VERB ...")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="the cluster's dashboard [$RAY_API_SERVER_ADDRESS, else 127.0.0.1:8265]"),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, or NAME as it is here, for the job; no secrets; repeatable"),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(help="the head's interpreter [the path of this one, else python on its PATH]"),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="do not follow the job")] = False,
    attach: Annotated[str | None, typer.Option(metavar="JOB", help="follow a job again")] = None,
    stop: Annotated[str | None, typer.Option(metavar="JOB", help="end a job")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a verb as a job of a Ray cluster: ships the checkout, follows the logs, ends with the job's exit code."""
    from cluster import submit as jobs
    from cluster.shipping import cargo
    from trainers.rooms import ROOT

    _not_both("--attach", attach, "--stop", stop)
    _not_both("--attach" if attach else "--stop", attach or stop, "a verb", words)
    if stop:
        status = jobs.Jobs(address).stop(stop)
        _tell(as_json, {"job": stop, "status": status}, f"{stop} {status.lower()}")
        return
    job = attach
    if job is None:
        shipped = cargo(ROOT)
        planned, variables = jobs.planned(words or (), shipped), jobs.variables(env or ())
    there = jobs.Jobs(address)
    if job is None:
        sys.stderr.write(f"shipping {shipped} to {there.address}\n")
        job = there.submit(planned, shipped, variables, python=python)
    again = f"`submit --attach {job}` follows it, `submit --stop {job}` ends it"
    sys.stderr.write(f"job {job}; {again}\n")
    if detach:
        _tell(as_json, {"job": job, "status": there.status(job)}, job)
        return
    try:
        for text in there.follow(job):
            (sys.stderr if as_json else sys.stdout).write(text)
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write(f"\nthe job goes on; {again}\n")
        raise SystemExit(130) from None
    code = there.exit_code(job)
    if as_json:
        _tell(True, {"job": job, "status": there.status(job), "exit_code": code}, "")
    if code:
        sys.stderr.write(f"job {job} {there.status(job).lower()}: {there.why(job)}\n")
        raise SystemExit(code)


@verb("python launch.py evaluate runs/digits-71f2417a --on test")
def evaluate(
    run: RunPath,
    checkpoint: Annotated[str, typer.Option(help="best or last")] = "best",
    on: Annotated[str, typer.Option(help="a split: train, val or test")] = "val",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a checkpoint of a run on a split. Opening the test split is counted in the run's summary."""
    from cluster.evaluate import evaluate as score

    _one_of("--checkpoint", checkpoint, ("best", "last"))
    scores = score(_run(run), checkpoint=checkpoint, split=on)
    lines = "\n".join(f"{name:28} {value:.4f}" for name, value in scores.items())
    _tell(as_json, {**_scored(_run(run)), "scores": scores}, lines)


@verb(
    "python launch.py predict runs/digits-71f2417a runs/digits-71f2417a/figures/data_examples.png"
)
def predict(
    run: RunPath,
    images: Annotated[list[str], typer.Argument(help="pictures (PNG, JPEG)")],
    checkpoint: Annotated[str, typer.Option(help="best or last")] = "best",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Classify pictures with a run's checkpoint."""
    _one_of("--checkpoint", checkpoint, ("best", "last"))
    opened = _run(run)
    rows = (opened.best if checkpoint == "best" else opened.last).predict(images)
    found = rows.to_dict("records")
    lines = "\n".join(f"{r['image']}: {r['prediction']} ({r['probability']:.1%})" for r in found)
    _tell(as_json, {"predictions": found}, lines)


@verb("python launch.py describe recipes/digits.yaml model=resnet18")
def describe(
    recipe: RecipePath,
    overrides: Overrides = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="instead of the data's classes")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Count a model's parameters and multiply-adds and list its layers, without building it."""
    from search.listing import layers

    loaded, _ = _recipe_or_run(recipe, overrides)
    from cluster.describe import describe as count

    found = count(loaded, classes=classes)
    if as_json:
        _tell(True, found, "")
    else:
        _print(layers(found))


@verb("python launch.py results --since 7d --sort val/accuracy --where model=small_cnn")
def results(
    runs: Annotated[list[str] | None, typer.Argument(help="run folders to compare")] = None,
    out: Out = None,
    since: Annotated[str | None, typer.Option(help="7d, 12h or a date")] = None,
    sort: Annotated[str | None, typer.Option(help="a column, such as val/accuracy")] = None,
    where: Annotated[list[str] | None, typer.Option(help="dotted.path=value")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List and filter runs; given two or more, compare their recipes, scores and curves."""
    from search import listing

    width = shutil.get_terminal_size((100, 24)).columns
    tree: Any
    if runs:
        tree, drawn = listing.compared(runs, width=width)
    else:
        tree, one = listing.listed(out=out, since=since, sort=sort, where=where or [], width=width)
        drawn = [one]
    if as_json:
        _tell(True, tree, "")
    else:
        _print(*drawn)


@verb("python launch.py report runs/digits-71f2417a")
def report(run: RunPath, as_json: Json = False, debug: Debug = False) -> None:
    """Draw report.html anew from a run folder alone."""
    from search.report import write

    page = write(_run(run).url)
    _tell(as_json, {"report": page}, page)


@verb("python launch.py list models")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="recipes, models, tasks, evals, optimizers, schedules, sources, frames, transforms, orders, noises or mixers"
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="the recipes' JSON Schema, for editors")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List recipes and the parts that they can name."""
    from trainers import catalogue

    if schema:
        print(json.dumps(catalogue.schema(), indent=1))
        return
    rows = catalogue.rows(kind)
    lines = "\n".join(
        f"{row['kind']:11} {row['name']:20} {row['path']:34} {row['doc']}" for row in rows
    )
    _tell(as_json, rows, lines)


@verb("python launch.py doctor recipes/digits.yaml")
def doctor(
    recipe: Annotated[
        str | None, typer.Argument(help="a recipe (YAML)", metavar="[RECIPE]")
    ] = None,
    overrides: Overrides = None,
    out: Out = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check this machine, its storage and a recipe before anything is paid for."""
    loaded = _recipe_or_run(recipe, overrides)[0] if recipe else None
    from cluster.preflight import examine

    checks = examine(loaded, out)
    lines = "\n".join(f"{'ok ' if c.ok else 'BAD'}  {c.name:12} {c.found}" for c in checks)
    _tell(as_json, {"checks": [c.as_dict() for c in checks]}, lines)
    if not all(check.ok for check in checks):
        raise SystemExit(2)


def _recipe_or_run(path: str, overrides: list[str] | None) -> tuple[Recipe, Run | None]:
    from trainers.recipe import Recipe

    inside = f"{path.rstrip('/')}/recipe.yaml"
    if path.endswith((".yaml", ".yml")):
        return Recipe.load(path, overrides or ()), None
    from datasets import store

    if not store.exists(inside):
        raise Refusal(
            "neither a recipe nor a run folder",
            path=path,
            value=path,
            remedy="`python launch.py list recipes` and `results` show what there is",
        )
    from cluster.run import Run

    return Recipe.load(inside, overrides or ()), Run.open(path)


def _run(path: str) -> Run:
    from cluster.run import Run

    return Run.open(path)


def _not_both(one: str, value: Any, other: str, also: Any) -> None:
    if value and also:
        raise Refusal(f"goes not with {other}", path=one, value=value, remedy="leave one out")


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise Refusal(f"'{value}' is none of {', '.join(known)}", path=option, value=value)


def _scored(run: Run) -> dict[str, Any]:
    summary = run.summary
    keys = ("steps", "samples", "seconds", "images_per_second", "wait_seconds", "run")
    return {"scores": summary.get("scores", {}), **{key: summary.get(key) for key in keys}}


def _best_line(summary: dict[str, Any]) -> str:
    scores = {k: v for k, v in summary.get("scores", {}).items() if k.startswith("test/")}
    wanted = [key for n, key in enumerate(scores) if n == 0 or key.endswith(("/loss", "f1"))]
    shown = ", ".join(f"{name} {scores[name]:.4f}" for name in wanted)
    return f"{shown}\n" if shown else ""


def _tell(as_json: bool, tree: Any, text: str) -> None:
    print(json.dumps(tree, indent=1, default=str) if as_json else text)


def _print(*drawn: Any) -> None:
    from rich.console import Console

    console = Console(width=shutil.get_terminal_size((100, 24)).columns)
    for each in drawn:
        console.print(each, highlight=False, markup=False, soft_wrap=isinstance(each, str))


if __name__ == "__main__":
    app()
