"""The list of a set's labels, the most suspicious first, with what is to become of each: a CSV or a parquet file.

A CSV begins with a line `# {...}` that says of which data it is; parquet has it in its metadata. Whoever looks through
the list may change `action`, `suggested` and `weight`, or delete lines: what is not listed stays as it is.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datasets import store
from datasets.order import Integers
from datasets.packed.manifest import Manifest
from datasets.refusal import Refusal, nearest

if TYPE_CHECKING:
    import pyarrow as pa

ACTIONS = ("keep", "drop", "relabel", "downweight")
COLUMNS = ("id", "given", "suggested", "score", "action", "weight")
MADE = "of"  # the key of a parquet file's metadata


@dataclass(frozen=True)
class Labels:
    """N labels: ids (N,), given and suggested classes (N,) by number, scores (N,) in [0, 1], of which 1 is surely right.

    `actions` (N,) and `weights` (N,) say what becomes of them; `made` of which data they are: `digest`, `noise`, ...
    """

    ids: Integers
    given: Integers
    suggested: Integers
    scores: NDArray[np.float64]
    actions: NDArray[np.str_]
    weights: NDArray[np.float64]
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which labels do not stay as they are."""
        found: NDArray[np.bool_] = self.actions != "keep"
        return found


def write(url: str, labels: Labels, classes: Sequence[str]) -> None:
    """The list as CSV or parquet, by the file's name, the lowest scores first, written whole or not at all.

    Raises Refusal for a name of another kind.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    kind = kind_of(url)
    order = np.lexsort((labels.ids, labels.scores))
    names = np.array(classes, dtype=object)
    columns = {
        "id": labels.ids[order],
        "given": names[labels.given[order]],
        "suggested": names[labels.suggested[order]],
        "score": labels.scores[order].round(6),
        "action": labels.actions[order].tolist(),
        "weight": labels.weights[order].round(6),
    }
    made, file = json.dumps(dict(labels.made), sort_keys=True).encode(), io.BytesIO()
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    if kind == "csv":
        file.write(b"# " + made + b"\n")
        csv.write_csv(table, file)
    else:
        parquet.write_table(table.replace_schema_metadata({MADE: made}), file)
    store.write_bytes(url, file.getvalue())


def read(url: str, manifest: Manifest, *, noise: Mapping[str, Any] | None, path: str) -> Labels:
    """A list that was made of these very data. `path` is where the recipe names it, `noise` the recipe's own, or None.

    Raises Refusal where it is no list, or one of other data or other noise, or says what cannot be done.
    """
    kind_of(url)
    if not store.exists(url):
        raise Refusal(
            f"there is no list of labels at {url}",
            path=path,
            value=url,
            remedy="`python launch.py data clean RECIPE --out labels.csv` makes one",
        )
    made, table = _table(url, store.read_bytes(url))
    _check_made(made, manifest, noise, path, url)
    columns = {name: _column(table, name, url) for name in COLUMNS}
    number = {name: place for place, name in enumerate(manifest.classes)}
    classes = {
        name: np.array([_class(str(each), number, url) for each in columns[name]], np.int64)
        for name in ("given", "suggested")
    }
    found = Labels(
        ids=columns["id"].astype(np.int64),
        scores=columns["score"].astype(np.float64),
        actions=columns["action"].astype(np.str_),
        weights=columns["weight"].astype(np.float64),
        made=made,
        **classes,
    )
    _check(found, url)
    return found


def kind_of(url: str) -> str:
    """csv or parquet, by the name of the file. Raises Refusal for another."""
    kind = url.rpartition(".")[2].lower()
    if kind not in ("csv", "parquet"):
        raise Refusal(
            "a list of labels is a .csv or a .parquet file",
            path=url,
            value=url,
            remedy="name it labels.csv, say",
        )
    return kind


def _table(url: str, data: bytes) -> tuple[dict[str, Any], pa.Table]:
    """What the list is of, and its columns."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if kind_of(url) == "parquet":
            table = parquet.read_table(pa.BufferReader(data))
            made = json.loads((table.schema.metadata or {}).get(MADE.encode(), b"{}"))
        else:
            first, _, rest = data.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
            made = json.loads(first[1:]) if first.startswith(b"#") else {}
            options = csv.ConvertOptions(column_types=_types(), strings_can_be_null=False)
            table = csv.read_csv(pa.BufferReader(rest if made else data), convert_options=options)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise Refusal(
            f"is no list of labels: {str(error).splitlines()[0]}",
            path=url,
            remedy="`python launch.py data clean` makes one",
        ) from error
    return made if isinstance(made, dict) else {}, table


