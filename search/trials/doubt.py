"""How far to trust the best of many: against the runner-up, against its own seeds, against having been chosen."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.run import Run
from datasets import order, store
from datasets.refusal import Refusal
from search.results import labels

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from search.trials.found import Found
    from trainers.searching import Search

ACCURACY = "val/accuracy"
DRAWS, CHUNK = 1_000, 100  # of the bootstrap
BOOTSTRAP = order.key("bootstrap")
MOST_TRIALS = 500  # the best of them, whose predictions are read
CHANCE = 0.05


@dataclass(frozen=True)
class Versus:
    """Two trials on the same rows: how many only the one, only the other gets right."""

    best: int
    other: int
    only_best: int
    only_other: int
    rows: int

    @property
    def p(self) -> float:
        """Of a difference at least as large by chance: McNemar's exact test (two-sided binomial)."""
        from scipy.stats import binomtest

        apart = self.only_best + self.only_other
        return float(binomtest(self.only_best, apart).pvalue) if apart else 1.0


@dataclass(frozen=True)
class Optimism:
    """What the best's score owes to its having been the best of `trials` on these `rows`."""

    score: float
    corrected: float
    low: float
    high: float
    trials: int
    rows: int

    @property
    def gain(self) -> float:
        return self.score - self.corrected


@dataclass(frozen=True)
class Doubt:
    """What there is to say; None where the trials kept no predictions, or too few ended."""

    runner_up: Versus | None
    alike: int  # trials that cannot be told from the best, the best not counted
    compared: int
    optimism: Optimism | None


def of(found: Found) -> Doubt:
    """Read the predictions of the finished trials and weigh them. Only accuracy has rows that are right or wrong."""
    best = found.complete
    if found.goals[0].metric != ACCURACY or len(found.goals) > 1 or _search(found).seeds > 1:
        return Doubt(None, 0, 0, None)
    hits = right({int(n): found.run(int(n)) for n in best.index[:MOST_TRIALS]})
    # Without the best there is nobody to compare with; a bootstrap needs a row to draw and one to leave.
    if hits is None or min(hits.shape) < 2 or hits.columns[0] != best.index[0]:
        return Doubt(None, 0, 0, None)
    first, *others = hits.columns
    versus = [_versus(hits, int(first), int(other)) for other in others]
    alike = sum(each.p > CHANCE for each in versus)
    runner_up = versus[0] if others[0] == best.index[1] else None
    # Members of a population are copies of each other, chosen on these rows all along.
    alone = _search(found).scheduler.name != "pbt"
    return Doubt(runner_up, alike, len(versus), optimism(hits) if alone else None)


def right(runs: Mapping[int, Run], split: str = "val") -> pd.DataFrame | None:
    """Row of the split x run: whether it was predicted right; runs that kept no predictions are left out."""
    import pandas as pd

    found = {number: hits_of(run, split) for number, run in runs.items()}
    columns = {
        number: pd.Series(hits, index=ids)
        for number, (ids, hits) in ((n, each) for n, each in found.items() if each)
    }
    if not columns:
        return None
    return pd.DataFrame(columns).dropna().astype(bool)


def hits_of(run: Run, split: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(ids in order, whether each row was predicted right), both (N,); None where the run kept no predictions."""
    import numpy as np
    import pyarrow.parquet as pq

    url = store.join(run.url, "predictions.parquet")
    try:
        if not store.exists(url):
            return None
        names = ["split", "id", "label", "prediction"]
        # Not `read_table`, which takes six times as long for so small a file.
        table = pq.ParquetFile(io.BytesIO(store.read_bytes(url))).read(names, use_threads=False)
        # Not `to_numpy`, nor pyarrow.compute, which import pandas: half a second, for a table that may need none.
        splits = table.column("split").combine_chunks().dictionary_encode()
        number = {name: place for place, name in enumerate(splits.dictionary.to_pylist())}
        own = np.from_dlpack(splits.indices) == number.get(split, -1)
        parts = {n: np.from_dlpack(table.column(n).combine_chunks())[own] for n in names[1:]}
    except (Refusal, OSError, ValueError, TypeError, KeyError):
        return None  # one damaged folder hides no other
    ids, first = np.unique(parts["id"], return_index=True)
    hits = (parts["label"] == parts["prediction"])[first]
    return (ids, hits) if len(ids) else None


def against_first(runs: Sequence[Run]) -> pd.DataFrame:
    """Each further run against the first on the same validation rows: how many only the one gets right, and McNemar's p.

    Runs that kept no predictions are left out; nothing stands there without those of the first.
    """
    import pandas as pd

    hits = right(dict(enumerate(runs)))
    names, rows = [*labels(runs)], {}
    for number in range(1, len(runs)):
        if hits is not None and {0, number} <= {*hits.columns}:
            versus = _versus(hits, 0, number)
            rows[names[number]] = [versus.only_best, versus.only_other, versus.rows, versus.p]
    columns = [f"only {names[0]}" if names else "", "only this run", "rows", "p"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def optimism(hits: pd.DataFrame, *, draws: int = DRAWS) -> Optimism:
    """Bootstrap the rows: choose the best on those drawn, score it on those that were not (Tsamardinos et al. 2018, BBC-CV).

    `hits` is row x trial, the first column the chosen one.
    """
    import numpy as np

    values = hits.to_numpy(dtype=np.float32)
    rows = len(values)
    scores: list[np.ndarray] = []
    for start in range(0, draws, CHUNK):
        drawn = _drawn(rows, range(start, min(start + CHUNK, draws)))
        chosen = (drawn @ values).argmax(axis=1)
        left = drawn == 0
        right_ones, num_left = (left * values[:, chosen].T).sum(axis=1), left.sum(axis=1)
        # Of few rows all may have been drawn, and none is left to score on.
        scores.append(right_ones[num_left > 0] / num_left[num_left > 0])
    found = np.concatenate(scores)
    low, high = np.quantile(found, [0.025, 0.975])
    return Optimism(
        score=float(values[:, 0].mean()),
        corrected=float(found.mean()),
        low=float(low),
        high=float(high),
        trials=values.shape[1],
        rows=rows,
    )


def of_seeds(found: Found) -> tuple[int, float, float | None] | None:
    """(runs, mean, sd) of the winner's goal over the seeds that it was trained with anew."""
    told = (found.state.get("scores") or {}).get(found.goals[0].metric)
    if not isinstance(told, Mapping) or not told.get("n"):
        return None
    return int(told["n"]), float(told["mean"]), told.get("sd")


def _drawn(rows: int, draws: range) -> np.ndarray:
    """How often each row is drawn, draw x row, float32: `rows` times with replacement."""
    import numpy as np

    taken = np.stack([order.integers(BOOTSTRAP, range(rows), draw, rows) for draw in draws])
    counted = [np.bincount(line, minlength=rows) for line in taken]
    return np.stack(counted).astype(np.float32)


def _versus(hits: pd.DataFrame, best: int, other: int) -> Versus:
    a, b = hits[best], hits[other]
    return Versus(best, other, int((a & ~b).sum()), int((b & ~a).sum()), len(hits))


def _search(found: Found) -> Search:
    assert found.recipe.search
    return found.recipe.search
