"""What a recipe can name as `search.scheduler`: who ends trials early. A function each; they count evaluations.

All but `pbt` are Optuna's pruners, which decide from what the storage holds: nothing is forgotten when a driver dies, and
machines that join a study decide with the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeInt, PositiveInt

from datasets.ranges import Factor, Probability, Quantile

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


def none() -> BasePruner:
    """Every trial runs to its end."""
    from optuna.pruners import NopPruner

    return NopPruner()


def asha(*, grace: PositiveInt = 1, factor: Factor = 3) -> BasePruner:
    """Asynchronous successive halving (arXiv 1810.05934): at `grace`, `grace * factor`, ... evaluations the best 1 / `factor` go on."""
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=grace, reduction_factor=factor)


def hyperband(most: int, *, grace: PositiveInt = 1, factor: Factor = 3) -> BasePruner:
    """Successive halving with several graces side by side (arXiv 1603.06560)."""
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(
        min_resource=grace, max_resource=max(most, grace), reduction_factor=factor
    )


def median(
    *, grace: NonNegativeInt = 1, startup: NonNegativeInt = 5, fewest: PositiveInt = 1
) -> BasePruner:
    """Ends what is worse than the median of earlier trials at the same evaluation, after `startup` whole trials."""
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=startup, n_warmup_steps=grace, n_min_trials=fewest)


def pbt(
    *, interval: PositiveInt = 1, quantile: Quantile = 0.25, resample: Probability = 0.25
) -> BasePruner:
    """Population-based training (arXiv 1711.09846): every `interval` evaluations copies of the best `quantile`, with changed
    settings, go on in place of the worst. A setting is drawn anew with probability `resample`, else moved a little.
    """
    from search.tune.population import Turns

    return Turns(interval, quantile, resample)
