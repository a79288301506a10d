"""What was hard to learn, by a run's ledger: the highest losses, and what was learnt and forgotten (arXiv 1812.05159)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cluster.run import Run
from search import ledger
from trainers import ledger as ledgers


def told(run: Run) -> pd.DataFrame | None:
    """A row a sample of train, by `id`; None where the run kept no ledger, or its task tells nothing of samples.

    `seen` times it was shown, `right` of them it was classified correctly; `forgotten` times it was wrong after it had been
    right; `first` is when it was right first (1 is the first time, 0 never); `loss` is the mean over all times.
    """
    if not ledgers.parts(run.url):
        return None
    rows = ledger.read(run).dropna(subset=["loss", "correct"])
    return counted(rows) if len(rows) else None


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """From a ledger's rows (step, sample_id, loss, correct)."""
    rows = rows.sort_values(["sample_id", "step"], kind="stable")
    ids, correct = rows["sample_id"].to_numpy(), rows["correct"].to_numpy(dtype=bool)
    same = np.r_[False, ids[1:] == ids[:-1]]
    fell = same & ~correct & np.r_[False, correct[:-1]]
    time = rows.groupby("sample_id").cumcount().to_numpy() + 1
    table = pd.DataFrame(
        {
            "id": ids,
            "loss": rows["loss"].to_numpy(dtype=np.float64),
            "right": correct,
            "forgotten": fell,
            "first": np.where(correct, time, np.inf),
        }
    )
    found = table.groupby("id", as_index=False).agg(
        seen=("right", "size"),
        right=("right", "sum"),
        forgotten=("forgotten", "sum"),
        first=("first", "min"),
        loss=("loss", "mean"),
    )
    found["first"] = found["first"].replace(np.inf, 0).astype(int)
    return found


def hardest(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """By mean loss, the highest first."""
    return table.sort_values(["loss", "id"], ascending=[False, True]).head(most)


def forgotten(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """Those that were forgotten, the most often first; of as often forgotten the one of the higher loss first."""
    some = table[table["forgotten"] > 0]
    return some.sort_values(["forgotten", "loss", "id"], ascending=[False, False, True]).head(most)


def sentence(table: pd.DataFrame) -> str:
    """How much of the training data was forgotten, or never learnt."""
    rows = len(table)
    lost, never = int((table["forgotten"] > 0).sum()), int((table["right"] == 0).sum())
    return (
        f"Of {rows:,} training pictures {lost:,} ({100 * lost / rows:.0f} %) were forgotten at least once, "
        f"{never:,} were never classified correctly; each was shown {table['seen'].median():.0f} times."
    )
