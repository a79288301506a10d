"""What the table concludes from runs whose scores are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cluster.environment import code
from search.studies import table, words, writing
from search.studies.folder import Entry, Folder
from search.studies.rows import Table
from tests.commands import cli

ROWS = 200
Scores = dict[str, Sequence[float]]
Make = Callable[..., Table]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make({"a": [.9, .8], "b": [.7, .6]}, margin=.01)`: a table of runs with these test accuracies."""

    def fabricate(scores: Scores, hits: dict[str, np.ndarray] | None = None, **study: Any) -> Table:
        folder = Folder(str(tmp_path / "asked"))
        tree = {
            **{"name": "asked", "question": "Which is better?", "recipe": "recipes/digits.yaml"},
            **{"arms": {arm: {} for arm in scores}, "metric": "test/accuracy"},
            **{"seeds": max(map(len, scores.values())), **study},
        }
        (tmp_path / "asked").mkdir(exist_ok=True)
        (tmp_path / "asked" / "study.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        entries = []
        for arm, found in scores.items():
            for seed, score in enumerate(found):
                run = f"{arm}-{seed}"
                rows = hits[arm][seed] if hits else np.arange(ROWS) < round(score * ROWS)
                written(tmp_path / run, float(score), rows)
                entries.append(Entry(arm, seed, run, "digest", "finished"))
        folder.write_entries(entries, arms={arm: {"arm": arm} for arm in scores}, status="finished")
        return table.read(folder)

    return fabricate


def written(run: Path, score: float, hits: np.ndarray) -> None:
    run.mkdir(exist_ok=True)
    summary = {"status": "finished", "scores": {"test/accuracy": score}, "seconds": 2.0}
    (run / "summary.json").write_text(
        json.dumps({**summary, "samples": 100, "opened": {"test": 1}})
    )
    (run / "env.json").write_text(json.dumps({"code": code(), "commit": "c0ffee"}))
    counts = {"test": {"cat": ROWS // 2, "dog": ROWS // 2}}
    (run / "data.json").write_text(json.dumps({"counts": counts}))
    frame = {"split": "test", "id": range(ROWS), "label": 1, "prediction": hits.astype(int)}
    pd.DataFrame(frame).to_parquet(run / "predictions.parquet")


def verdicts(found: Table) -> dict[str, str]:
    return {each.arm: each.verdict for each in found.compared}


def test_differences_are_paired_by_seed(make: Make) -> None:
    """Seeds differ by far more than arms do: only in pairs can the difference be seen."""
    base = [0.60, 0.70, 0.80, 0.90]
    found = make({"a": base, "b": [x + 0.02 + 0.001 * n for n, x in enumerate(base)]})
    assert verdicts(found) == {"b": "better"}
    apart = make({"a": base, "b": [x + 0.02 + 0.001 * n for n, x in enumerate(base)]}, paired=False)
    assert verdicts(apart) == {"b": "tie"} and apart.compared[0].gap.test == "Welch"
    less = make({"a": base, "b": [x - 0.05 + 0.001 * n for n, x in enumerate(base)]})
    assert verdicts(less) == {"b": "worse"}
    assert verdicts(make({"a": base, "b": [x - 0.05 + 0.001 * n for n, x in enumerate(base)]}, mode="min")) == {"b": "better"}  # fmt: skip


def test_equal_arms_are_a_tie_and_the_margin_makes_small_ones_too(make: Make) -> None:
    same = make({"a": [0.9, 0.8, 0.85], "b": [0.9, 0.8, 0.85]})
    assert verdicts(same) == {"b": "tie"} and same.compared[0].adjusted == 1.0
    assert same.ties == ["b"] and "A tie with b" in " ".join(words.sentences(same))
    near = {"a": [0.9, 0.8, 0.85], "b": [0.905, 0.806, 0.855]}
    assert verdicts(make(near)) == {"b": "better"}
    assert verdicts(make(near, margin=0.01)) == {"b": "tie"}


def test_many_comparisons_are_adjusted(make: Make) -> None:
    source = np.random.default_rng(0)
    base = [0.80, 0.82, 0.84]
    arms = {f"arm {n}": [x + y for x, y in zip(base, source.normal(0, 0.01, 3), strict=True)] for n in range(8)}  # fmt: skip
    found = make({"base": base, **arms})
    assert len(found.compared) == 8
    assert all(each.adjusted >= each.gap.p for each in found.compared)
    everything = make({"base": base, **arms}, compare="all")
    assert len(everything.compared) == 36


def test_single_runs_are_held_against_each_other_row_by_row(make: Make) -> None:
    hits = {"a": np.array([np.arange(ROWS) < 100]), "b": np.array([np.arange(ROWS) < 140])}
    found = make({"a": [0.6], "b": [0.7]}, hits=hits)
    (versus,) = found.compared
    assert versus.gap.test == "McNemar" and versus.verdict == "better"
    assert versus.rows == "40 rows only b gets right, 0 only a"
    assert any("has no spread: a, b" in line for line in found.warnings)
    said = " ".join(words.sentences(found))
    assert "On these rows its one network differs from every other beyond chance" in said
    assert "Of the arms one run each says nothing" in said and "every other arm" not in said
    near = {"a": hits["a"], "b": np.array([np.arange(ROWS) < 102])}
    said = " ".join(words.sentences(make({"a": [0.6], "b": [0.61]}, hits=near)))
    assert "its one network cannot be told from that of a (McNemar)" in said


def test_one_pair_that_is_left_of_several_seeds_is_not_tested(make: Make) -> None:
    found = make({"a": [0.9, 0.92], "b": [0.7, 0.5]})  # the second of b is at chance
    (versus,) = found.compared
    assert versus.gap.n == 1 and versus.verdict == "untested" and not versus.gap.test
    assert "Nothing is tested: of b one run counts." in words.sentences(found)
    assert all("one run of each" not in said for said in words.sentences(found))
    assert found.ties == [] and found.untested == ["b"], "what is not tested is no tie"
    marks = [row[6] for row in writing.lines(found)[1]]
    assert marks == ["best", "untested"], "and cannot be told from nothing"
    assert "Not all runs count: of b 1 of 2 (1 collapsed)." in words.sentences(found)


def test_arms_of_seeds_of_their_own_are_listed_and_not_paired(
    make: Make,
) -> None:
    scores = {"a": [0.941, 0.95, 0.93], "b": [0.956, 0.94, 0.98]}
    folder = make(scores, paired=False).folder.url
    said = cli("study", folder, "diff", "a", "b")
    assert said.code == 0, said.err
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[0] == ["arm", "seed", "test/accuracy"]
    assert lines[1] == ["a", "0", "94.1", "%"] and lines[4] == ["b", "1000003", "95.6", "%"]
    assert "difference" not in said.out and "−1.5" not in said.out
    assert "(Welch, this comparison alone)" in said.out
    paired = cli("study", make(scores).folder.url, "diff", "a", "b").out
    assert "0     94.1 %  95.6 %  −1.5 points" in paired


@pytest.mark.parametrize("apart", [0.0, 0.1])
def test_where_all_seeds_agree_there_is_no_interval(make: Make, apart: float) -> None:
    scores = {"a": [0.7, 0.8, 0.6], "b": [0.7 + apart, 0.8 + apart, 0.6 + apart]}
    folder = make(scores).folder.url
    said = cli("study", folder, "diff", "b", "a")
    assert said.code == 0 and "interval" not in said.out, said.out
    other = make({"a": [0.7, 0.8, 0.6], "b": [0.75, 0.8, 0.62]}).folder.url
    assert "95 % interval over seeds and rows" in cli("study", other, "diff", "b", "a").out


def test_some_arms_are_tested_and_others_not(make: Make) -> None:
    scores = {"a": [0.9, 0.92, 0.91], "b": [0.7, 0.72, 0.715], "c": [0.8, 0.5, 0.5]}
    found = make(scores)
    assert words.sentences(found)[1:4] == [
        "It differs from b beyond chance.",
        "Not tested beside it, for want of runs: c.",
        "Not all runs count: of c 1 of 3 (2 collapsed).",
    ]


def test_many_arms_that_lost_runs_are_summed(make: Make) -> None:
    lossy = {f"arm {n}": [0.8, 0.81, 0.5] for n in range(5)}
    told = words.sentences(make({"base": [0.8, 0.81, 0.82], **lossy}))
    assert "Not all runs count: of 5 arms 10 of 15 (5 collapsed)." in told


def test_an_arm_that_alone_has_runs_is_not_the_best(make: Make) -> None:
    found = make({"a": [0.9, 0.91], "b": []})
    said = words.sentences(found)
    assert said[:2] == [
        "a alone has a score: test accuracy 90.5 % ± 0.7 (2 seeds).",
        "Nothing is compared.",
    ]
    assert [row[6] for row in writing.lines(found)[1]] == ["", "untested"]


def test_equal_gaps_of_few_seeds_are_no_certainty(make: Make) -> None:
    found = make({"a": [0.625, 0.75], "b": [0.75, 0.875]})
    assert found.compared[0].gap.test == "signs" and verdicts(found) == {"b": "tie"}


def test_less_is_better_of_what_is_a_loss(make: Make) -> None:
    found = make({"a": [0.9, 0.8, 0.7], "b": [0.7, 0.61, 0.5]}, metric="test/loss")
    assert not found.study.upwards and found.rows[0].mean is None, "its runs have no such score"
    assert make({"a": [0.9], "b": [0.8]}, metric="test/loss", mode="max").study.upwards


def test_rows_widen_the_interval_of_seeds(make: Make) -> None:
    source = np.random.default_rng(1)
    hits = {arm: source.uniform(size=(3, ROWS)) < share for arm, share in (("a", 0.7), ("b", 0.8))}
    found = make({arm: each.mean(axis=1).tolist() for arm, each in hits.items()}, hits=hits)
    gap = found.compared[0].gap
    assert gap.rows_low is not None and gap.rows_high is not None
    assert gap.rows_low < gap.mean < gap.rows_high


def test_chance_is_a_collapse_and_no_part_of_the_mean(make: Make) -> None:
    found = make({"a": [0.9, 0.92, 0.91], "b": [0.9, 0.5, 0.91]})
    row = found.rows[1]
    assert row.mean and row.mean.n == 2 and row.mean.mean == pytest.approx(0.905)
    assert row.told() == ["1 collapsed (seed 1)"]
    assert found.compared[0].gap.n == 2, "paired on the seeds that both have"
    assert any("b, seed 1, collapsed" in line for line in found.warnings)


def test_a_run_that_collapsed_counts_by_no_score(make: Make, tmp_path: Path) -> None:
    """Its loss is a number, and says as little as its accuracy."""
    asked = make({"good": [0.9, 0.91], "dead": [0.5, 0.51]})
    for arm, losses in {"good": [0.3, 0.2], "dead": [9e9, 1.0]}.items():
        for seed, loss in enumerate(losses):
            path = tmp_path / f"{arm}-{seed}" / "summary.json"
            summary = json.loads(path.read_text())
            summary["scores"]["test/loss"] = loss
            path.write_text(json.dumps(summary))
    file = Path(asked.folder.url, "study.yaml")
    file.write_text(file.read_text().replace("test/accuracy", "test/loss"))
    found = table.read(asked.folder)
    dead = {row.arm: row for row in found.rows}["dead"]
    assert dead.mean is None and [each.state for each in dead.results] == ["collapsed"] * 2
    assert found.ties == [] and found.best and found.best.arm == "good"
    assert any("naming the largest class" in line for line in found.warnings)


def test_a_damaged_run_is_named_and_hides_no_other(make: Make, tmp_path: Path) -> None:
    asked = make({"a": [0.9, 0.91], "b": [0.8, 0.81]})
    (tmp_path / "b-1" / "summary.json").write_text('{"status": "fini')
    found = table.read(asked.folder)
    damaged = found.rows[1].results[1]
    assert damaged.state == "failed" and "b-1" in damaged.why and "JSON" in damaged.why
    assert found.rows[0].mean and found.rows[0].mean.n == 2


def test_claims_are_judged(make: Make) -> None:
    claims = [
        {"arm": "a", "value": 0.9, "source": "inside our interval", "scale": None},
        {"arm": "a", "value": 0.5, "source": "far outside", "scale": None},
        {"arm": "a", "value": 0.5, "source": "generous", "tolerance": 0.5, "scale": None},
        {"arm": "b", "over": "a", "value": -0.2, "source": "the difference", "scale": None},
        {"arm": "b", "over": "a", "value": -0.01, "source": "other data"},
        {"arm": "b", "over": "a", "value": 0.01, "source": "other data, reversed"},
        {
            "arm": "a",
            "value": 0.9,
            "source": "another metric",
            "metric": "test/loss",
            "scale": None,
        },
    ]
    found = make({"a": [0.9, 0.89, 0.91], "b": [0.7, 0.695, 0.705]}, claims=claims)
    told = [(each.verdict, each.because) for each in found.claims]
    assert [verdict for verdict, _ in told] == [
        *("reproduced", "not reproduced", "reproduced", "reproduced"),
        *("not comparable", "not comparable", "not run"),
    ]
    assert "the direction is the same" in told[4][1] and "is the other" in told[5][1]
    assert "tolerance 50 points" in told[2][1] and "no run" in told[6][1]


SEEN = {"a": [0.82, 0.8, 0.81, 0.83], "b": [0.88, 0.93, 0.86, 0.9]}  # b: +7.8 ± 3.4 points
WIDE = {"a": [0.82, 0.6, 0.81, 0.95], "b": [0.88, 0.93, 0.86, 0.9]}  # b: +9.8 ± 28; a: ± 23


@pytest.mark.parametrize(
    ("scores", "claim", "verdict", "why"),
    [
        (SEEN, {"arm": "a", "value": 0.82}, "reproduced", "79.4 to 83.6 %"),
        (SEEN, {"arm": "a", "value": 0.9}, "not reproduced", "79.4 to 83.6 %"),
        (WIDE, {"arm": "a", "value": 0.9}, "cannot tell", "is wider than ± 5 points"),
        (WIDE, {"arm": "b", "value": 0.5}, "not reproduced", "interval"),
        (SEEN, {"arm": "b", "over": "a", "value": 0.09}, "reproduced", "interval"),
        (SEEN, {"arm": "b", "over": "a", "value": -0.3}, "not reproduced", "interval"),
        (SEEN, {"arm": "b", "over": "a", "value": 0}, "not reproduced", "interval"),
        (WIDE, {"arm": "b", "over": "a", "value": 0.1}, "cannot tell", "holds 0 as well"),
        (WIDE, {"arm": "b", "over": "a", "value": -0.1}, "cannot tell", "holds 0 as well"),
        (WIDE, {"arm": "b", "over": "a", "value": 0}, "cannot tell", "say a tolerance"),
        # Of the same numbers with a tolerance, what the interval holds and not what its middle is.
        (SEEN, {"arm": "a", "value": 0.82, "tolerance": 0.05}, "reproduced", "tolerance 5 points"),
        (SEEN, {"arm": "a", "value": 0.82, "tolerance": 0.01}, "cannot tell", "79.4 to 83.6 %"),
        (SEEN, {"arm": "a", "value": 0.9, "tolerance": 0.05}, "not reproduced", "79.4 to 83.6 %"),
        (WIDE, {"arm": "a", "value": 0.8, "tolerance": 0.05}, "cannot tell", "tolerance"),
        (WIDE, {"arm": "a", "value": 0.5, "tolerance": 0.5}, "reproduced", "tolerance"),
        ({"a": [0.8], "b": [0.9]}, {"arm": "a", "value": 0.8}, "cannot tell", "one run"),
        ({"a": [0.8] * 3, "b": [0.9] * 3}, {"arm": "a", "value": 0.8}, "cannot tell", "all seeds"),
    ],
)
def test_a_claim_is_reproduced_where_the_interval_can_tell(
    make: Make, scores: Scores, claim: dict[str, Any], verdict: str, why: str
) -> None:
    found = make(scores, claims=[{**claim, "source": "printed", "scale": None}])
    (told,) = found.claims
    assert told.verdict == verdict and why in told.because, told


def test_a_claimed_difference_is_not_reproduced_by_what_the_table_calls_a_tie(make: Make) -> None:
    """Alone p is .026; among three comparisons it is a tie."""
    scores = {"a": [0.96, 0.95, 0.97], "b": [0.904, 0.890, 0.906], "c": [0.878, 0.802, 0.855]}
    claims = [{"arm": "c", "over": "a", "value": -0.12, "source": "printed", "scale": None}]
    assert make(scores, claims=claims, compare="all").claims[0].verdict == "cannot tell"


def test_the_margin_is_the_tolerance_of_a_claim_of_no_difference(make: Make) -> None:
    near = {"a": [0.9, 0.8, 0.85], "b": [0.901, 0.8011, 0.8512]}
    claims = [{"arm": "b", "over": "a", "value": 0, "source": "printed", "scale": None}]
    assert make(near, claims=claims, margin=0.01).claims[0].verdict == "reproduced"
    assert make(near, claims=claims).claims[0].verdict == "not reproduced"


def test_a_factor_is_compared_within_the_others(make: Make, tmp_path: Path) -> None:
    names = ["x 1, plain", "x 1, good", "x 2, plain", "x 2, good"]
    factors = {"x": {"x 1": {}, "x 2": {}}, "way": {"plain": {}, "good": {}}}
    scores = {name: [0.6 + 0.1 * n, 0.62 + 0.1 * n] for n, name in enumerate(names)}
    found = make(scores, factors=factors, arms={}, compare="way")
    values = {name: dict(zip(("x", "way"), name.split(", "), strict=True)) for name in names}
    found.folder.amend(arms=values)
    again = table.read(found.folder)
    pairs = [(each.arm, each.other) for each in again.compared]
    assert pairs == [("x 1, good", "x 1, plain"), ("x 2, good", "x 2, plain")]
    headings, rows = writing.lines(again)
    assert "difference" in headings and any("to x 2, plain" in cell for cell in rows[3])


def test_text_of_all_kinds(make: Make) -> None:
    found = make({"a_b": [0.9, 0.8], "50 % & more": [0.7, 0.6]})
    assert r"50 \% \& more" in writing.latex(found) and r"a\_b" in writing.latex(found)
    assert "| 50 % & more | 2 |" in writing.markdown(found)
    tree = json.loads(writing.written(found, "json"))
    assert tree["arms"][1]["beside"]["other"] == "a_b" and tree["cells"][0]["run"] == "a_b-0"
    assert writing.frame(found)["test/accuracy"].tolist() == [0.9, 0.8, 0.7, 0.6]


def test_a_backslash_is_one_in_a_paper(make: Make) -> None:
    claims = [{"arm": "a", "value": 0.5, "source": r"C:\tables {1}", "scale": None}]
    told = writing.latex(make({"a": [0.9, 0.8], "b": [0.7, 0.6]}, claims=claims))
    assert r"Source: C:\textbackslash{}tables \{1\}." in told


def test_what_became_of_runs_that_do_not_count_is_counted(make: Make) -> None:
    folder = make({"a": [0.9, 0.8, 0.85], "b": [0.5, 0.5, 0.5], "c": [0.5, 0.5, 0.5]}).folder
    entries = folder.entries
    missing = [replace(each, run="", status="missing") for each in entries if each.arm == "b"][2:]
    folder.write_entries([each for each in entries if (each.arm, each.seed) != ("b", 2)] + missing)
    said = words.sentences(table.read(folder))
    assert "Of b and c no run counts: of b 2 collapsed, 1 missing; of c 3 collapsed." in said
    folder.amend(arms={arm: {"arm": arm} for arm in ("a", "b")})
    assert "Of b no run counts: 2 collapsed, 1 missing." in words.sentences(table.read(folder))


def test_an_option_is_no_dash_in_a_paper(make: Make) -> None:
    assert "-{}-rerun of 1--2" in writing._escaped("--rerun of 1–2")


def test_a_paper_is_told_all_that_the_terminal_is(make: Make) -> None:
    claims = [{"arm": "a_b", "value": 0.5, "source": "R 1 & 2", "scale": None}]
    scores = {"a_b": [0.9, 0.92, 0.91], "lossy": [0.8, 0.5, 0.81]}
    found = make(scores, claims=claims, ceiling=0.85, question="Which of these\n{two} is it?")
    told = writing.latex(found)
    tabular, _, notes = told.partition(r"\end{tabular}")
    assert tabular.startswith("% Which of these {two} is it?\n\\begin"), "a comment is one line"
    head, first, second = (line for line in tabular.splitlines() if line.endswith(r" \\"))
    assert head.count("&") == first.count("&") == second.count("&") == 9
    assert r"& runs & time & images \\" in head and r"1 collapsed (seed 1) & 6 s & 300 \\" in second
    assert r"\begin{tabular}{lrrlllllrr}" in tabular
    for said in (
        r"Too good: a\_b, seeds 0, 1, 2, up to 92.0 \%",
        "Look for a leak",
        "lossy, seed 1, collapsed: no better than naming the largest class",
        r"a\_b has the best mean",
        "Not all runs count: of lossy 2 of 3 (1 collapsed)",
        r"Claimed of a\_b: 50.0 \%; here 91.0 \%, not reproduced",
        r"R 1 \& 2",
    ):
        assert said in notes, said


def test_who_ties_in_the_table_ties_in_the_headline(make: Make) -> None:
    """Against the best arm alone c would be told apart (p .026); among three comparisons it is not."""
    scores = {"a": [0.96, 0.95, 0.97], "b": [0.904, 0.890, 0.906], "c": [0.878, 0.802, 0.855]}
    found = make(scores, compare="all")
    assert {each.arm: each.verdict for each in found.compared if each.other == "a"} == {
        "b": "worse",
        "c": "tie",
    }
    assert found.ties == ["c"]
