"""What a run came to, in a few sentences and a handful of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets.page import Tile
from search import numbers
from search.evidence import Evidence
from search.sheets import heading

TIMES = {0: "never", 1: "once", 2: "twice"}


def scores(found: Evidence) -> dict[str, float]:
    """The final scores that are numbers."""
    return {name: float(value) for name, value in (found.summary.get("scores") or {}).items()}


def headline(found: Evidence) -> str | None:
    """The metric to name first: of the test split, the one that chose, else accuracy."""
    known = scores(found)
    chosen = str(best(found).get("metric", "")).rpartition("/")[2]
    wanted = [f"{split}/{m}" for split in ("test", "val") for m in (chosen, "accuracy") if m]
    by_split = sorted(
        known, key=lambda key: (not key.startswith("test/"), not numbers.is_fraction(key), key)
    )
    return next((key for key in [*wanted, *by_split] if key in known), None)


def best(found: Evidence) -> Mapping[str, Any]:
    """The checkpoint that was chosen: step, metric, score."""
    return found.summary.get("best") or {}


def interval(found: Evidence, metric: str) -> str:
    """The 95 % Wilson interval of a share of rows, or nothing where it has none."""
    n = found.rows.get(metric.partition("/")[0], 0)
    value = scores(found).get(metric)
    if not n or value is None or not numbers.is_proportion(metric) or not 0 <= value <= 1:
        return ""
    low, high = numbers.wilson(value, n)
    return f"{100 * low:.1f} to {numbers.percent(high)}, n\xa0=\xa0{numbers.count(n)}"


def sentence(found: Evidence) -> str:
    """One line: how it ended, what it scored and how sure that is, what chose the checkpoint."""
    return " ".join(part for part in (_ended(found), _chosen(found), _opened(found)) if part)


def _ended(found: Evidence) -> str:
    status = str(found.summary.get("status", ""))
    metric = headline(found)
    if metric is None:
        said = "but no score is on record" if status == "finished" else "no score is on record yet"
        return f"{_state(found)}, {said}."
    split, _, name = metric.rpartition("/")
    where = {"test": " on the test split", "val": " on the validation split"}.get(split, "")
    doubt = interval(found, metric)
    doubt = f" (95 % interval {doubt})" if doubt else ""
    value = numbers.score(metric, scores(found)[metric])
    return f"{_state(found)}: {heading(name)} {value}{where}{doubt}."


def _state(found: Evidence) -> str:
    step = found.summary.get("steps")
    if step is None and len(found.metrics):
        step = found.metrics["step"].max()
    at = f" at step {numbers.count(step)}" if step is not None else ""
    words = {
        "finished": "Finished",
        "running": f"Still running{at}",
        "stopped": f"Stopped{at} before its end",
        "failed": f"Failed{at}",
    }
    return words.get(str(found.summary.get("status", "")), f"In an unknown state{at}")


def _chosen(found: Evidence) -> str:
    chosen = best(found)
    if not chosen.get("metric"):
        return "Its last checkpoint counts; none was chosen by a validation metric." * bool(
            scores(found)
        )
    value = chosen.get("score", chosen.get("value"))
    value = f" ({numbers.score(chosen['metric'], value)})" if value is not None else ""
    step = chosen.get("step")
    where = f"of step {numbers.count(step)} " if isinstance(step, (int, float)) else ""
    return f"The checkpoint {where}was chosen by {chosen['metric']}{value}."


def _opened(found: Evidence) -> str:
    opened = found.summary.get("opened")
    if opened is None:
        return ""
    times = int(opened.get("test", 0))
    return f"The test split was {'never opened' if not times else _times(times)}."


def _times(times: int) -> str:
    return f"opened {TIMES.get(times, f'{times} times')}"


def tiles(found: Evidence) -> list[Tile]:
    """The key numbers that there are, the most asked for first."""
    return [*_scored(found), *_sized(found), *_spent(found)]


def _scored(found: Evidence) -> list[Tile]:
    known, metric, chosen = scores(found), headline(found), best(found)
    listed = []
    if metric:
        doubt = interval(found, metric).partition(",")[0]
        label = _label(metric)
        listed.append(Tile(label, numbers.score(metric, known[metric]), doubt, "main"))
    named, value = chosen.get("metric"), chosen.get("score", chosen.get("value"))
    if named and named != metric and value is not None:
        step = chosen.get("step")
        at = f"at step {numbers.count(step)}" if isinstance(step, (int, float)) else ""
        listed.append(Tile(_label(str(named)), numbers.score(str(named), value), at))
    return listed


def _label(metric: str) -> str:
    split, _, name = metric.rpartition("/")
    full = {"val": "Val", "test": "Test", "train": "Train"}.get(split, heading(split))
    said = heading(name)
    return f"{full} {said if said.isupper() else said.lower()}".strip()


def _sized(found: Evidence) -> list[Tile]:
    model, listed = found.model, []
    if isinstance(total := model.get("parameters"), (int, float)):
        learn = model.get("trainable")
        doubt = "all trainable" if learn == total else ""
        if isinstance(learn, (int, float)) and learn != total:
            doubt = f"{numbers.short(learn)} trainable"
        listed.append(Tile("Parameters", numbers.short(total), doubt))
    return listed


def _spent(found: Evidence) -> list[Tile]:
    summary, listed = found.summary, []
    steps, samples = summary.get("steps"), summary.get("samples")
    if isinstance(steps, (int, float)):
        doubt = f"{numbers.short(samples)} samples" if samples else ""
        listed.append(Tile("Steps", numbers.count(steps), doubt))
    spent, wait = summary.get("seconds"), summary.get("wait_seconds")
    if isinstance(spent, (int, float)):
        restarts = summary.get("restarts")
        times = len(restarts) if isinstance(restarts, list) else restarts
        times = times if isinstance(times, int) else 0
        notices = summary.get("preemptions")
        moved = len(notices) if isinstance(notices, list) else 0
        times = max(0, times - moved)  # a node that was given notice cost no step
        said = [f"{times} restart{'s' * (times != 1)}"] if times else []
        said += [f"{moved} preemption{'s' * (moved != 1)}"] if moved else []
        doubt = ", ".join(said)
        listed.append(Tile("Training time", numbers.seconds(spent), doubt))
    if isinstance(rate := summary.get("images_per_second"), (int, float)):
        share = wait / spent if isinstance(wait, (int, float)) and spent else None
        doubt = f"{numbers.percent(share)} data wait" if share is not None else ""
        what = "Rows/s" if found.card.get("kind") == "table" else "Images/s"
        listed.append(Tile(what, numbers.count(rate), doubt))
    place = summary.get("place")
    if isinstance(place, Mapping) and place:
        workers = place.get("workers", 1)
        details = (f"{workers} worker{'s' * (workers != 1)}", place.get("precision"))
        label = ", ".join(str(detail) for detail in details if detail)
        listed.append(Tile("Device", str(place.get("device", place.get("place"))), label))
    return listed
