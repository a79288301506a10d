"""How many rows a worker takes at once: all, as many as the recipe says, or (`auto`) half of what did not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from datasets import order
from datasets.batch import Batch
from datasets.order import Plan
from datasets.refusal import Refusal
from trainers import parallel, summary
from trainers.recipe import Recipe
from trainers.session import Session

if TYPE_CHECKING:
    from trainers.stage import Stage

logger = logging.getLogger(__name__)

REMEDY = (
    "scale.micro_batch=auto takes fewer rows at once for the same batch; "
    "scale.checkpoint_activations=true and scale.precision=bf16 need less for each"
)


class OutOfMemory(Refusal):
    """`value` rows at once were too many for a worker; the group is to start again with fewer."""


class MicroBatches:
    """Cuts a worker's share of a batch into equally many parts on every rank, or their collectives would not meet."""

    def __init__(self, plan: Plan, said: int | Literal["auto"] | None) -> None:
        self.plan, self.auto = plan, said == "auto"
        self.rows = said if isinstance(said, int) else None

    def of(self, total: int) -> int:
        """Into how many parts each rank cuts its share of a batch of `total` rows."""
        if not self.rows:
            return 1
        shares = self._shares(total)
        return max(1, min(-(-max(shares) // self.rows), min(shares)))

    def at_once(self, total: int) -> int:
        """The most rows that any rank takes at once."""
        return -(-max(self._shares(total)) // self.of(total))

    def halve(self, total: int) -> None:
        """Half as many rows at once. Raises Refusal where there are no fewer."""
        before = self.at_once(total)
        self.rows = before // 2
        if not self.rows or self.at_once(total) >= before:
            least = (
                "a single row does"
                if before == 1
                else f"{before} rows, the fewest there can be, do"
            )
            raise Refusal(
                f"{least} not fit into memory",
                path="scale.micro_batch",
                value=before,
                remedy="use a smaller model or data.size, scale.checkpoint_activations=true, "
                "or a larger device",
            )

    def _shares(self, total: int) -> list[int]:
        world = parallel.world_size()
        shares = (order.slots(self.plan, rank, world, total) for rank in range(world))
        return [last - first for first, last in shares]


class Fitting:
    """Spends batches so that they fit: with `auto`, a step for which memory ran out is done again with fewer rows at once."""

    def __init__(self, recipe: Recipe, session: Session) -> None:
        self.session, self.rehearsed = session, False
        self.declared = recipe.scale.micro_batch
        self.found = self._known() if self.declared == "auto" else None

    @property
    def rows(self) -> int | None:
        """The most rows at once, as far as anything limits them."""
        return self.found if self.declared == "auto" else self.declared

    def begin(self, stage: Stage) -> None:
        """A phase takes as many rows at once as those before it could."""
        stage.micro.rows = self.found or stage.micro.rows
        self.rehearsed = self.session.world == 1 or not stage.micro.auto

    def spend(
        self,
        stage: Stage,
        batch: Batch,
        step: int,
        scores: tuple[float, ...],
        seed: Callable[[], None],
    ) -> dict[str, Tensor]:
        """`stage.spend`, again from its beginning, `seed` included, where memory ran out.

        Raises OutOfMemory where this rank cannot try again: without `auto`, or with others waiting for it.
        """
        total = stage.plan.rows_at(step % stage.steps_per_epoch)
        if not self.rehearsed:
            self._rehearse(stage, batch, total)
            seed()
        while True:
            try:
                return stage.spend(batch, step, scores)
            except torch.OutOfMemoryError as error:
                said, rows = str(error).partition("\n")[0], stage.micro.at_once(total)
                if not stage.micro.auto or self.session.world > 1:
                    raise OutOfMemory(
                        f"{rows} rows at once are too many for a worker: {said}",
                        path="scale.micro_batch",
                        value=rows,
                        remedy=REMEDY,
                    ) from None
            # Beyond the except block: what it holds of the failed attempt is free again.
            stage.undo()
            self._halve(stage, total)
            seed()

    def _rehearse(self, stage: Stage, batch: Batch, total: int) -> None:
        """Find how many rows fit before ranks meet in a step: who fails in one leaves the others waiting."""
        self.rehearsed = True
        while True:
            failed = torch.tensor([0.0 if stage.rehearse(batch, total) else 1.0])
            if not parallel.summed(failed).item():
                return
            self._halve(stage, total)

    def _halve(self, stage: Stage, total: int) -> None:
        before = stage.micro.at_once(total)
        stage.micro.halve(total)
        self.found = stage.micro.rows
        if self.session.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.session.rank == 0:
            now = stage.micro.at_once(total)
            logger.warning("%d rows at once do not fit into memory: %d from here on", before, now)
            summary.amend(self.session.folder, micro_batch=self.found)

    def _known(self) -> int | None:
        """What was found before in this run, by rank 0's word."""
        found = summary.read(self.session.folder).get("micro_batch", 0)
        own = float(found) if self.session.rank == 0 else 0.0
        return int(parallel.summed(torch.tensor([own])).item()) or None
