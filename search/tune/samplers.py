"""What a recipe can name as `search.sampler`: who proposes the next point. A function each, of Optuna's.

`seed` is another one at each start of a search, or the same points would be drawn again; `lasting_seed` never changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def tpe(
    seed: int,
    *,
    startup: NonNegativeInt = 10,
    candidates: PositiveInt = 24,
    multivariate: bool = True,
) -> BaseSampler:
    """Tree-structured Parzen estimators over all dimensions together (arXiv 2304.11127); the first `startup` are random."""
    from optuna.samplers import TPESampler

    # Of trials that still run it is assumed that they are bad, or neighbours would be tried at once.
    return TPESampler(
        seed=seed,
        n_startup_trials=startup,
        n_ei_candidates=candidates,
        multivariate=multivariate,
        group=multivariate,
        constant_liar=True,
    )


def random(seed: int) -> BaseSampler:
    """Every point by itself."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def grid(seed: int) -> BaseSampler:
    """Every combination of a finite space once, in order (proposed by points.py; nothing is drawn)."""
    return random(seed)


def qmc(lasting_seed: int, *, sequence: Literal["sobol", "halton"] = "sobol") -> BaseSampler:
    """A low-discrepancy sequence, which fills the space more evenly than chance."""
    from optuna.samplers import QMCSampler

    return QMCSampler(
        seed=lasting_seed, qmc_type=sequence, scramble=True, warn_independent_sampling=False
    )


def gp(seed: int, *, startup: NonNegativeInt = 10) -> BaseSampler:
    """A Gaussian process and its expected improvement: few, expensive trials."""
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)


def cmaes(
    seed: int, *, startup: NonNegativeInt = 1, sigma: PositiveFloat | None = None
) -> BaseSampler:
    """Covariance matrix adaptation (arXiv 1604.00772): numbers alone, many trials; what is no number is drawn at random."""
    from optuna.samplers import CmaEsSampler

    return CmaEsSampler(
        seed=seed, n_startup_trials=startup, sigma0=sigma, warn_independent_sampling=False
    )


def nsga2(seed: int, *, population: PositiveInt = 20) -> BaseSampler:
    """Several objectives at once by a genetic algorithm (NSGA-II, Deb et al. 2002)."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed, population_size=population)
