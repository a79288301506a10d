"""A search's folder: `search.yaml`, `search.json`, the journal, `trials/NNNN` and `best/` with ordinary runs."""

from __future__ import annotations

import hashlib
import json
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cluster.run import runs_folder
from datasets import store
from datasets.refusal import Refusal
from trainers import summary
from trainers.recipe import Recipe

RECIPE, STATE = "search.yaml", "search.json"
WISHES = ("pause", "stop", "cancel")
# Keys that say how a search is led, not what is sought. Other known trials (`warm`) help it along as `first` does,
# and a machine that joins need not be able to read them.
BUDGET = ("trials", "seconds", "parallel", "gpus", "retrain", "storage", "first", "warm")


def identity(recipe: Recipe, digest: str) -> tuple[str, dict[str, Any]]:
    """What is sought: the recipe and its data as digits, and the parts of `search:` that are no budget."""
    assert recipe.search
    tree = recipe.search.model_dump(mode="json")
    for key in BUDGET:
        del tree[key]
    return recipe.identity(digest), tree


@dataclass(frozen=True)
class Folder:
    """A search folder, local or s3://."""

    url: str

    @classmethod
    def of(cls, recipe: Recipe, digest: str, out: str | None) -> Folder:
        """Where the search of a recipe is: the same for the same space and data, whatever its budget."""
        text = json.dumps(identity(recipe, digest), sort_keys=True)
        name = f"{recipe.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        return cls(store.join(runs_folder(out), name))

    @classmethod
    def open(cls, url: str) -> Folder:
        """The search at a folder. Raises Refusal when there is none."""
        url = store.absolute(str(url).rstrip("/"))
        if not store.exists(store.join(url, RECIPE)):
            raise Refusal(
                f"no search here (no {RECIPE})",
                path=url,
                value=url,
                remedy="name the folder of a search, or its recipe",
            )
        return cls(url)

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def recipe(self) -> Recipe:
        return Recipe.load(store.join(self.url, RECIPE))

    @property
    def state(self) -> dict[str, Any]:
        """Where the search stands: `status`, `best`, what it cost."""
        return summary.read_json(self.url, STATE)

    def amend(self, **changes: Any) -> None:
        """Set some keys of the state; None removes one."""
        tree = {**self.state, **changes}
        tree = {key: value for key, value in tree.items() if value is not None}
        store.write_bytes(store.join(self.url, STATE), json.dumps(tree, indent=1).encode())

    def check_part(self, join: bool) -> None:
        """Refuse to join in the folder of who began a search, or the reverse: one of them alone chooses the winner."""
        state = self.state
        if state and bool(state.get("joined")) != join:
            part = "has joined a search" if state.get("joined") else "is that of the search itself"
            raise Refusal(
                f"this folder {part}",
                path=self.url,
                value=self.name,
                remedy="give who joins a folder of its own, with --out" if join else "add --join",
            )

    def owner(self) -> str:
        """Who drives the search of this folder, as all machines of a study tell each other apart; kept over restarts."""
        if "owner" not in self.state:
            # Two machines may well have the same path, or the same name.
            self.amend(owner=f"{socket.gethostname()}:{self.url} {uuid.uuid4().hex[:6]}")
        return str(self.state["owner"])

    def trial(self, number: int, seed: int = 0) -> str:
        """The run folder of a trial; of its further seeds, beside it."""
        name = f"{number:04d}" + (f"-seed-{seed}" if seed else "")
        return store.join(self.url, "trials", name)

    def wish(self) -> str | None:
        """What a person wishes: pause, stop or cancel."""
        there = {*store.names(self.url)}
        return next((wish for wish in reversed(WISHES) if wish in there), None)

    def say(self, wish: str) -> None:
        store.write_bytes(store.join(self.url, wish), b"")

    def forget(self) -> None:
        """All wishes."""
        for wish in WISHES:
            store.remove(store.join(self.url, wish))

    def trials(self) -> Iterator[str]:
        """URLs of the trials' run folders."""
        for name in store.names(store.join(self.url, "trials")):
            yield store.join(self.url, "trials", name)
