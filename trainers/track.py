"""Writing a run down: metrics.jsonl is the truth, TensorBoard a view of it. Rank 0 only."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import figures, store
from trainers import growing

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, Any]
MIRROR_SECONDS = 30.0


class Track:
    """The files of a run folder that grow. A remote folder is written locally and mirrored."""

    def __init__(
        self,
        folder: str,
        *,
        resumed_step: int,
        tensorboard: bool,
        show: Callable[[list[Row]], None],
        figures: bool = True,
    ) -> None:
        self.folder, self.show, self.figures = folder, show, figures
        self.resumed_step, self.tensorboard = resumed_step, tensorboard
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._mirror: store.Mirror | None = None
        self._writer: SummaryWriter | None = None
        if store.is_remote(folder):
            self._temporary = tempfile.TemporaryDirectory(prefix="manta-run-")
            self.local = Path(self._temporary.name)
            url = store.join(folder, "metrics.jsonl")
            if store.exists(url):
                (self.local / "metrics.jsonl").write_bytes(store.read_bytes(url))
            self._mirror = store.Mirror(str(self.local), folder, seconds=MIRROR_SECONDS)
        else:
            self.local = store.path_of(folder)
        self.metrics = self.local / "metrics.jsonl"
        forget(self.metrics, after=resumed_step)
        growing.forget(folder, after=resumed_step)
        self._file = self.metrics.open("a", encoding="utf-8")

    def write(self, rows: list[Row]) -> None:
        """Append rows, one per (step, split)."""
        if not rows:
            return
        self._file.write("".join(json.dumps(row) + "\n" for row in rows))
        self._file.flush()
        if self.tensorboard:
            self._scalars(rows)
        self.show(rows)

    def settle(self) -> None:
        """Make what was written durable: called before the checkpoint that covers it is complete."""
        os.fsync(self._file.fileno())
        if self._mirror:
            self._mirror.flush()

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """`tables/<name>.csv`."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        self.put(f"tables/{name}.csv", text.getvalue().encode())

    def figure(self, name: str, drawing: Figure, step: int, *, grows: bool = False) -> None:
        """`figures/<name>.png`, and the same in TensorBoard; one that grows is also kept as it is at this step."""
        self.put(f"figures/{name}.png", figures.png(drawing))
        if grows:
            self.put(growing.place(name, step), figures.png(drawing, dpi=growing.DPI))
        if self.tensorboard:
            self._tensorboard().add_figure(name, drawing, global_step=step)

    def put(self, name: str, data: bytes) -> None:
        """A whole file of the run folder."""
        store.write_bytes(str(self.local / name), data)

    def hyperparameters(self, flat: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """The recipe and its final scores for TensorBoard's HParams."""
        if self.tensorboard and scores:
            values = {
                k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in flat.items()
            }
            from torch.utils.tensorboard.summary import hparams

            # The page takes its columns from any one experiment that it finds; where there is none,
            # as here, from all runs together, those that differ first.
            _, start, end = hparams(values, {})  # type: ignore[no-untyped-call]
            writer = self._tensorboard()
            for summary in (start, end):
                writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
            for name, score in scores.items():
                writer.add_scalar(f"final/{name}", score)

    def close(self) -> None:
        """Release files and threads; nothing is lost that was written."""
        self._file.close()
        if self._writer:
            self._writer.close()
        try:
            if self._mirror:
                self._mirror.close()
        finally:
            if self._temporary:
                self._temporary.cleanup()

    def _scalars(self, rows: list[Row]) -> None:
        """Evaluations, and the last of the training rows: a view of one point a second is enough."""
        writer = self._tensorboard()
        training = [row for row in rows if row["split"] == "train"]
        for row in [*training[-1:], *(row for row in rows if row["split"] != "train")]:
            for key, value in row.items():
                if key not in ("step", "split", "phase") and isinstance(value, int | float):
                    name = key if "/" in key else f"{row['split']}/{key}"
                    writer.add_scalar(name, value, global_step=row["step"])

    def _tensorboard(self) -> SummaryWriter:
        if self._writer is None:
            # Half a second of imports that the first step need not wait for.
            from torch.utils.tensorboard import SummaryWriter

            folder = self.local / "tensorboard"
            purge = self.resumed_step + 1 if self.resumed_step else None
            self._writer = SummaryWriter(str(folder), purge_step=purge)
        return self._writer


def forget(metrics: Path, *, after: int) -> None:
    """Drop rows past a step, test rows and torn lines: those steps are about to be done again."""
    if not metrics.exists():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        whole = isinstance(row, dict) and {"step", "split"} <= set(row)
        if whole and row["step"] <= after and row["split"] != "test":
            kept.append(line)
    store.write_bytes(str(metrics), "".join(f"{line}\n" for line in kept).encode())
