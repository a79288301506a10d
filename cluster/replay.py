"""`data replay`: a step's batch for people, its columns as arrays and its pictures on a sheet."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from cluster.run import Run
from datasets import figures, store
from trainers import checkpoint, replay
from trainers.replay import Replayed

FOLDER = "replay"
MOST_SHOWN = 64


def write(run: Run, step: int) -> dict[str, Any]:
    """Into the run's folder: `replay/step-N.npz`, and `step-N.png` of pictures; what a person asks first.

    Raises Refusal for a step that the run's recipe has not.
    """
    latest = checkpoint.latest(run.url)
    lengths = checkpoint.read_state(latest).lengths if latest else ()
    found = replay.replay(run.recipe, step, lengths)
    columns = {name: column.numpy() for name, column in found.batch.columns.items()}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **columns)
    arrays = store.join(run.url, FOLDER, f"step-{step:08}.npz")
    store.write_bytes(arrays, file.getvalue())
    told: dict[str, Any] = {
        **{"step": step, "phase": found.phase, "epoch": found.epoch, "arrays": arrays},
        "sample_ids": columns["id"].tolist(),
    }
    if "image" in columns:
        told["pictures"] = store.join(run.url, FOLDER, f"step-{step:08}.png")
        store.write_bytes(told["pictures"], _sheet(found, columns))
    return told


def _sheet(found: Replayed, columns: dict[str, np.ndarray]) -> bytes:
    """Every picture of the batch in the order of its slots, up to 64, with class and id."""
    pictures, label = list(columns["image"][:MOST_SHOWN]), columns.get("label")
    titles = [str(own) for own in columns["id"][:MOST_SHOWN]]
    if label is not None and found.classes:
        classes = [found.classes[own][:12] for own in label[:MOST_SHOWN].tolist()]
        titles = [f"{name}\n{own}" for name, own in zip(classes, titles, strict=True)]
    return figures.png(
        figures.sheet(pictures, titles, wide=8, cell=(1.1, 1.3), fontsize=7), dpi=110
    )
