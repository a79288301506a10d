"""A run's rows as Prometheus metrics of the node that rank 0 is on, exported by Ray beside its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainers import summary

GAUGES = {
    "step": "optimizer steps done",
    "images_per_second": "over the global batch",
    "step_seconds": "of an optimizer step, waiting included",
    "wait_share": "of the time, spent waiting for data",
    "allreduce_share": "of the time, that the gradients' all-reduce takes by itself",
    "device_memory_bytes": "the most that rank 0's device has held",
    "loss": "of the last step",
    "restarts": "times that the run was gone on with",
}


class Exported:
    """`manta_<name>{run="..."}` for each of GAUGES, as of the last rows."""

    def __init__(self, folder: str) -> None:
        from ray.util.metrics import Gauge

        self.folder, self._last = folder, (0.0, 0.0)
        run = folder.rstrip("/").rpartition("/")[2]
        self._gauges = {
            key: Gauge(f"manta_{key}", description=f"{key}: {told}", tag_keys=("run",))
            for key, told in GAUGES.items()
        }
        for gauge in self._gauges.values():
            gauge.set_default_tags({"run": run})
        self._gauges["restarts"].set(len(summary.read(folder).get("restarts", [])))

    def tell(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of metrics.jsonl just written."""
        training = [row for row in rows if row["split"] == "train"]
        if not training:
            return
        last = training[-1]
        spent, waited = last["seconds"] - self._last[0], last["wait_seconds"] - self._last[1]
        self._last = (last["seconds"], last["wait_seconds"])
        known = {**last, "wait_share": waited / spent if spent > 0 else 0.0}
        for key, gauge in self._gauges.items():
            if key in known:
                gauge.set(float(known[key]))
