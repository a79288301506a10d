"""What a run folder holds, read so that a half-written or damaged one is still read."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml

from cluster.run import Run
from datasets import store
from datasets.refusal import Refusal

if TYPE_CHECKING:
    import pandas as pd


NUMBER, COUNTS = (int, float), "counts"
# What the page relies on; anything else in these places is left out, whoever wrote the file.
KINDS: dict[str, Any] = {
    **dict.fromkeys(("steps", "samples", "seconds", "images_per_second", "wait_seconds"), NUMBER),
    **dict.fromkeys(("fetched_bytes", "fetch_requests", "fetch_retries", "cache_hits"), NUMBER),
    **dict.fromkeys(("parameters", "trainable", "multiply_adds"), NUMBER),
    **dict.fromkeys(("best", "place", "counts", "versions", "input"), dict),
    **dict.fromkeys(("notes", "modules", "classes", "load", "events"), list),
    **dict.fromkeys(("scores", "opened"), COUNTS),
    "commit": str,
}


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind of KINDS; a truth value is no number."""
    if kind == COUNTS:
        return isinstance(value, dict) and all(fits(v, NUMBER) for v in value.values())
    return isinstance(value, kind) and not isinstance(value, bool)


@dataclass
class Evidence:
    """The files of a run, each read once; `problems` says what could not be."""

    run: Run
    problems: list[str] = field(default_factory=list)

    def bytes(self, *names: str) -> bytes | None:
        """A file's content, None where there is none."""
        url = store.join(self.run.url, *names)
        try:
            return store.read_bytes(url) if store.exists(url) else None
        except Refusal as refusal:
            self.problems.append(f"{'/'.join(names)} could not be read: {refusal.error}.")
            return None

    def mapping(self, name: str) -> dict[str, Any]:
        """A JSON object, empty where there is none."""
        data = self.bytes(name)
        if data is None:
            return {}
        try:
            tree = json.loads(data)
        except ValueError:
            self.problems.append(f"{name} is damaged and was left out.")
            return {}
        tree = tree if isinstance(tree, dict) else {}
        odd = [key for key in tree if key in KINDS and not fits(tree[key], KINDS[key])]
        if told := [key for key in odd if tree[key] is not None]:
            self.problems.append(f"{name} holds something unexpected in {', '.join(told)}.")
        return {key: value for key, value in tree.items() if key not in odd}

    @cached_property
    def summary(self) -> dict[str, Any]:
        return self.mapping("summary.json")

    @cached_property
    def env(self) -> dict[str, Any]:
        return self.mapping("env.json")

    @cached_property
    def model(self) -> dict[str, Any]:
        return self.mapping("model.json")

    @cached_property
    def card(self) -> dict[str, Any]:
        return self.mapping("data.json")

    @cached_property
    def recipe_text(self) -> str:
        return (self.bytes("recipe.yaml") or b"").decode("utf-8", errors="replace")

    @cached_property
    def recipe(self) -> dict[str, Any]:
        try:
            tree = yaml.safe_load(self.recipe_text)
        except yaml.YAMLError:
            self.problems.append("recipe.yaml is damaged.")
            return {}
        return tree if isinstance(tree, dict) else {}

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """metrics.jsonl without the lines that a kill cut short."""
        import pandas as pd

        rows, broken = [], 0
        for line in (self.bytes("metrics.jsonl") or b"").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                broken += 1
                continue
            if isinstance(row, Mapping) and fits(row.get("step"), NUMBER) and "split" in row:
                rows.append(row)
        if broken:
            lines = "lines" if broken > 1 else "line"
            self.problems.append(f"{broken} unreadable {lines} of metrics.jsonl left out.")
        return pd.DataFrame(rows, columns=None if rows else ["step", "split"])

    @cached_property
    def rows(self) -> dict[str, int]:
        """Rows of each split: those predicted, else those of the data card."""
        counted = {split: sum(counts.values()) for split, counts in self.counts.items()}
        known: Any = self.card.get("rows")
        return counted | (known if fits(known, COUNTS) else {}) | self._predicted()

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Rows of each class of each split, from the data card."""
        found = self.card.get("counts") or {}
        return {split: counts for split, counts in found.items() if fits(counts, COUNTS) and counts}

    def _predicted(self) -> dict[str, int]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        data = self.bytes("predictions.parquet")
        if data is None:
            return {}
        try:
            splits = pq.read_table(io.BytesIO(data), columns=["split"])["split"]
        except (pa.ArrowException, KeyError, OSError):
            self.problems.append("predictions.parquet is damaged.")
            return {}
        return {row["values"].as_py(): row["counts"].as_py() for row in splits.value_counts()}

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Name without .csv -> table."""
        import pandas as pd

        found = {}
        for name in self.names("tables", ".csv"):
            try:
                data = io.BytesIO(self.bytes("tables", f"{name}.csv") or b"")
                # Names of classes are text: neither "NA" nor "007" may change.
                text = {"class": str, "true": str}
                found[name] = pd.read_csv(data, keep_default_na=False, dtype=text)
            except (ValueError, UnicodeDecodeError):
                self.problems.append(f"tables/{name}.csv is damaged and was left out.")
        return found

    def names(self, folder: str, suffix: str) -> list[str]:
        """Files of a folder by their names without the suffix."""
        entries = store.names(store.join(self.run.url, folder))
        return [name.removesuffix(suffix) for name in entries if name.endswith(suffix)]
