"""Whether the study in a folder is the one that is about to be run there, and which arms it gets or loses."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from datasets import store
from datasets.refusal import Refusal
from search.studies.folder import STUDY, Folder
from search.studies.study import Study
from trainers.rooms import ROOT

_SHOWN = 6  # arms that are named


def check(folder: Folder, study: Study, *, scored: bool = True) -> None:
    """Refuse a folder that holds another study: another question, score or recipe would take its table's place.

    Without `scored` another score is none: the same runs are looked at by it.
    """
    if not store.exists(store.join(folder.url, STUDY)):
        return
    held = folder.study
    pairs = (
        ("question", held.question, study.question),
        ("metric", held.metric, study.metric),
        ("recipe", _recipe(held), _recipe(study)),
    )
    for name, then, now in pairs:
        if then != now and (scored or name != "metric"):
            raise Refusal(
                f"the folder holds another study: its {name} is '{_short(then)}', not '{_short(now)}'",
                path=folder.url,
                value=_short(then),
                remedy="give this one another name (name=...) or --out; where it is the same study, "
                + (
                    f"run its folder with the change: study {folder.url} {name}=..."
                    if scored
                    else f"look at its folder: study {folder.url} table"
                ),
            )


def other_arms(before: Collection[str], now: Collection[str]) -> str:
    """What to say where the table gets other arms than it had; nothing where it has not, or is the first."""
    gone, new = [arm for arm in before if arm not in now], [arm for arm in now if arm not in before]
    if not before or not (gone or new):
        return ""
    changes = [
        f"{word} {_listed(arms)}" for word, arms in (("without", gone), ("with", new)) if arms
    ]
    stay = "; the runs of arms that left it stay" if gone else ""
    return f"the table now shows other arms than before: {', '.join(changes)}{stay}"


def other_recipes(changed: list[str]) -> str:
    """What to say where arms keep their names and become other runs."""
    if not changed:
        return ""
    return f"of {_listed(changed)} other recipes than before are asked for; the runs of the earlier ones stay"


def _recipe(study: Study) -> Any:
    """Absolute, of the chosen scale."""
    said = study.sized.recipe or study.recipe
    if isinstance(said, str):
        return _absolute(said)
    return {label: _absolute(path) for label, path in said.items()}


def _absolute(path: str) -> str:
    shipped = not store.is_remote(path) and not store.exists(path)
    return str(Path(ROOT, path)) if shipped else store.absolute(path)


def _short(said: Any) -> str:
    text = str(said)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _listed(arms: list[str]) -> str:
    more = [f"{len(arms) - _SHOWN} more"] if len(arms) > _SHOWN else []
    return ", ".join([*arms[:_SHOWN], *more])
