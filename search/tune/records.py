"""What a search knows of its trials: Optuna's study, whose records are kept right.

A trial that was stopped early is PRUNED, one that failed or came to no number is FAIL with its reason, and one whose
driver died is still RUNNING, and is gone on with under its number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets.refusal import Refusal
from search.tune.draws import Changes, draw, encoded
from trainers.searching import Objective
from trainers.space import Space

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

# Attributes of a trial; `same_as` is the one whose result stands for it.
CHANGES, OWNER, WHY, SECONDS, SAME = "changes", "owner", "why", "seconds", "same_as"


@dataclass(frozen=True)
class Asked:
    """A trial to run: its number in the study, and what it changes in the recipe."""

    number: int
    changes: Changes


@dataclass(frozen=True)
class Best:
    """The trial that won."""

    number: int
    changes: Changes
    values: list[float]


class Records:
    """The trials of one study. `owner` tells those that this search runs from those of others in the same storage."""

    def __init__(self, study: Study, space: Space, tree: Any, owner: str) -> None:
        self.study, self.space, self.tree, self.owner = study, space, tree, owner
        self._running: dict[int, Trial] = {}

    @classmethod
    def open(
        cls,
        name: str,
        storage: BaseStorage,
        goals: Sequence[Objective],
        *,
        sampler: Callable[[int], BaseSampler],
        pruner: BasePruner,
        space: Space,
        tree: Any,
        owner: str,
    ) -> Records:
        """The study of this name, made where there is none; `sampler` is told how many trials there are.

        Raises Refusal where it seeks something else.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        directions: list[Any] = ["maximize" if goal.mode == "max" else "minimize" for goal in goals]
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=directions,
            pruner=pruner,
            load_if_exists=True,
        )
        if [each.name.lower() for each in study.directions] != directions:
            raise Refusal(
                f"the study '{name}' in this storage seeks something else",
                path="search.storage",
                value=name,
                remedy="give the recipe another name, or name another storage",
            )
        study.sampler = sampler(len(study.get_trials(deepcopy=False)))
        study.set_metric_names([goal.metric for goal in goals])
        return cls(study, space, tree, owner)

    def unfinished(self) -> list[Asked]:
        """Trials of ours that run as far as the storage knows: at its opening, those of a driver that died."""
        from optuna.trial import Trial, TrialState

        found = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(OWNER) != self.owner:
                continue
            if CHANGES not in trial.user_attrs:  # it died before it was known what to do
                self.study.tell(trial.number, state=TrialState.FAIL)
                continue
            self._running[trial.number] = Trial(self.study, trial._trial_id)
            found.append(Asked(trial.number, json.loads(trial.user_attrs[CHANGES])))
        return found

    def begun(self) -> int:
        """How many trials there are, of everybody."""
        return len(self.study.get_trials(deepcopy=False)) - self.waiting()

    def waiting(self) -> int:
        """How many points wait to be tried before the sampler's own."""
        from optuna.trial import TrialState

        return len(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Points to be tried first, each once over all restarts."""
        for point in points:
            self.study.enqueue_trial(encoded(self.space, point), skip_if_exists=True)

    def ask(self) -> Asked:
        """The next trial, of the points that wait or the sampler's."""
        trial = self.study.ask()
        trial.set_user_attr(OWNER, self.owner)
        changes = draw(trial, self.space, self.tree)
        trial.set_user_attr(CHANGES, json.dumps(changes))
        self._running[trial.number] = trial
        return Asked(trial.number, changes)

    def known(self, asked: Asked) -> tuple[int, list[float]] | None:
        """(number, values) of a trial of the same point that ran to its end, so that it needs no other run."""
        from optuna.trial import TrialState

        text = json.dumps(asked.changes)
        whole = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        same = (trial for trial in whole if trial.user_attrs.get(CHANGES) == text)
        return next(((trial.number, list(trial.values)) for trial in same), None)

    def report(self, number: int, evaluation: int, value: float) -> bool:
        """An intermediate value; whether the trial should end here."""
        trial = self._running[number]
        if evaluation not in self._frozen(number).intermediate_values:
            trial.report(value, evaluation)
        return bool(trial.should_prune())

    def spent(self, number: int, seconds: float) -> None:
        """The time that the trial's process had for it, of all its starts."""
        trial = self._running[number]
        before = trial.user_attrs.get(SECONDS, 0.0)
        trial.set_user_attr(SECONDS, round(before + seconds, 3))

    def complete(self, number: int, values: Sequence[float], *, same_as: int | None = None) -> None:
        """The trial ran to its end, or that of another of the same point did; a value that is no number fails it."""
        if same_as is not None:
            self._running[number].set_user_attr(SAME, same_as)
        if not all(map(math.isfinite, values)):
            self.fail(number, f"a value is no number: {', '.join(map(str, values))}")
            return
        self._tell(number, "COMPLETE", list(values))

    def prune(self, number: int) -> None:
        """The trial was ended early; its last intermediate value stands for it."""
        self._tell(number, "PRUNED")

    def fail(self, number: int, why: str) -> None:
        self._running[number].set_user_attr(WHY, why)
        self._tell(number, "FAIL")

    def best(self) -> Best | None:
        """The best of the trials that ran to their end (of several goals: one of those that no other beats, by the first)."""
        from optuna.trial import TrialState

        whole = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not whole:
            return None
        several = len(self.study.directions) > 1
        among = self.study.best_trials if several else whole
        sign = 1 if self.study.directions[0].name == "MAXIMIZE" else -1
        found = max(among, key=lambda trial: (sign * trial.values[0], -trial.number))
        return Best(found.number, json.loads(found.user_attrs[CHANGES]), list(found.values))

    def _tell(self, number: int, state: str, values: list[float] | None = None) -> None:
        from optuna.trial import TrialState

        self.study.tell(number, values, state=TrialState[state], skip_if_finished=True)
        del self._running[number]

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study._storage.get_trial(self._running[number]._trial_id)
