"""The stream beside other loaders: `python -m benchmarks.stream [--rounds 3] [--pictures 2000]`, from the checkout's root.

The first run draws the pictures and writes each loader's own format; `make bench-peers` installs the peers first.
Results are kept in FOLDER/PICTURES/results.json, group by group; the plot is docs/stream.png.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.stream import peers, pictures, plot, results, rounds, server
from benchmarks.stream.measure import Given
from benchmarks.stream.sides import GROUPS, OURS, Side
from datasets import store

Reading: TypeAlias = dict[str, Any]
SMALL_BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)} [all]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--only", nargs="*", metavar="SIDE", help="keys such as raw, manta-tiled")
    parser.add_argument("--folder", default=str(store.cache_folder() / "benchmarks"))
    parser.add_argument("--plot", default=str(peers.ROOT / "docs" / "stream.png"))
    parser.add_argument("--show", action="store_true", help="the last results again")
    given = parser.parse_args()
    if unknown := sorted(set(given.groups) - set(GROUPS)):
        parser.error(f"no group is called '{unknown[0]}': {', '.join(GROUPS)}")
    folder = Path(given.folder, str(given.pictures))
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{'-'.join(['results', *given.groups])}.json"
    found = json.loads(kept.read_bytes()) if given.show else _measured(folder, given, kept)
    print(results.markdown(found))
    if "photographs" in found["groups"]:
        plot.draw(found, Path(given.plot))


def _measured(folder: Path, asked: argparse.Namespace, kept: Path) -> dict[str, Any]:
    from benchmarks.__main__ import _here

    found: dict[str, Any] = {"environment": _here(), "pictures": asked.pictures, "groups": {}}
    found["prepared"], found["missing"] = {}, {}
    pictures.draw(folder, asked.pictures, pictures.SMALL_PICTURES)
    for name in asked.groups or GROUPS:
        sides = [s for s in GROUPS[name] if not asked.only or s.key in asked.only]
        ready = [side for side in sides if _prepared(side, folder, asked.pictures, found)]
        found["groups"][name] = _rounds(ready, folder, asked, found)
        kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def _prepared(side: Side, folder: Path, count: int, found: dict[str, Any]) -> bool:
    """Its own format is written, once; False where the peer is missing or cannot write it."""
    reason = peers.missing(side.peer) if side.peer else None
    note = folder / f"{side.stored or side.file}.json"
    known = json.loads(note.read_bytes()) if note.exists() else {}
    if known and side.file == OURS.file and known.get("code") != _code():
        known = {}  # packed by other code: another format, perhaps
    if reason is None and side.stored and not known:
        sys.stderr.write(f"writing {side.stored} ...\n")
        given = _given(side, folder, count)
        shutil.rmtree(given.own, ignore_errors=True)
        try:
            known = {**rounds.run(side, "prepare", given), "code": _code()}
            note.write_text(json.dumps(known), encoding="utf-8")
        except rounds.Failed as error:
            reason = f"cannot write its format: {error}"
    if reason is None and side.stored:
        found["prepared"][side.stored] = known
    if reason is not None:
        found["missing"][side.title] = reason
    return reason is None


def _code() -> str:
    """A hash of what packs ours."""
    rooms = ("packed", "packing", "pictures")
    files = [
        file for room in rooms for file in sorted((peers.ROOT / "datasets" / room).glob("*.py"))
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _rounds(
    sides: list[Side], folder: Path, asked: argparse.Namespace, found: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """What each side measured in each round; who comes first changes from round to round.

    On a machine that others use too a minute changes much: ours is run again after every second side, and `ours` of a
    reading is the rate that ours had beside it.
    """
    taken: dict[str, list[dict[str, Any]]] = {side.title: [] for side in sides}
    with ExitStack() as stack:
        servers: dict[str, dict[str, str]] = {}
        if any(side.server for side in sides):
            stored = dict.fromkeys(side.stored for side in sides if side.server)
            folders = [folder / "own" / name for name in stored]
            servers = stack.enter_context(server.served(folders))
        for number in range(asked.rounds):
            turned = sides[number % len(sides) :] + sides[: number % len(sides)]
            line = turned if number % 2 == 0 else turned[::-1]
            run = partial(_once, folder=folder, count=asked.pictures, servers=servers, found=found)
            if OURS not in sides:
                readings = [(side, run(side)) for side in line]
            else:
                readings = _paired([side for side in line if side != OURS], run)
            for side, got in readings:
                if got:
                    taken[side.title].append(got)
    return taken


def _paired(sides: list[Side], run: Callable[[Side], Reading | None]) -> list[tuple[Side, Any]]:
    """Ours, two sides, ours, two sides, ..., ours: each side is beside one of ours."""
    before = run(OURS)
    readings: list[tuple[Side, Any]] = [(OURS, before)]
    for at in range(0, len(sides), 2):
        pair = [(side, run(side)) for side in sides[at : at + 2]]
        after = run(OURS)
        for (_, got), ours in zip(pair, (before, after), strict=False):
            if got and ours:
                got["ours"] = ours["rate"]
        readings += [*pair, (OURS, after)]
        before = after
    return readings


def _once(
    side: Side,
    *,
    folder: Path,
    count: int,
    servers: dict[str, dict[str, str]],
    found: dict[str, Any],
) -> Reading | None:
    """One process of a side; None where it fails."""
    sys.stderr.write(f"{side.key} ... ")
    given = _given(side, folder, count)
    environment = servers.get(side.server, {})
    if side.server:
        shutil.rmtree(given.cache, ignore_errors=True)
        environment = {**environment, "MANTA_CACHE": given.cache}
    try:
        got = rounds.run(side, "read", given, environment)
    except rounds.Failed as error:
        found["missing"][side.title] = str(error)
        sys.stderr.write(f"{error}\n")
        return None
    got["rate"], got["wall_rate"] = results.rates(got, side.epoch)
    got["load"] = os.getloadavg()[0]
    sys.stderr.write(f"{got['rate']:.0f} img/CPU-s\n")
    return got


def _given(side: Side, folder: Path, count: int) -> Given:
    small = side.variant == "small"
    return Given(
        folder=str(folder),
        own=str(folder / "own" / (side.stored or side.file)),
        pictures=pictures.SMALL_PICTURES if small else count,
        variant=side.variant,
        epochs=side.epochs,
        batch=SMALL_BATCH if small else 64,
        url=f"s3://{server.BUCKET}/{side.stored}" if side.server else "",
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
