"""`data replay`: a step's batch for people, its columns as arrays and its pictures on a sheet."""

from __future__ import annotations

import io
import math
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
    from matplotlib.figure import Figure

    pictures = columns["image"][:MOST_SHOWN]
    wide = min(8, len(pictures))
    tall = math.ceil(len(pictures) / wide)
    drawing = Figure(figsize=(wide * 1.1, tall * 1.3), layout="constrained")
    for place, picture in enumerate(pictures):
        axes = drawing.add_subplot(tall, wide, place + 1)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        label = columns.get("label")
        named = found.classes[int(label[place])][:12] if label is not None and found.classes else ""
        axes.set_title(f"{named}\n{columns['id'][place]}".strip(), fontsize=7, pad=2)
        axes.axis("off")
    return figures.png(drawing, dpi=110)
