"""What a search knows of its trials: Optuna's study, whose records are kept right.

A trial that was stopped early is PRUNED, one that failed or came to no number is FAIL with its reason, and one whose
driver died is still RUNNING, and is gone on with under its number; or it is lost, when others saw the driver silent for
long: FAIL, and its point is tried once more. Trials that another search made are known, and never counted as ours.
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
ELSEWHERE = "elsewhere"  # of one that another search made: which one it is there
LOST = "lost"  # of one whose point waits once more, so that it does not count
EVALUATIONS = "evaluations"  # of one with several goals, which reports no intermediate values
PARENT = "parent"  # of a copy: the trial from which it goes on, so that it does not count
AGAIN = "again"  # of one that tries a lost point: whose it was
BUDGET = "budget"  # of the study: how many trials may be begun, by everybody together


@dataclass(frozen=True)
class Asked:
    """A trial to run: its number in the study, and what it changes in the recipe."""

    number: int
    changes: Changes
    parent: int | None = None  # whose checkpoint it begins at


@dataclass(frozen=True)
class Best:
    """The trial that won."""

    number: int
    changes: Changes
    values: list[float]


class Records:
    """The trials of one study. `owner` tells those that this search runs from those of others in the same storage.

    `alone` where there can be no others: a trial that nobody owns is then one whose driver was killed as it took it.
    """

    def __init__(
        self, study: Study, space: Space, tree: Any, owner: str, *, alone: bool = False
    ) -> None:
        self.study, self.space, self.tree, self.owner = study, space, tree, owner
        self.alone = alone
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
        alone: bool = False,
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
        return cls(study, space, tree, owner, alone=alone)

    def unfinished(self) -> list[Asked]:
        """Trials of ours that run as far as the storage knows: at its opening, those of a driver that died."""
        from optuna.trial import Trial, TrialState

        found = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(OWNER, self.owner if self.alone else None) != self.owner:
                continue
            if CHANGES not in trial.user_attrs:
                self.lose(trial, "its driver died before it was known what to do")
                continue
            self._running[trial.number] = Trial(self.study, trial._trial_id)
            changes = json.loads(trial.user_attrs[CHANGES])
            found.append(Asked(trial.number, changes, trial.user_attrs.get(PARENT)))
        return found

    def others(self) -> list[FrozenTrial]:
        """Trials that run on other machines, as far as the storage knows."""
        from optuna.trial import TrialState

        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in running if trial.user_attrs.get(OWNER) != self.owner]

    def lose(self, trial: FrozenTrial, why: str) -> bool:
        """Give up a trial that nobody runs: its point is tried once more. False where it has ended meanwhile."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        first = AGAIN not in trial.user_attrs  # or a point that kills machines would kill them all
        drawn = CHANGES in trial.user_attrs
        point = trial.params if drawn else trial.system_attrs.get("fixed_params")
        storage = self.study._storage
        try:
            storage.set_trial_user_attr(trial._trial_id, WHY, why)
            if first:
                storage.set_trial_user_attr(trial._trial_id, LOST, True)
            # Of several who see it, the storage lets one end it, who alone puts the point back.
            if not storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL):
                return False
        except UpdateFinishedTrialError:
            return False
        if first and point:
            self.study.enqueue_trial(point, user_attrs={AGAIN: trial.number})
        return True

    def allow(self, trials: int | None) -> None:
        """How many trials everybody together may begin; None: as many as they like."""
        self.study.set_user_attr(BUDGET, trials)

    @property
    def budget(self) -> int | None:
        found = self.study.user_attrs.get(BUDGET)
        return None if found is None else int(found)

    def full(self) -> bool:
        """Whether no more trials may be begun."""
        budget = self.budget
        return budget is not None and self.begun() >= budget

    def expected(self) -> int | None:
        """How many there will be with those that do not count, as trials are numbered; None where nobody knows."""
        trials = self.study.get_trials(deepcopy=False)
        budget = self.budget
        return budget + sum(not _counts(trial) for trial in trials) if budget else None

    def begun(self) -> int:
        """How many trials of this search there are, of everybody."""
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False)
        return sum(_counts(trial) and trial.state != TrialState.WAITING for trial in trials)

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Points to be tried first, each once over all restarts, and even if another search tried it."""
        there = [
            trial.system_attrs.get("fixed_params", trial.params)
            for trial in self.study.get_trials(deepcopy=False)
            if ELSEWHERE not in trial.user_attrs
        ]
        for point in points:
            params = encoded(self.space, point)
            if params not in there:
                there.append(params)
                self.study.enqueue_trial(params)

    def ask(self) -> Asked | None:
        """The next trial, of the points that wait or the sampler's; None where others took the last ones."""
        from optuna.trial import TrialState

        trial = self.study.ask()
        budget = self.budget
        if budget is not None and self.begun() > budget:
            self.study._storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)
            return None
        trial.set_user_attr(OWNER, self.owner)
        changes = draw(trial, self.space, self.tree)
        trial.set_user_attr(CHANGES, json.dumps(changes))
        self._running[trial.number] = trial
        return Asked(trial.number, changes, trial.user_attrs.get(PARENT))

    def fork(self, parent: Asked, changes: Changes) -> Asked:
        """A trial that goes on from another's checkpoint with other settings; it is asked for at once."""
        point = encoded(self.space, changes)
        self.study.enqueue_trial(point, user_attrs={PARENT: parent.number})
        found = self.ask()
        assert found
        return found

    def values_at(self, evaluation: int) -> dict[int, float]:
        """What the trials of this search, that did not fail, reported after so many evaluations."""
        trials = self.study.get_trials(deepcopy=False)
        return {
            trial.number: trial.intermediate_values[evaluation]
            for trial in trials
            if evaluation in trial.intermediate_values
            and trial.state.name != "FAIL"
            and ELSEWHERE not in trial.user_attrs
        }

    def points(self) -> list[Changes]:
        """What the trials of this search changed, or change."""
        trials = self.study.get_trials(deepcopy=False)
        own = [each.user_attrs for each in trials if ELSEWHERE not in each.user_attrs]
        return [json.loads(told[CHANGES]) for told in own if CHANGES in told]

    def known(self, asked: Asked) -> FrozenTrial | None:
        """A trial of the same point that ran to its end, or was ended early, so that it needs no other run."""
        from optuna.trial import TrialState

        text, ended = json.dumps(asked.changes), (TrialState.COMPLETE, TrialState.PRUNED)
        for trial in self.study.get_trials(deepcopy=False, states=ended):
            told = trial.user_attrs
            if told.get(CHANGES) == text and not {ELSEWHERE, PARENT, SAME} & told.keys():
                return trial
        return None

    def repeat(self, number: int, known: FrozenTrial) -> None:
        """The trial ends as that of the same point did."""
        trial = self._running[number]
        trial.set_user_attr(SAME, known.number)
        if known.state.name == "COMPLETE":
            self.complete(number, list(known.values))
            return
        for evaluation, value in sorted(known.intermediate_values.items()):
            trial.report(value, evaluation)
        self.prune(number)

    def report(self, number: int, evaluation: int, value: float) -> bool:
        """An intermediate value; whether the trial should end here."""
        trial, stored = self._running[number], self._frozen(number)
        if stored.state.is_finished():  # others thought us dead
            return True
        if evaluation not in stored.intermediate_values:
            trial.report(value, evaluation)
        return bool(trial.should_prune())

    def counted(self, number: int, evaluations: int) -> None:
        """How often it was evaluated, where no value of one goal says so."""
        if not self._frozen(number).state.is_finished():
            self._running[number].set_user_attr(EVALUATIONS, evaluations)

    def spent(self, number: int, seconds: float) -> None:
        """The time that the trial's process had for it, of all its starts."""
        trial = self._running[number]
        before = trial.user_attrs.get(SECONDS, 0.0)
        trial.set_user_attr(SECONDS, round(before + seconds, 3))

    def complete(self, number: int, values: Sequence[float]) -> None:
        """The trial ran to its end; a value that is no number fails it."""
        if not all(map(math.isfinite, values)):
            self.fail(number, f"a value is no number: {', '.join(map(str, values))}")
            return
        self._tell(number, "COMPLETE", list(values))

    def prune(self, number: int, why: str | None = None) -> None:
        """The trial was ended early; its last intermediate value stands for it."""
        if why:
            self._running[number].set_user_attr(WHY, why)
        self._tell(number, "PRUNED")

    def fail(self, number: int, why: str) -> None:
        if not self._frozen(number).state.is_finished():
            self._running[number].set_user_attr(WHY, why)
        self._tell(number, "FAIL")

    def lost(self, number: int) -> str | None:
        """Why others gave our trial up while we were away from the storage; None where they did not."""
        stored = self._frozen(number)
        if not stored.state.is_finished():
            return None
        del self._running[number]
        return str(stored.user_attrs[WHY])

    def best(self) -> Best | None:
        """The best of our trials that ran to their end (of several goals: one of those that no other beats, by the first)."""
        signs = [1 if each.name == "MAXIMIZE" else -1 for each in self.study.directions]

        def worth(trial: FrozenTrial) -> tuple[float, ...]:
            return tuple(sign * value for sign, value in zip(signs, trial.values, strict=True))

        # Whoever has the most of the first goal, and of those of the next ones, is beaten by none.
        found = max(self._whole(), key=lambda each: (worth(each), -each.number), default=None)
        if found is None:
            return None
        return Best(found.number, json.loads(found.user_attrs[CHANGES]), list(found.values))

    def _whole(self) -> list[FrozenTrial]:
        """Our trials that ran to their end."""
        from optuna.trial import TrialState

        whole = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial for trial in whole if ELSEWHERE not in trial.user_attrs]

    def _tell(self, number: int, state: str, values: list[float] | None = None) -> None:
        from optuna.trial import TrialState

        self.study.tell(number, values, state=TrialState[state], skip_if_finished=True)
        del self._running[number]

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study._storage.get_trial(self._running[number]._trial_id)


def _counts(trial: FrozenTrial) -> bool:
    return not {ELSEWHERE, LOST, PARENT} & trial.user_attrs.keys()
