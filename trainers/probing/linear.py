"""A linear classifier on frozen features: multinomial logistic regression by L-BFGS, its regularisation chosen apart."""

# N pictures, D features, C classes

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.probing.known import Known, Rows

# Of |w|^2 / 2, added to the mean loss of features whose mean square is 1.
STRENGTHS = tuple(10.0**power for power in range(-8, 2))
MOST_STEPS = 2_000


@dataclass(frozen=True)
class Probe:
    """A classifier as it was fitted; `converged` is False where L-BFGS ran out of steps."""

    centre: NDArray[np.float32]
    scale: float
    model: Any
    strength: float
    converged: bool

    def told(self, known: Known) -> Rows:
        """The class of each picture."""
        found: Rows = self.model.predict(self._scaled(known))
        return found

    def right(self, known: Known) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.told(known) == known.labels
        return found

    def _scaled(self, known: Known) -> NDArray[np.float64]:
        return _scaled(known, self.centre, self.scale)


def fit(known: Known, strength: float) -> Probe:
    """The minimum of the mean cross entropy + strength x |w|^2 / 2; biases are free.

    Features lose their mean and are divided by one number for all, so that no feature that hardly varies is blown up.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    centre = known.features.mean(0)
    scale = float(np.sqrt(np.square(known.features - centre, dtype=np.float64).mean())) or 1.0
    # scikit-learn's C weighs the sum of the losses.
    model = LogisticRegression(C=1 / (strength * len(known)), max_iter=MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged`
        model.fit(_scaled(known, centre, scale), known.labels)
    converged = bool((model.n_iter_ < MOST_STEPS).all())
    return Probe(centre, scale, model, strength, converged)


def tried(
    learn: Known, judge: Known, strengths: Sequence[float] = STRENGTHS
) -> list[tuple[float, float]]:
    """(strength, accuracy on `judge`) of each, fitted on `learn`."""
    return [(each, float(fit(learn, each).right(judge).mean())) for each in strengths]


def best(found: Sequence[tuple[float, float]]) -> float:
    """The strength of the best accuracy, of equal ones the strongest."""
    return max(found, key=lambda pair: (pair[1], pair[0]))[0]


def _scaled(known: Known, centre: NDArray[np.float32], scale: float) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (known.features.astype(np.float64) - centre) / scale
    return found
