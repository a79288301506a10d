"""One study, several drivers: what is sought is written into it, each says that it lives, and the trials of the dead are lost.

Nobody's clock is compared with another's: a driver is silent when its attribute has not changed for long on the clock of
whoever looks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from datasets.refusal import Refusal
from search.tune.records import OWNER, Records
from search.tune.storage import silences

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

logger = logging.getLogger(__name__)

IDENTITY, LEADER, BEAT = "identity", "leader", "beat of "  # of a study; whose beat follows
BEAT_SECONDS = 10.0
SILENT_SECONDS = 120.0

Identity = tuple[str, dict[str, Any]]


def check(storage: BaseStorage, name: str, identity: Identity) -> None:
    """Refuse to join what is not there, not begun yet, or seeks something else."""
    studies = {study.study_name: study.user_attrs for study in storage.get_all_studies()}
    sought = studies.get(name, {}).get(IDENTITY)
    if sought:
        same(name, sought, identity)
        return
    kin = [each for each in studies if each.rpartition("-")[0] == name.rpartition("-")[0]]
    for other in reversed(kin):
        if IDENTITY in studies[other]:
            same(other, studies[other][IDENTITY], identity)
    raise Refusal(
        "the database has no such search yet",
        path="--join",
        value=name,
        remedy="begin it on one machine without --join",
    )


def same(name: str, sought: Any, identity: Identity) -> None:
    """Refuse where a study was begun for something else than `identity` says."""
    recipe, tree = sought
    differ = [f"search.{key}" for key in identity[1] if identity[1][key] != tree.get(key)]
    if recipe != identity[0]:
        differ.insert(0, "the recipe or its data")
    if differ:
        raise Refusal(
            f"the search '{name}' in this database differs in {', '.join(differ)}",
            path="search.storage",
            value=name,
            remedy="use the recipe and the overrides that it was begun with",
        )


def lead(records: Records, say: Callable[[str], None]) -> None:
    """Note who has begun the search, and chooses its winner. Raises Refusal while another driver does."""
    study = records.study
    leader = study.user_attrs.get(LEADER)
    if leader not in (None, records.owner) and _lives(study, leader, say):
        raise Refusal(
            f"another machine leads the search: {leader}",
            path="search.storage",
            value=study.study_name,
            remedy="add --join to take trials of it",
        )
    study.set_user_attr(LEADER, records.owner)


def _lives(study: Study, owner: str, say: Callable[[str], None]) -> bool:
    """Whether another driver is heard of within some beats; at once where it has ended in an orderly way."""
    beat = BEAT + owner
    heard = study.user_attrs.get(beat)
    if heard is None:
        return False
    patience = 2.5 * BEAT_SECONDS
    say(f"listening for {patience:.0f} s whether the machine lives that led this search: {owner}")
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if study.user_attrs.get(beat) != heard:
            return study.user_attrs.get(beat) is not None
        time.sleep(BEAT_SECONDS / 10)
    return False


class Presence:
    """From `with` to its end this driver says that it lives, and looks for trials of those that do so no more."""

    def __init__(self, records: Records, say: Callable[[str], None]) -> None:
        self.records, self.say = records, say
        self._since: dict[tuple[Any, ...], float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._live, name="presence", daemon=True)

    def __enter__(self) -> Presence:
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        with suppress(*silences()):
            self.records.study.set_user_attr(BEAT + self.records.owner, None)

    def beat(self) -> None:
        self.records.study.set_user_attr(BEAT + self.records.owner, time.time())

    def look(self) -> None:
        """Lose the trials whose drivers have been silent for `SILENT_SECONDS` of our looking."""
        attributes, now = self.records.study.user_attrs, time.monotonic()
        since = {}
        for trial in self.records.others():
            owner = trial.user_attrs.get(OWNER)  # None of one that was killed as it took the trial
            key = (trial.number, attributes.get(f"{BEAT}{owner}"))
            since[key] = self._since.get(key, now)
            if now - since[key] >= SILENT_SECONDS:
                why = f"nothing was heard of its driver for {SILENT_SECONDS:.0f} s: {owner}"
                if self.records.lose(trial, why):
                    self.say(f"trial {trial.number:04d}: failed: {why}")
        self._since = since

    def _live(self) -> None:
        while not self._done.wait(BEAT_SECONDS):
            try:
                self.beat()
                self.look()
            except silences() as error:
                logger.warning("the database does not answer now: %s", type(error).__name__)
