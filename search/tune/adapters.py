"""What Tune calls a searcher and a scheduler: both pass everything on to the desk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.tune.tuner import Later

if TYPE_CHECKING:
    from search.tune.tuner import Desk


class Proposer(Searcher):
    """Asks the desk for the next trial."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(metric="value", mode="max")
        self.desk = desk

    def suggest(self, trial_id: str) -> Any:
        found = self.desk.next(trial_id)
        # Of Tune's two words for "nothing", None means that it should ask again.
        return None if isinstance(found, Later) else found or Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.desk.over(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune."""


class Umpire(FIFOScheduler):
    """Trials in order; the desk says which end early."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        ends = self.desk.judge(trial.trial_id, result)
        return TrialScheduler.STOP if ends else TrialScheduler.CONTINUE
