"""A study's table for a terminal, a paper, a page or a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from datasets.refusal import Refusal
from search import numbers
from search.studies import firsts, narrow, words
from search.studies.amounts import points, range_of
from search.studies.rows import Compared, Result, Table

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

KINDS = ("terminal", "md", "latex", "csv", "json")


def lines(table: Table) -> tuple[list[str], list[list[str]]]:
    """(headings, a row of text an arm)."""
    study, base = table.study, table.baseline
    # Where not all are held against one arm, each row names its own.
    several = len({each.other for each in table.compared}) > 1 and study.compare != "all"
    ties, best = table.ties, table.best
    alone = sum(bool(row.mean) for row in table.rows) == 1  # the best of one is none
    headings = [
        "arm",
        "n",
        f"{study.metric}, mean ± sd",
        "95 % interval",
        "difference" if several else f"beside {base}",
        "p",
    ]
    headings += ["verdict", "runs", "time", "images"]
    rows = []
    for row in table.rows:
        found, versus = row.mean, table.versus(row.arm)
        mean, interval = "–", "–"
        if found:
            spread = (
                f" ± {words.plain_points(study.metric, found.sd)}" if found.sd is not None else ""
            )
            mean = f"{numbers.score(study.metric, found.mean)}{spread}"
            interval = range_of(study.metric, found)
        mark = ""
        if best and row.arm == best.arm and not alone:
            mark = "best"
        elif row.arm in ties:
            mark = "= best"
        rows.append(
            [
                row.arm,
                str(found.n if found else 0),
                mean,
                interval,
                _beside(table, versus, several)
                if versus
                else "baseline"
                if several or row.arm == base
                else "–",
                words.p_value(versus.adjusted) if versus else "",
                ", ".join(filter(None, (versus.verdict if versus else "", mark))),
                "; ".join(row.told()) or ("all" if row.results else "none"),
                numbers.seconds(row.seconds),
                numbers.short(row.samples),
            ]
        )
    return headings, rows


def _beside(table: Table, versus: Compared, several: bool) -> str:
    return f"{words.gap(table, versus)} to {versus.other}" if several else words.gap(table, versus)


def claimed(table: Table) -> tuple[list[str], list[list[str]]]:
    """(headings, a row of text a claim)."""
    metric = table.study.metric
    headings = ["claim", "printed", "here", "verdict", "source"]
    rows = []
    for each in table.claims:
        claim = each.claim
        value = numbers.score(claim.metric or metric, claim.value)
        if claim.over is not None:
            value = points(claim.metric or metric, claim.value)
        who = claim.arm if claim.over is None else f"{claim.arm} beside {claim.over}"
        verdict = f"{each.verdict}: {each.because}" if each.because else each.verdict
        source = f"{claim.source} ({claim.note})" if claim.note else claim.source
        rows.append([who, value, each.ours, verdict, source])
    return headings, rows


def frame(table: Table) -> pd.DataFrame:
    """A row a cell, with its plain numbers: arm, the factors, seed, state, score, seconds, samples, run, commit, data, why."""
    import pandas as pd

    return pd.DataFrame(_cells(table))


def _cells(table: Table) -> list[dict[str, Any]]:
    return [
        {
            "arm": row.arm,
            **row.values,
            "seed": each.entry.seed,
            "state": each.state,
            table.study.metric: each.score,
            "seconds": each.seconds,
            "samples": each.samples,
            "run": each.entry.run,
            "commit": each.commit,
            "data": each.entry.digest[:12],
            "why": each.why,
        }
        for row in table.rows
        for each in row.results
    ]


def tree(table: Table) -> dict[str, Any]:
    """The whole as plain JSON."""
    arms = []
    for row in table.rows:
        versus = table.versus(row.arm)
        arms.append(
            {
                "arm": row.arm,
                "values": dict(row.values),
                "mean": vars(row.mean) if row.mean else None,
                "beside": None
                if versus is None
                else {
                    "other": versus.other,
                    **vars(versus.gap),
                    "adjusted": versus.adjusted,
                    "verdict": versus.verdict,
                    "detectable": versus.detectable,
                    "rows": versus.rows,
                },
                "told": row.told(),
                "seconds": row.seconds,
                "samples": row.samples,
            }
        )
    claims = [
        {
            **each.claim.model_dump(exclude_none=True),
            "ours": each.ours,
            "verdict": each.verdict,
            "because": each.because,
        }
        for each in table.claims
    ]
    return {
        "study": table.study.name,
        "question": table.study.question,
        "folder": table.folder.url,
        "status": table.state.get("status"),
        "metric": table.study.metric,
        "said": words.sentences(table),
        "arms": arms,
        "ties": table.ties,
        "claims": claims,
        "warnings": table.warnings,
        "seconds": table.state.get("seconds"),
        "cells": _cells(table),
        "before": [vars(each) for each in firsts.of(table.folder, table.state)],
    }


def written(table: Table, kind: str) -> str:
    """The table as Markdown, LaTeX, CSV (a row a cell) or JSON."""
    if kind == "md":
        return markdown(table)
    if kind == "latex":
        return latex(table)
    if kind == "csv":
        return frame(table).to_csv(index=False)
    if kind == "json":
        return json.dumps(_finite(tree(table)), indent=1)
    raise Refusal(
        f"'{kind}' is none of {', '.join(KINDS)}",
        path="table",
        value=kind,
        remedy="say one of them",
    )


def markdown(table: Table) -> str:
    """Question, answer, table, claims and warnings."""
    parts = [f"**{table.study.question}** {' '.join(words.sentences(table))}", _grid(*lines(table))]
    if table.claims:
        parts.append(_grid(*claimed(table)))
    if table.warnings:
        parts.append("\n".join(f"- {warning}" for warning in table.warnings))
    return "\n\n".join(parts) + "\n"


def latex(table: Table) -> str:
    """A tabular for booktabs; beneath it, in plain lines, what has to be known beside it."""
    headings, rows = lines(table)
    columns = "l" + "r" * 2 + "l" * 5 + "r" * 2
    head, *body = (" & ".join(map(_escaped, row)) + r" \\" for row in [headings, *rows])
    lead = "% " + " ".join(table.study.question.split())
    return "\n".join(
        [
            lead,
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
            r"\par\medskip",
            r"{\footnotesize\raggedright",
            *(rf"{_escaped(note)}\par" for note in _noted(table)),
            "}",
            "",
        ]
    )


def _noted(table: Table) -> list[str]:
    """The answer, the claims and the warnings, each in a line."""
    judged = [
        f"Claimed of {who}: {printed}; here {ours}, {verdict}. Source: {source}."
        for who, printed, ours, verdict, source in claimed(table)[1]
    ]
    noted = [" ".join(words.sentences(table)), *judged, *table.warnings]
    return [" ".join(note.split()) for note in noted]


def drawn(table: Table) -> list[RenderableType]:
    """For a terminal."""
    shown: list[RenderableType] = [*narrow.drawn(*lines(table)), "", *words.sentences(table)]
    if table.claims:
        shown += ["", *narrow.drawn(*claimed(table))]
    if table.warnings:
        shown += ["", *(f"- {warning}" for warning in table.warnings)]
    return shown


def states(table: Table) -> dict[str, Any]:
    """How far it is, as plain JSON."""
    cells = [
        {"arm": row.arm, "seed": each.entry.seed, "state": each.state, "why": each.why}
        for row in table.rows
        for each in row.results
    ]
    done = sum(each.entry.status == "finished" for row in table.rows for each in row.results)
    return {"status": table.state.get("status"), "done": done, "of": len(cells), "cells": cells}


def drawn_states(table: Table) -> list[RenderableType]:
    """A row an arm, a column a seed."""
    seeds = sorted({each.entry.seed for row in table.rows for each in row.results})
    rows = []
    for row in table.rows:
        by_seed = {each.entry.seed: each for each in row.results}
        rows.append([row.arm, *(_state(table, by_seed.get(seed)) for seed in seeds)])
    found = states(table)
    said = f"{found['status']}: {found['done']} of {found['of']} runs"
    if spent := table.state.get("spent"):
        said += f"; {spent}"
    elif found["status"] in ("interrupted", "stopped"):
        said += "; the same command goes on"
    return [*narrow.blocks(["arm", *(f"seed {seed}" for seed in seeds)], rows), "", said]


def _state(table: Table, result: Result | None) -> str:
    if result is None:
        return "–"
    if result.state == "finished" and result.score is not None:
        return numbers.score(table.study.metric, result.score)
    return result.state


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    return "\n".join([line(headings), "|" + "---|" * len(headings), *(line(row) for row in rows)])


_LATEX = {
    "\\": r"\textbackslash{}",
    "\0": "{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "±": r"$\pm$",
    "<": "$<$",
    "−": "$-$",
}
_LATEX |= {"–": "--", "^": r"\^{}", "{": r"\{", "}": r"\}", "~": r"\~{}"}
_LATEX |= {">": "$>$", "|": r"\textbar{}", "×": r"$\times$", "…": r"\dots{}", "→": r"$\to$"}


def _escaped(text: str) -> str:
    apart = text.replace("--", "-\0-")  # of an option, which TeX would make a dash
    return "".join(_LATEX.get(letter, letter) for letter in apart)


def _finite(node: Any) -> Any:
    """NaN as null: JSON has no other word for it."""
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and node != node else node
