"""What a person sees while a run goes on: a rich bar on a terminal, plain lines when piped."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Row = Mapping[str, Any]


class Bar:
    """Follows rows of metrics.jsonl as they are written. Writes to stderr: stdout belongs to results."""

    def __init__(self, *, steps: int, epochs: Sequence[int], quiet: bool = False) -> None:
        self.steps, self.epochs, self.quiet = steps, epochs, quiet
        self.console = Console(stderr=True)
        self.live = sys.stderr.isatty() and not quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._last: Row = {}

    def show(self, rows: Sequence[Row]) -> None:
        """Rows just written: training steps move the bar, evaluations are a line each."""
        for row in rows:
            if row["split"] == "train":
                self._last = row
            elif not self.quiet:
                self._line(row)
        if self.live and self._last:
            self._move()

    def say(self, text: str) -> None:
        """Something happened to the run: a line of its own, progress or none."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @property
    def step(self) -> int:
        """The last training step that was shown."""
        return int(self._last.get("step", 0))

    def close(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _line(self, row: Row) -> None:
        own = {k: v for k, v in row.items() if k.startswith(f"{row['split']}/")}
        # An evaluator's first score is its headline; the loss tells over-fitting.
        shown = [key for n, key in enumerate(own) if n == 0 or key.endswith("/loss")]
        head = ", ".join(f"{key} {_number(own[key])}" for key in shown)
        rate, loss = self._last.get("images_per_second"), self._loss()
        tail = f" | {rate:,.0f} images/s, waited {self._last['wait_seconds']:.2f} s" if rate else ""
        epochs = self.epochs[row["phase"]]
        at = f"phase {row['phase']} " if len(self.epochs) > 1 else ""
        text = f"{at}epoch {row['epoch'] + 1}/{epochs} step {row['step']}/{self.steps}"
        self.console.print(f"{text} | {loss}{head}{tail}", highlight=False, soft_wrap=True)

    def _loss(self) -> str:
        losses = {k: v for k, v in self._last.items() if k.endswith("loss")}
        text = ", ".join(f"{key} {_number(value)}" for key, value in losses.items())
        return f"{text} | " if text else ""

    def _move(self) -> None:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._progress.start()
            self._task = self._progress.add_task("", total=self.steps, speed="")
        assert self._task is not None
        row = self._last
        speed = f"{row.get('images_per_second', 0):,.0f} img/s, wait {row['wait_seconds']:.2f} s"
        self._progress.update(
            self._task,
            completed=row["step"],
            description=f"epoch {row['epoch'] + 1}/{self.epochs[row['phase']]} {self._loss().rstrip(' |')}",
            speed=speed,
        )


def _number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or 5e-5 <= abs(value) < 1000 else f"{value:.3g}"
