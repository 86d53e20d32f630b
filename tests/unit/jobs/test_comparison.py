"""Finished runs compared: on the same rows only, seeds taken together, what was shared counted once."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.report import comparison
from jobs.report.comparison import compare_runs, contestants_of, pages
from jobs.report.outcomes import read_outcome
from jobs.state import FAILED, RunRecord
from method.statistics import mcnemar, paired_difference
from services.common.errors import FailedPrecondition
from tests.finished import Finished, answered


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    return Finished(tmp_path)


def flags(share: float, seed: int, n: int = 60) -> list[bool]:
    rng = random.Random(seed)
    return [rng.random() < share for _ in range(n)]


def std_cot(finished: Finished, run_id: str = "a", right: Sequence[bool] | None = None, **spec: Any) -> RunRecord:
    return finished.run(run_id, {"general": answered("general", right or flags(0.4, 1))}, method="std-cot", **spec)


def nesycd(finished: Finished, run_id: str = "b", **spec: Any) -> RunRecord:
    seed = spec.get("seed", 0)
    shares = {"general": 0.4, "augmented": 0.8, "shuffled": 0.3}
    answers = {name: answered(name, flags(share, 10 * seed + i)) for i, (name, share) in enumerate(shares.items())}
    answers["edited"] = answered("edited", flags(0.9, seed, 20))
    return finished.run(run_id, answers, **spec)


def figures_of(finished: Finished, *records: RunRecord, baseline: str = "") -> dict[str, Any]:
    outcomes = [read_outcome(record, finished.artifacts) for record in records]
    return compare_runs(outcomes, baseline or outcomes[0].name)


def refusal(finished: Finished, *records: RunRecord) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as raised:
        figures_of(finished, *records)
    return raised.value


def test_a_method_stands_by_its_headline_condition_against_the_baseline_on_the_same_rows(finished: Finished) -> None:
    figures = figures_of(finished, std_cot(finished), nesycd(finished))
    base, headline = (row for row in figures["rows"] if row["headline"])
    a, b = flags(0.4, 1), flags(0.8, 1)
    assert (base["title"], base["difference"], headline["condition"]) == ("Std-CoT", None, "augmented")
    assert headline["n"] == 60 and headline["accuracy"] == pytest.approx(sum(b) / 60)
    assert headline["difference"]["p"] == mcnemar(b, a)
    told = tuple(headline["difference"][name] for name in ("mean", "low", "high"))
    assert told == paired_difference(b, a, resamples=1000)
    assert headline["sets"]["legs"]["n"] == 20
    assert headline["average"] == pytest.approx(sum(part["accuracy"] for part in headline["sets"].values()) / 3)


def test_the_other_conditions_are_told_and_all_tests_are_corrected_together(finished: Finished) -> None:
    figures = figures_of(finished, std_cot(finished), nesycd(finished))
    others = {row["condition"]: row for row in figures["rows"] if not row["headline"]}
    assert set(others) == {"general", "shuffled"} and others["general"]["title"] == "NesyCD: Trained, CoT"
    tested = sorted(
        (row["difference"]["p"], row["difference"]["p_holm"]) for row in figures["rows"] if row["difference"]
    )
    assert tested[0][1] == pytest.approx(3 * tested[0][0])
    assert figures["followed"][0]["n"] == 20  # edits are other questions: no pairs


def test_data_sets_count_the_same_where_the_rows_name_them(finished: Finished) -> None:
    rows = answered("general", [True, True, True, False])
    for row, dataset in zip(rows, ("bbh", "bbh", "bbh", "gsm8k"), strict=True):
        row["dataset"] = dataset
    one = finished.run("a", {"general": rows}, method="std-cot")
    two = finished.run("b", {"general": rows}, method="cascod", evaluate={"conditions": ["general", "general_cascade"]})
    # CasCoD's own condition is missing: told, not guessed.
    assert "general_cascade" in refusal(finished, one, two).message
    two = finished.run("c", {"general_cascade": rows}, method="cascod")
    figures = figures_of(finished, one, two)
    assert (figures["kind"], figures["sets"]) == ("data set", {"bbh": 3, "gsm8k": 1})
    assert figures["rows"][0]["average"] == 0.5 and figures["rows"][0]["accuracy"] == 0.75


def test_runs_that_differ_in_their_seed_only_are_one_contestant_with_mean_and_spread(finished: Finished) -> None:
    runs = [std_cot(finished, f"a{s}", flags(0.4, s), seed=s, publish={"alias": f"p{s}"}) for s in (2, 0, 1)]
    runs += [nesycd(finished, f"b{s}", seed=s) for s in (0, 1, 2)]
    figures = figures_of(finished, *runs, baseline="runs/a1")
    base, headline = (row for row in figures["rows"] if row["headline"])
    each = [sum(flags(0.4, s)) / 60 for s in (0, 1, 2)]
    assert base["seeds"] == [0, 1, 2] and base["runs"] == ["runs/a0", "runs/a1", "runs/a2"]
    assert base["accuracy"] == pytest.approx(sum(each) / 3)
    assert (base["spread"]["least"], base["spread"]["most"]) == pytest.approx((min(each), max(each)))
    assert headline["difference"]["p"] < 0.001 and headline["n"] == 60, "a question counts once, not once a seed"


def test_a_question_that_several_seeds_edited_counts_once(finished: Finished) -> None:
    def run(seed: int, edited: Sequence[bool]) -> RunRecord:
        answers = {"augmented": answered("augmented", flags(0.5, 1)), "edited": answered("edited", edited)}
        return finished.run(f"e{seed}", answers, seed=seed)

    (followed,) = figures_of(finished, run(0, [True, True]), run(1, [True, False, True, True]))["followed"]
    assert followed["n"] == 4 and followed["accuracy"] == pytest.approx((1 + 0.5 + 1 + 1) / 4)


def test_the_test_is_named_by_what_was_used_also_for_samples_of_one_seed(finished: Finished) -> None:
    def run(run_id: str, shares: Sequence[int]) -> RunRecord:
        rows = [
            row
            for sample in range(3)
            for row in answered("general", [sample < right for right in shares], sample=sample)
        ]
        return finished.run(run_id, {"general": rows}, method="std-cot", seed=0, data={"train": run_id, "test": "t"})

    figures = figures_of(finished, run("a", [1] * 20), run("b", [2] * 20))
    assert figures["rows"][1]["difference"]["test"] == "permutation" and len(figures["seeds"]) == 1
    for text in pages(figures):
        assert "permutation test" in text and "McNemar" not in text
    for text in pages(figures_of(finished, std_cot(finished, "c"), nesycd(finished, "d"))):
        assert "McNemar" in text and "permutation test" not in text


def test_three_to_twelve_methods_are_compared_each_with_each(finished: Finished) -> None:
    runs = [std_cot(finished, "a"), nesycd(finished, "b"), nesycd(finished, "c", knowledge={"top_k": 1})]
    assert figures_of(finished, *runs[:2])["pairs"] == []
    figures = figures_of(finished, *runs)
    a, b = flags(0.4, 1), flags(0.8, 1)
    first = figures["pairs"][0]
    assert [(one["a"], one["b"]) for one in figures["pairs"]] == [
        ("NesyCD (knowledge.top_k 3)", "Std-CoT"), ("NesyCD (knowledge.top_k 1)", "Std-CoT"),
        ("NesyCD (knowledge.top_k 1)", "NesyCD (knowledge.top_k 3)"),
    ]  # fmt: skip
    assert first["mean"] == pytest.approx((sum(b) - sum(a)) / 60) and first["p"] == mcnemar(b, a)
    assert first["p_holm"] == pytest.approx(3 * first["p"]) and figures["pairs"][2]["p_holm"] == 1
    for text in pages(figures):
        assert "Each against each" in text and "all 3 pairs" in text
    html = pages(figures)[0]
    assert html.count("<table>") == html.count('<div class="scroll"><table>')


def test_many_runs_share_what_intervals_may_draw(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(comparison, "_DRAWS", 3 * 4 * 60 * 300)
    found = comparison.compare_seeds
    monkeypatch.setattr(
        comparison, "compare_seeds", lambda *a, resamples: drawn.append(resamples) or found(*a, resamples=resamples)
    )
    shares: list[tuple[int, int]] = []
    interval = comparison.bootstrap_interval
    monkeypatch.setattr(
        comparison,
        "bootstrap_interval",
        lambda values, resamples: shares.append((len(values), resamples)) or interval(values, resamples=resamples),
    )
    figures = figures_of(finished, std_cot(finished), nesycd(finished))
    assert drawn == [300] * 3, "four rows, of three intervals each"
    assert shares[: 4 * 4] == [*[(20, 300)] * 3, (60, 300)] * 4, "the sets of a row have one interval's draws together"
    assert sum(n * resamples for n, resamples in shares[:16]) + 3 * 60 * 300 <= comparison._DRAWS
    assert figures["followed"][0]["n"] == 20


def test_the_same_seed_again_and_other_settings_are_contestants_of_their_own(finished: Finished) -> None:
    records = [
        std_cot(finished, "a"),
        std_cot(finished, "b"),
        nesycd(finished, "c", knowledge={"top_k": 1}),
        nesycd(finished, "d"),
    ]
    titles = [c.title for c in contestants_of(read_outcome(r, finished.artifacts) for r in records)]
    assert titles == [
        "Std-CoT (runs/a)",
        "Std-CoT (runs/b)",
        "NesyCD (knowledge.top_k 1)",
        "NesyCD (knowledge.top_k 3)",
    ]


def test_runs_whose_first_three_differences_are_the_same_have_titles_of_their_own(finished: Finished) -> None:
    """A title tells whose money and whose figures those are."""
    same = {"gate": 0.1, "kinds": ["fact"], "mode": "hybrid"}
    runs = [
        nesycd(finished, "b", knowledge=same | {"top_k": 1}),
        nesycd(finished, "c", knowledge=same | {"top_k": 2}),
        nesycd(finished, "d"),
    ]
    titles = [row["title"] for row in figures_of(finished, *runs)["rows"] if row["headline"]]
    assert len(set(titles)) == 3, titles


def test_what_runs_share_is_counted_once_and_told(finished: Finished) -> None:
    figures = figures_of(finished, std_cot(finished, "a"), nesycd(finished, "b", shared="a"))
    cost = figures["costs"][1]
    assert cost["calls"] == 80 and cost["reused"]["calls"] == 80 and "rationalize" in cost["reused_stages"]
    total = figures["total"]
    assert (total["once"]["calls"], total["apart"]["calls"]) == (80, 120)
    assert total["once"]["cost_usd"] == pytest.approx(0.0246)


@pytest.mark.parametrize("change", ["ids", "gold"])
def test_other_test_rows_are_refused_in_a_sentence(change: str, finished: Finished) -> None:
    rows = answered("general", flags(0.5, 2))
    rows = rows[:-1] if change == "ids" else [*rows[:-1], rows[-1] | {"gold": "25"}]
    error = refusal(finished, std_cot(finished, "a"), finished.run("b", {"general": rows}, method="std-cot", seed=1))
    assert error.reason == "RUNS_NOT_COMPARABLE" and "row-59" in error.message and "data.test" in error.message


def test_a_run_that_has_not_succeeded_or_whose_files_are_gone_is_refused(finished: Finished) -> None:
    good, bad = std_cot(finished, "a"), std_cot(finished, "b", seed=1)
    bad.state = FAILED
    error = refusal(finished, good, bad)
    assert (error.reason, error.message[:15]) == ("RUN_NOT_SUCCEEDED", "runs/b is faile")
    gone = std_cot(finished, "c", seed=2)
    finished.artifacts.remove("stages", "evaluate", gone.stages[-2].digest, "answers.general.jsonl")
    assert refusal(finished, good, gone).reason == "RUN_FILES_MISSING"
    damaged = std_cot(finished, "d", seed=3)
    finished.artifacts.write(b'{"conditions": ', "stages", "evaluate", damaged.stages[-2].digest, "summary.json")
    assert refusal(finished, good, damaged).reason == "RUN_FILES_MISSING"


def test_the_pages_hold_the_figures_and_nothing_else_is_needed(finished: Finished) -> None:
    task = "<img src=x> | legs"
    a = finished.run("a", {"general": answered("general", flags(0.4, 1), task=task)}, method="std-cot")
    b = finished.run("b", {"augmented": answered("augmented", flags(0.8, 1), task=task)}, seed=1)
    c = finished.run("c", {"augmented": answered("augmented", flags(0.7, 3), task=task)}, seed=2)
    figures = figures_of(finished, a, b, c)
    html, markdown = pages(figures)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    for text in (html, markdown):
        assert (
            f"{figures['rows'][0]['accuracy']:.1%}" in text and "Std-CoT" in text and "runs/a, runs/b, runs/c" in text
        )
        assert "<img" not in text and "baseline" in text
    assert "over 2 seeds" in html and "| 2, sd " in markdown
    assert "<script" not in html and "src=" not in html.replace("img src=x", "") and "<svg" in html
    assert html.count("<table>") == html.count('<div class="scroll"><table>')


def test_runs_of_several_base_models_are_compared_with_a_note(finished: Finished) -> None:
    other = std_cot(finished, "b", student={"base_model": "other"})
    assert "base models" in figures_of(finished, std_cot(finished), other)["notes"][0]


def test_runs_that_other_code_evaluated_are_named_in_a_note(finished: Finished) -> None:
    def run(run_id: str, seed: int, **manifest: str) -> RunRecord:
        files = {"evaluate/manifest.json": json.dumps({"run": run_id, "seconds": 1.0, **manifest})}
        answers = {"general": answered("general", flags(0.5, seed))}
        return finished.run(run_id, answers, files=files, method="std-cot", seed=seed)

    former, first, second = run("former", 0), run("first", 1, code="n"), run("second", 2, code="n")
    assert figures_of(finished, first, second)["notes"] == []
    (note,) = (figures := figures_of(finished, former, first, second))["notes"]
    assert "(runs/former by another" in note and "runs/first" not in note
    assert all("runs/former by another" in text for text in pages(figures))
