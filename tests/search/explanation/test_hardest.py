"""Forgetting events, counted by hand and by another way."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from cluster.run import Run
from search import ledger
from search.explanation import hardest


def test_counted_by_hand() -> None:
    #           right, wrong, right, wrong: forgotten twice | never | learnt the second time
    rows = pd.DataFrame(
        {
            "step": [1, 2, 3, 4, 1, 2, 1, 2, 3],
            "sample_id": [7, 7, 7, 7, 3, 3, 5, 5, 5],
            "correct": [True, False, True, False, False, False, False, True, True],
            "loss": [1.0, 2.0, 1.0, 4.0, 5.0, 3.0, 2.0, 1.0, 0.0],
        }
    ).sample(frac=1, random_state=0)
    found = hardest.counted(rows).set_index("id")
    assert found["forgotten"].to_dict() == {3: 0, 5: 0, 7: 2}
    assert found["first"].to_dict() == {3: 0, 5: 2, 7: 1}
    assert found["seen"].to_dict() == {3: 2, 5: 3, 7: 4}
    assert found["loss"].to_dict() == {3: 4.0, 5: 1.0, 7: 2.0}
    table = found.reset_index()
    assert hardest.hardest(table, 2)["id"].tolist() == [3, 7]
    assert hardest.forgotten(table, 9)["id"].tolist() == [7]
    assert hardest.sentence(table).startswith("Of 3 training pictures 1 (33 %) were forgotten")


def test_a_real_ledger_agrees_with_a_loop(of_digits: Run) -> None:
    table = hardest.told(of_digits)
    assert table is not None
    rows = ledger.read(of_digits)
    assert table["seen"].sum() == len(rows)
    for own, group in list(rows.groupby("sample_id"))[:200]:
        times = group.sort_values("step")["correct"].tolist()
        lost = sum(before and not after for before, after in itertools.pairwise(times))
        line = table[table["id"] == own].iloc[0]
        assert line["forgotten"] == lost
        np.testing.assert_allclose(line["loss"], group["loss"].mean(), rtol=1e-5)
    assert table["forgotten"].sum() > 0
