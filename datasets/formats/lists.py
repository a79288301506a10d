"""Lists of pictures: .csv and .tsv with a header line, .jsonl with an object a line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from datasets import store
from datasets.formats import files, rows, trees
from datasets.formats.trees import Tree
from datasets.refusal import Refusal
from datasets.remote import redact

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*DELIMITERS, *JSON_LINES)


class Row(NamedTuple):
    line: int  # in the file, from 1
    values: tuple[str, ...]


def read(url: str, columns: Mapping[str, str]) -> list[Row]:
    """The values of these columns (role -> column), in their order, of each row.

    Raises Refusal for an unknown column, a row that has not as many fields as the header, and an empty value.
    """
    suffix = _suffix(url)
    where = redact(url)
    text = trees.text(store.read_bytes(url), where)
    delimiter = DELIMITERS.get(suffix)
    found = list(
        _delimited(text, delimiter, columns, where) if delimiter else _json(text, columns, where)
    )
    if not found:
        raise Refusal("lists no pictures", path=where, remedy="add a line for each picture")
    for row in found:
        for column, value in zip(columns.values(), row.values, strict=True):
            if not value:
                raise _refusal(
                    where, row.line, f"has no {column}", value, "fill it in, or remove the line"
                )
    return found


def pictures(url: str, root: str, listed: Sequence[Row]) -> tuple[Tree, list[str]]:
    """The files that the first value of each row names, below `root` or else beside the list.

    Raises Refusal for a path that leaves that folder, and for one where there is no file.
    """
    beside = url.rpartition("/")[0] or ("/" if url.startswith("/") else ".")
    tree = files.open_tree(root or beside, "listed")
    paths = []
    for row in listed:
        path = row.values[0].removeprefix("./")
        if path.startswith("/") or ".." in path.split("/") or "\\" in path:
            error = f"has '{path}', which leaves the folder {tree.where}"
            raise _refusal(
                redact(url),
                row.line,
                error,
                path,
                "write paths relative to it, or say data.source.root",
            )
        if path not in tree:
            error = f"names '{path}', which is not in {tree.where}"
            raise _refusal(
                redact(url), row.line, error, path, "put it there, or say data.source.root"
            )
        paths.append(path)
    return tree, paths


def is_list(url: str) -> bool:
    return url.lower().endswith(SUFFIXES)


def _suffix(url: str) -> str:
    for suffix in SUFFIXES:
        if url.lower().endswith(suffix):
            return suffix
    raise Refusal(
        "is no list of pictures",
        path=redact(url),
        value=url,
        remedy=f"name a file that ends in {' '.join(SUFFIXES)}",
    )


def _delimited(text: str, delimiter: str, columns: Mapping[str, str], where: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        names = [name.strip() for name in header]
        for role, column in columns.items():
            if column not in names:
                raise rows.no_column(role, column, names, where)
        places = [names.index(column) for column in columns.values()]
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                error = f"has {len(fields)} fields, and the header {len(header)}"
                raise _refusal(
                    where, reader.line_num, error, fields, "quote fields that hold a delimiter"
                )
            yield Row(reader.line_num, tuple(fields[place].strip() for place in places))
    except csv.Error as error:
        raise _refusal(
            where, reader.line_num, f"cannot be read: {error}", None, "mend its quotes"
        ) from error


def _json(text: str, columns: Mapping[str, str], where: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            held = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _refusal(
                where, number, f"is no JSON: {error}", line[:80], "write an object a line"
            ) from error
        if not isinstance(held, dict):
            raise _refusal(where, number, "is no JSON object", line[:80], "write an object a line")
        for role, column in columns.items():
            value = held.get(column)
            if column not in held:
                raise rows.no_column(role, column, held, f"{where}, line {number}")
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise _refusal(
                    where, number, f"'{column}' is neither words nor an integer", value, "write one"
                )
        yield Row(number, tuple(str(held[column]).strip() for column in columns.values()))


def _refusal(where: str, line: int, error: str, value: object, remedy: str) -> Refusal:
    return Refusal(f"line {line} {error}", path=where, value=value, remedy=remedy)
