"""What a job runs: the words behind `submit --`, checked here, and the variables that it is given."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.shipping import Cargo
from datasets import store
from datasets.refusal import Refusal

VERBS = ("train", "search", "study", "evaluate", "retrieve", "pack", "doctor")
_HERE = (
    "--pause",
    "--resume",
    "--stop",
    "--cancel",
    "--from-wandb",
    "--name",
    "--dashboard",
    "--port",
)
_SECRET = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE|(^|_)(PAT|AUTH|CREDS?)($|_)",
    re.I,
)
# What only secrets begin with: AWS's, GitHub's, Hugging Face's, Slack's, OpenAI's and private keys.
_KEY = re.compile(
    r"^(AKIA|ASIA)[0-9A-Z]{12,}|^(gh[pousr]_|github_pat_|hf_|xox[a-z]-|sk-)|PRIVATE KEY"
)


def planned(words: Sequence[str], shipped: Cargo) -> list[str]:
    """The words as the job says them. Raises Refusal for what would only fail there, or leave nothing behind."""
    if not words or words[0] not in VERBS:
        raise Refusal(
            f"'{words[0]}' is no verb of a job" if words else "there is nothing to run",
            path="submit",
            value=words[0] if words else None,
            remedy=f"write -- and one of {', '.join(VERBS)} behind it",
        )
    verb, *rest = words
    if verb == "train":
        rest = _trained(rest, shipped)
    if verb == "search":
        rest = _searched(rest, shipped)
    if verb == "study":
        rest = _studied(rest, shipped)
    if verb == "evaluate":
        _check_run(rest[0] if rest else "")
    if verb == "retrieve":
        rest = _retrieved(rest)
    if verb == "doctor":
        rest = _examined(rest, shipped)
    return [verb, *rest]


def _trained(words: Sequence[str], shipped: Cargo) -> list[str]:
    place, changes, options = _parts(words)
    if not place:
        raise Refusal(
            "no recipe is named", path="train", remedy="submit -- train recipes/digits.yaml"
        )
    place, options = _inside(place, changes, shipped), _placed(options)
    # A run that is gone on with stays where it is.
    _check_out(options.get("--out") or ("" if _is_recipe(place) else place))
    return [place, *changes, *_said(options)]


def _searched(words: Sequence[str], shipped: Cargo) -> list[str]:
    """Of a search, or of who joins one: a database's URL may stand before the recipe then."""
    place, changes, options = _parts(words)
    if wish := next((name for name in _HERE if name in options), None):
        raise Refusal(
            "needs no job: whoever sees the search's folder may say it",
            path="search",
            value=wish,
            remedy=f"run `python launch.py search {' '.join(words)}` here",
        )
    url = []
    if "--join" in options and "://" in place and changes and not _is_recipe(place):
        url, (place, *changes) = [place], changes
    if not place:
        raise Refusal(
            "no recipe is named",
            path="search",
            remedy="submit -- search recipes/digits_search.yaml",
        )
    place, options = _inside(place, changes, shipped), _placed(options)
    _check_out(options.get("--out") or ("" if _is_recipe(place) else place))
    return [*url, place, *changes, *_said(options)]


def _studied(words: Sequence[str], shipped: Cargo) -> list[str]:
    """Of a study's file, which the room of studies has read before; words and options stay as they are."""
    place = next((word for word in words if not word.startswith("-")), "")
    if not place:
        raise Refusal(
            "no study is named", path="study", remedy="submit -- study studies/digits_lr.yaml"
        )
    if looks := [word for word in words if word in ("status", "table", "diff")]:
        raise Refusal(
            "needs no job: whoever sees the study's folder may look",
            path="study",
            value=looks[0],
            remedy=f"run `python launch.py study {' '.join(words)}` here",
        )
    said = [*words]
    if _is_recipe(place):
        said[said.index(place)] = _shipped(place, "the study", shipped)
    _, _, options = _parts(words)
    out = options.get("--out") or os.environ.get("MANTA_OUT", "")
    if out and "--out" not in options:
        said += ["--out", out]
    _check_out(out or ("" if _is_recipe(place) else place))
    return said