def _types() -> dict[str, Any]:
    import pyarrow as pa

    text = dict.fromkeys(("given", "suggested", "action"), pa.string())
    return {"id": pa.int64(), **text, "score": pa.float64(), "weight": pa.float64()}


def _column(table: pa.Table, name: str, url: str) -> NDArray[Any]:
    if name not in table.column_names or table.column(name).null_count:
        lacks = "an empty" if name in table.column_names else "no"
        raise Refusal(
            f"the list has {lacks} '{name}'",
            path=url,
            value=name,
            remedy=f"its columns are {', '.join(COLUMNS)}",
        )
    values: NDArray[Any] = table.column(name).to_numpy(zero_copy_only=False)
    return values


def _class(name: str, number: Mapping[str, int], url: str) -> int:
    if name not in number:
        raise Refusal(
            f"'{name}' is no class of the data", path=url, value=name, remedy=nearest(name, number)
        )
    return number[name]


def _check_made(
    made: Mapping[str, Any],
    manifest: Manifest,
    noise: Mapping[str, Any] | None,
    path: str,
    url: str,
) -> None:
    """Refuse a list of other data, or of labels with other noise."""
    if "digest" not in made:
        raise Refusal(
            "the list does not say of which data it is",
            path=path,
            value=url,
            remedy="keep the first line, `# {...}`, that `data clean` wrote",
        )
    if made["digest"] != manifest.digest:
        raise Refusal(
            f"the list is of other data, '{made.get('data')}' ({str(made['digest'])[:8]}); "
            f"these are '{manifest.name}' ({manifest.digest[:8]})",
            path=path,
            value=url,
            remedy="make a list of these: `python launch.py data clean RECIPE`",
        )
    if made.get("noise") != (dict(noise) if noise else None):
        raise Refusal(
            f"the list is of labels with noise {_said(made.get('noise'))}, the recipe has {_said(noise)}",
            path=path,
            value=url,
            remedy="set data.noise as it was, or make a list of these labels",
        )


def _said(noise: Mapping[str, Any] | None) -> str:
    return json.dumps(dict(noise), sort_keys=True) if noise else "none"


def _check(labels: Labels, url: str) -> None:
    """Refuse what cannot be done."""
    for action in np.unique(labels.actions).tolist():
        if action not in ACTIONS:
            number = labels.ids[labels.actions == action][0]
            raise Refusal(
                f"'{action}', of id {number}, is no action",
                path=url,
                value=action,
                remedy=nearest(action, ACTIONS),
            )
    bad = (labels.actions == "downweight") & ~((labels.weights > 0) & (labels.weights <= 1))
    if bad.any():
        raise Refusal(
            f"the weight of id {labels.ids[bad][0]} is {labels.weights[bad][0]:g}, not above 0 and at most 1",
            path=url,
            value=float(labels.weights[bad][0]),
            remedy="to leave a sample out, set its action to drop",
        )
    ids, counts = np.unique(labels.ids, return_counts=True)
    if (counts > 1).any():
        twice = int(ids[counts > 1][0])
        raise Refusal(f"id {twice} is listed twice", path=url, value=twice, remedy="list it once")
