"""A run as people hold it: `run(recipe)` makes one, `Run.open(url)` finds one again."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from datasets import store
from datasets.refusal import Refusal
from trainers import summary
from trainers.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

    from cluster.saved import Saved


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run folder, local or s3://, read when asked."""

    url: str

    @classmethod
    def open(cls, url: str) -> Run:
        """The run at a folder; a `Refusal` when there is none."""
        url = store.absolute(str(url).rstrip("/"))
        if not store.exists(store.join(url, "recipe.yaml")):
            raise Refusal(
                "no run here (no recipe.yaml)",
                path=url,
                value=url,
                remedy="`python launch.py results` lists the runs",
            )
        return cls(url)

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder, or an empty dict where it is not written yet."""
        return summary.read_json(self.url, name)

    def metrics(self) -> pd.DataFrame:
        """metrics.jsonl as a table, one row per (step, split)."""
        import pandas as pd

        url = store.join(self.url, "metrics.jsonl")
        data = store.read_bytes(url) if store.exists(url) else b""
        whole = data[: data.rfind(b"\n") + 1]  # a running writer may be in the middle of a line
        if not whole:
            return pd.DataFrame(columns=["step", "split"])
        rows = []
        for line in whole.splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                logger.warning("%s: a line that is no JSON is left out", url)
        return pd.DataFrame([row for row in rows if isinstance(row, dict) and "step" in row])

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe.load(store.join(self.url, "recipe.yaml"))

    @property
    def summary(self) -> dict[str, Any]:
        return {**summary.read(self.url), "run": self.url}

    @property
    def scores(self) -> dict[str, float]:
        """Final scores, `{"test/accuracy": ...}`; empty until the run has finished."""
        return dict(self.summary.get("scores", {}))

    @property
    def finished(self) -> bool:
        return self.summary.get("status") == "finished"

    @property
    def best(self) -> Saved:
        """The checkpoint chosen by the kept validation metric; the last one where none is kept."""
        from cluster.saved import Saved

        return Saved.best(self)

    @property
    def last(self) -> Saved:
        """The newest checkpoint."""
        from cluster.saved import Saved

        return Saved.last(self)

    @property
    def classes(self) -> list[str]:
        return list(self.json("data.json").get("classes", []))

    @property
    def transform(self) -> Any:
        """A picture (PIL, array or path) -> the model's input (channels, size, size), float32."""
        return self.best.transform

    def predict(self, images: Sequence[Any]) -> pd.DataFrame:
        """The best checkpoint's prediction for pictures (PIL, arrays or paths): one row each."""
        return self.best.predict(images)


def run(
    recipe: Recipe,
    *,
    out: str | None = None,
    fresh: bool = False,
    quiet: bool = True,
    parent: Run | None = None,
) -> Run:
    """Train a recipe where `scale` says, resuming its run folder if there is one.

    `out` is the folder of run folders (default `$MANTA_OUT`, then `runs`). A finished run is returned as it is; `fresh`
    renames its folder and starts anew. `parent` is a run whose last checkpoint a new folder goes on from.
    """
    from cluster.train import train

    return Run(
        train(recipe, out=out, fresh=fresh, quiet=quiet, parent=parent.url if parent else None)
    )


def runs_folder(out: str | None) -> str:
    """The folder of run folders, absolute: what was said, else $MANTA_OUT, else `runs`."""
    out = out or os.environ.get("MANTA_OUT") or "runs"
    return out if store.is_remote(out) else os.path.abspath(store.path_of(out).expanduser())