def _retrieved(words: Sequence[str]) -> list[str]:
    """Of an index that is made; asking one needs no job."""
    looks, *rest = words or ("",)
    if looks != "index":
        raise Refusal(
            "needs no job: whoever sees the index may ask it",
            path="retrieve",
            value=looks,
            remedy=f"run `python launch.py retrieve {' '.join(words)}` here",
        )
    out, base = "--out" in rest, os.environ.get("MANTA_OUT", "")
    _check_out(_parts(rest)[2].get("--out") or base)
    return [*words] if out or not base else [*words, "--out", base]


def _check_run(run: str) -> None:
    """Refuse a run's folder that is named from where only this process is."""
    if not run or run.startswith("-"):
        return  # `evaluate` says what it wants
    if not store.is_remote(run) and not os.path.isabs(run):
        raise Refusal(
            f"the run '{run}' would be looked for in the job's own directory",
            path="evaluate",
            value=run,
            remedy="say s3://bucket/runs/..., or a folder that all nodes share",
        )


def _examined(words: Sequence[str], shipped: Cargo) -> list[str]:
    """Of `doctor`, which needs neither a recipe nor a place for runs."""
    place, changes, options = _parts(words)
    options = _placed(options)
    if "--out" in options:
        _check_out(options["--out"])
    recipe = [_inside(place, changes, shipped)] if place else []
    return [*recipe, *changes, *_said(options)]


def _is_recipe(place: str) -> bool:
    return place.endswith((".yaml", ".yml"))


def _inside(place: str, changes: Sequence[str], shipped: Cargo) -> str:
    """The recipe's path in what is shipped; a run's folder as it is."""
    from trainers.recipe import Recipe

    if not _is_recipe(place):
        return place
    Recipe.load(place, [*changes])  # a mistake costs half a second here, and minutes there
    return _shipped(place, "the recipe", shipped)


def _shipped(place: str, what: str, shipped: Cargo) -> str:
    """A file's path in what is shipped."""
    inside = os.path.relpath(Path(place).resolve(), shipped.root.resolve())
    if inside not in shipped.files:
        raise Refusal(
            f"{what} would not be shipped",
            path=place,
            value=inside,
            remedy="put it into the checkout, where git does not ignore it",
        )
    return inside


def _placed(options: dict[str, str]) -> dict[str, str]:
    out = os.environ.get("MANTA_OUT", "")
    return {**options, "--out": out} if out and "--out" not in options else options


def _check_out(out: str) -> None:
    if not store.is_remote(out) and not os.path.isabs(out):
        raise Refusal(
            f"the run folder '{out or 'runs'}' would lie in the job's own directory, and go with it",
            path="--out",
            value=out,
            remedy="say --out s3://bucket/runs, or a folder that all nodes share (or MANTA_OUT)",
        )


def _said(options: Mapping[str, str]) -> list[str]:
    return [
        word for name, value in options.items() for word in ((name, value) if value else (name,))
    ]


def _parts(words: Sequence[str]) -> tuple[str, list[str], dict[str, str]]:
    """(recipe or run, or "", overrides, options) of the words behind a verb."""
    plain, options, left = [], {}, iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if name == "--out":
            options[name] = value if equals else next(left, "")
        elif word.startswith("--"):
            options[word] = ""
        else:
            plain.append(word)
    return plain[0] if plain else "", plain[1:], options


def variables(said: Sequence[str]) -> dict[str, str]:
    """Of `NAME=VALUE`s, and of `NAME`s as they are here, those that the job gets.

    Anybody who may list jobs can read them, so secrets are refused: those belong into the nodes' own environment, or into
    a role.
    """
    return dict(map(_variable, said))


def _variable(said: str) -> tuple[str, str]:
    name, equals, value = said.partition("=")
    if not re.fullmatch(r"[A-Za-z_]\w*", name) or not (equals or name in os.environ):
        raise Refusal(
            f"'{said}' names no variable that is set here",
            path="--env",
            value=name,
            remedy="write --env NAME=VALUE",
        )
    found = value if equals else os.environ[name]
    if _SECRET.search(name) or _KEY.search(found):
        raise Refusal(
            f"{name} looks like a secret, and whoever may list jobs could read it",
            path="--env",
            value=name,
            remedy="put secrets into the environment of the nodes, or give them a role",
        )
    return name, found
