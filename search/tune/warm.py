"""A search that begins with what others found: their trials are known to its sampler, and count as nobody's here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from datasets import store
from search.tune import storage
from search.tune.draws import draw, encoded
from search.tune.records import CHANGES, ELSEWHERE, Records
from trainers.recipe import Recipe
from trainers.searching import Search
from trainers.space import Space, at

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FixedTrial, FrozenTrial


def resolved(recipe: Recipe) -> Recipe:
    """Folders as absolute paths, so that the search goes on from wherever it is started again."""
    assert recipe.search
    sources = [said if "#" in said else store.absolute(said) for said in recipe.search.warm]
    return recipe.override({"search.warm": sources}) if sources else recipe


def studies(search: Search) -> list[Study]:
    """What `search.warm` names. Raises Refusal for what is not there."""
    if not search.warm:
        return []
    from search.tune import reading

    return [reading.named(said, storage.url_of(search.storage)) for said in search.warm]


def add(records: Records, others: Iterable[Study]) -> Iterator[str]:
    """Add what fits of other studies, each trial once over all restarts; a line to say of each study."""
    there = {trial.user_attrs.get(ELSEWHERE) for trial in records.study.get_trials(deepcopy=False)}
    for other in others:
        trials = [] if other.study_name == records.study.study_name else _ended(other)
        fit = 0
        for trial in trials if _same_goals(other, records.study) else []:
            point = fitting(records.space, records.tree, _point(trial))
            if point is None:
                continue
            fit += 1
            # Not where it was found: folders are moved.
            origin = f"trial {trial.number} of {other.study_name}, {trial.datetime_start}"
            if origin not in there:
                there.add(origin)
                records.study.add_trial(_known(trial, point, origin))
        yield (
            f"{fit} trials of {other.study_name} are known beforehand"
            f" ({len(trials) - fit} do not fit this space and its goals)"
        )


def fitting(space: Space, tree: Any, point: Mapping[str, Any]) -> FixedTrial | None:
    """A point, {dotted.path: value}, as Optuna would have drawn it from the space; None where it could not have been.

    What another search changed and this one does not must be as this recipe, whose plain tree is `tree`, has it.
    """
    from optuna.trial import FixedTrial

    paths = {dimension.path for dimension in space.dimensions}
    for dimension in space.dimensions:
        there = space.applies(dimension, point.get, tree)
        if there != (dimension.path in point):
            return None
        if there and not dimension.holds(point[dimension.path]):
            return None
    for path in point.keys() - paths:
        if space.constants.get(path, at(tree, path)) != point[path]:
            return None
    trial = FixedTrial(encoded(space, {path: point[path] for path in paths & point.keys()}))
    trial.set_user_attr(CHANGES, json.dumps(draw(trial, space, tree)))
    return trial


def _ended(study: Study) -> list[FrozenTrial]:
    """Trials of its own that came to a value, at their end or before."""
    from optuna.trial import TrialState

    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False, states=ended)
    return [trial for trial in trials if ELSEWHERE not in trial.user_attrs and trial.values]


def _same_goals(one: Study, other: Study) -> bool:
    return one.directions == other.directions and one.metric_names == other.metric_names


def _point(trial: FrozenTrial) -> Mapping[str, Any]:
    """Of a study that is not ours the parameters as they are called there."""
    changes = trial.user_attrs.get(CHANGES)
    return json.loads(changes) if changes else trial.params


def _known(trial: FrozenTrial, point: FixedTrial, origin: str) -> FrozenTrial:
    from optuna.trial import TrialState, create_trial

    pruned = trial.state == TrialState.PRUNED
    return create_trial(
        state=trial.state,
        values=list(trial.values),
        params=point.params,
        distributions=point.distributions,
        # A sampler ranks trials that ended early by them; of whole ones a pruner would hold ours against them.
        intermediate_values=trial.intermediate_values if pruned else {},
        user_attrs={ELSEWHERE: origin, **point.user_attrs},
    )
