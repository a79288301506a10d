"""What all verbs share: how one is registered, the options that many take, how an answer is told."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from datasets.refusal import Refusal

if TYPE_CHECKING:
    from cluster.run import Run
    from trainers.recipe import Recipe


class Group(TyperGroup):
    """The verbs. A word that is wrong is told in a line, like all that we refuse."""

    def main(
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        run = functools.partial(
            super().main, args, prog_name, complete_var, False, windows_expand_args, **extra
        )
        if not standalone_mode:
            return run()
        try:
            code = run()
        except typer.Abort:
            code = 130
        except Exception as error:
            # typer's own or click's, as its version has it
            context, told = getattr(error, "ctx", None), getattr(error, "format_message", None)
            if told is None:
                raise
            code = 2
            if type(error).__name__ == "NoArgsIsHelpError" and context:
                sys.stderr.write(f"{context.get_help()}\n")
            else:
                where = context.command_path if context else "launch.py"
                said = _worded(" ".join(told().split()).rstrip("."))
                sys.stderr.write(f"error: {said} -- see `{where} --help`\n")
        raise SystemExit(code if isinstance(code, int) else 0)


def _worded(told: str) -> str:
    """What typer found wrong with an option, in our words."""
    for theirs, ours in _WORDS.items():
        told = re.sub(theirs, ours, told)
    return told


_WORDS = {
    r"Input should be a valid integer.*": "should be a whole number",
    r"Input should be a valid number.*": "should be a number",
    r"Input should be greater than or equal to (\S+)": r"should be \1 or more",
    r"Input should be less than or equal to (\S+)": r"should be \1 or less",
}

app = typer.Typer(
    cls=Group,
    help="Train, search and study vision models from one recipe.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipePath = Annotated[str, typer.Argument(help="a recipe (YAML)", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="dotted.path=value ...", metavar="[PATH=VALUE]...")
]
RunPath = Annotated[str, typer.Argument(help="a run folder, local or s3://", metavar="RUN")]
Workers = Annotated[
    str | None,
    typer.Option("--workers", help="Ray tasks at a time, or auto [none: in this process]"),
]
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
            except KeyboardInterrupt:
                sys.stderr.write(
                    "interrupted: the same command goes on from what was saved, or begins again\n"
                )
                raise SystemExit(130) from None
            except BrokenPipeError:  # `| head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise SystemExit(0) from None

        name = function.__name__.rstrip("_")
        return group.command(name=name, epilog=f"Example: {epilog}")(guarded)

    return register


def recipe_or_run(path: str, overrides: list[str] | None) -> tuple[Recipe, Run | None]:
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


def run_at(path: str) -> Run:
    from cluster.run import Run

    return Run.open(path)


def scored(run: Run) -> dict[str, Any]:
    summary = run.summary
    keys = ("steps", "samples", "seconds", "images_per_second", "wait_seconds", "run")
    return {"scores": summary.get("scores", {}), **{key: summary.get(key) for key in keys}}


def not_both(one: str, value: Any, other: str, also: Any) -> None:
    if value and also:
        raise Refusal(f"goes not with {other}", path=one, value=value, remedy="leave one out")


def one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise Refusal(f"'{value}' is none of {', '.join(known)}", path=option, value=value)


def tasks_of(said: str | None) -> Any:
    """Of `--workers` a number, `auto` or None."""
    if said is None or said == "auto":
        return said
    if not said.isdecimal() or int(said) < 1:
        raise Refusal(
            f"'{said}' is no number of workers",
            path="--workers",
            value=said,
            remedy="use 1 or more, or auto",
        )
    return int(said)


def tell(as_json: bool, tree: Any, text: str) -> None:
    print(json.dumps(tree, indent=1, default=str) if as_json else text)


def decimals(value: float) -> str:
    """Four decimals; of what these would call nothing, its first digits."""
    return f"{value:.4f}" if not value or abs(value) >= 5e-5 else f"{value:.2g}"


def draw(*drawn: Any) -> None:
    from rich.console import Console

    from search import terminal

    console = Console(width=terminal.line())
    for each in drawn:
        console.print(each, highlight=False, markup=False, soft_wrap=isinstance(each, str))
