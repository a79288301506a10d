"""Which of what was searched mattered: two estimates that often disagree, so both are shown."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from search.trials.found import Found
from search.tune.draws import QUANTILE

if TYPE_CHECKING:
    import pandas as pd
    from optuna.study import Study

FEWEST = 5  # finished trials, below which a forest of trees says nothing


def of(found: Found) -> pd.DataFrame:
    """Path x estimate of the first goal, the most important first; empty where too few trials ended.

    `fANOVA` (Hutter et al. 2014) is the share of the variance over the whole space that a random forest explains by
    the path alone; NaN of paths that only some trials have. `PED-ANOVA` (Watanabe
    et al. 2023) is how far its values among the best tenth differ from those among all, as shares of 1.
    """
    import pandas as pd
    from optuna.importance import (
        FanovaImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    if len(found.complete) < FEWEST or found.complete[found.goals[0].metric].nunique() < 2:
        return pd.DataFrame(columns=["fANOVA", "PED-ANOVA"], dtype=float)
    study = _of_first_goal(found)
    with warnings.catch_warnings():
        # Optuna's word that an evaluator is experimental; it is pinned.
        warnings.simplefilter("ignore")
        alone = FanovaImportanceEvaluator(seed=0).evaluate(study)
        apart = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    estimates = {"fANOVA": alone, "PED-ANOVA": apart}
    frame = pd.DataFrame({name: pd.Series(each, dtype=float) for name, each in estimates.items()})
    frame.index = pd.Index([str(name).removesuffix(QUANTILE) for name in frame.index])
    return frame.sort_values(["fANOVA", "PED-ANOVA"], ascending=False, kind="stable")


def _of_first_goal(found: Found) -> Study:
    """The trials that ran to their end, as a study of one goal: of several, PED-ANOVA would seek the least."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    goal, ended = found.goals[0], {*found.complete.index}
    study = optuna.create_study(direction="maximize" if goal.mode == "max" else "minimize")
    for trial in found.trials:
        if trial.number in ended:
            made = optuna.trial.create_trial(
                params=trial.params, distributions=trial.distributions, value=trial.values[0]
            )
            study.add_trial(made)
    return study
