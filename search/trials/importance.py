"""Which of what was searched mattered: two estimates that often disagree, so both are shown."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from search.trials.found import Found
from search.tune.draws import QUANTILE

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 5  # finished trials, below which a forest of trees says nothing
TREES_SEEDS = 3


def of(found: Found) -> pd.DataFrame:
    """Path x estimate, shares of 1, the most important first; empty where too few trials ended.

    `fANOVA` (Hutter et al. 2014) is the share of the variance over the whole space that a random forest explains by
    the path alone, the mean over seeds of the forest; `PED-ANOVA` (Watanabe et al. 2023) is how far its values among
    the best tenth differ from those among all. fANOVA leaves out paths that only some trials have.
    """
    import optuna
    import pandas as pd
    from optuna.importance import (
        FanovaImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    if len(found.complete) < FEWEST or found.complete[found.goals[0].metric].nunique() < 2:
        return pd.DataFrame(columns=["fANOVA", "PED-ANOVA"], dtype=float)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ways: list[Any] = ["maximize" if goal.mode == "max" else "minimize" for goal in found.goals]
    study = optuna.create_study(directions=ways)
    study.add_trials(found.trials)
    several = len(found.goals) > 1
    target = (lambda trial: trial.values[0]) if several else None
    forests = [FanovaImportanceEvaluator(seed=seed) for seed in range(TREES_SEEDS)]
    estimates = {}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Optuna's word that an evaluator is experimental; it is pinned
        for name, evaluators in (
            ("fANOVA", forests),
            ("PED-ANOVA", [PedAnovaImportanceEvaluator()]),
        ):
            shares = [
                pd.Series(get_param_importances(study, evaluator=each, target=target))
                for each in evaluators
            ]
            estimates[name] = pd.concat(shares, axis=1).mean(axis=1)
    frame = pd.DataFrame(estimates).fillna(0.0)
    frame.index = frame.index.str.removesuffix(QUANTILE)
    return frame.sort_values("fANOVA", ascending=False, kind="stable")
