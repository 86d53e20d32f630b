"""The report says what the stages' files say, safely."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from jobs.artifacts import StageFolder
from jobs.report import make_report
from jobs.report.facts import collect
from jobs.report.mistakes import pair_of
from jobs.report.render import Cell, md, picture
from method import contamination
from method.conditions import CONDITIONS
from method.prompts import Row
from tests.finished import Finished, answered

HOSTILE = '<script>alert(1)</script> | "q" [x](javascript:y) `c` \u202e \x00 \ud800 {{ 7 * 7 }} </td></table>'
ENTRIES = [
    {"kind": "ENTRY_KIND_FACT", "status": "ENTRY_STATUS_ACTIVE", "text": "x", "tags": ["legs"], "sources": [{"caseId": "a"}, {"caseId": "b"}]},
    {"kind": "ENTRY_KIND_SUMMARY", "status": "ENTRY_STATUS_DRAFT", "text": "y", "sources": [{"caseId": "a"}]},
]  # fmt: skip
ANSWERS = {
    "general": answered("general", [True, False, False, False]),
    "augmented": answered("augmented", [False, True, True, True]),
}


class Report:
    """A run's report, made from files."""

    def __init__(self, folder: Path, answers: dict[str, Any], files: dict[str, Any] | None = None, **spec: Any) -> None:
        finished = Finished(folder)
        files = {"extract/entries.jsonl": ENTRIES, **(files or {})}
        self.record = finished.run("r1", answers, files=files, **spec)
        self.stages = {
            (s.name, s.round): StageFolder(finished.artifacts, s.name, s.digest)
            for s in self.record.stages if s.name != "publish"
        }  # fmt: skip
        self.run = {
            "name": "runs/r1", "adapter": "adapters/r1@1", "knowledge_base": "knowledgeBases/r1", "spec": self.record.spec,
            "stages": [
                {"name": "rationalize", "seconds": 2.5, "teacher_calls": 40, "cost_usd": 0.0123},
                {"name": "extract", "seconds": 2.5, "reused_from": "runs/r0"},
            ],
        }  # fmt: skip
        made = make_report(self.run, self.stages)
        self.html, self.markdown = made["report.html"], made["report.md"]

    @property
    def both(self) -> list[str]:
        return [self.html, self.markdown]

    @property
    def facts(self) -> dict[str, Any]:
        return collect(self.run, self.stages)


class Tags(HTMLParser):
    """Every tag of a page, and whether they close each other in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.append(tag)
        if tag not in ("meta", "br", "rect", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_both_forms_hold_accuracy_interval_n_money_and_the_entries_that_were_read(tmp_path: Path) -> None:
    for text in Report(tmp_path, ANSWERS).both:
        assert "75.0%" in text and "25.0%" in text and "0.0123" in text and "Spiders have 8 legs." in text
        assert "1 fact" in text and "1 summary" in text and "3 sources" in text and "1 draft" in text
        assert "1 entries come from more than one case" in text and "wait for a person" in text
        assert "as in runs/r0" in text and "arXiv:2409.13203" in text


@pytest.mark.parametrize("name", CONDITIONS)
def test_any_condition_is_told_by_its_title_and_explained(name: str, tmp_path: Path) -> None:
    report = Report(tmp_path, {name: answered(name, [True, False])})
    for text in report.both:
        assert CONDITIONS[name].title.replace("'", "&#39;") in text or CONDITIONS[name].title in text
    assert report.facts["explained"][name].count(". ") == 1


@pytest.mark.parametrize("method", ["zero-shot", "std-cot", "cascod", "kard", "nesycd-k1"])
def test_any_method_has_a_report(method: str, tmp_path: Path) -> None:
    report = Report(tmp_path, {"general": answered("general", [True, False])}, method=method)
    assert report.facts["method"]["title"] in report.html


def test_what_a_model_or_a_person_wrote_cannot_become_markup_of_the_page(tmp_path: Path) -> None:
    hostile = [
        row | {"text": HOSTILE, "question": HOSTILE, "gold": HOSTILE, "task": HOSTILE, "entries": [{"name": HOSTILE, "text": HOSTILE}]}
        for row in answered("augmented", [False, True, False])
    ]  # fmt: skip
    entries = [ENTRIES[0] | {"tags": [HOSTILE], "kind": HOSTILE, "status": HOSTILE}]
    answers = {"general": answered("general", [False, False, True], task=HOSTILE, text=HOSTILE), "augmented": hostile}
    # A lone half of a surrogate pair cannot be in a UTF-8 file, but can be written in its JSON.
    files = {"extract/entries.jsonl": "\n".join(json.dumps(e) for e in entries)}
    files |= {f"evaluate/answers.{n}.jsonl": "\n".join(json.dumps(r) for r in rows) for n, rows in answers.items()}
    report = Report(tmp_path, answers, files)
    page, text = report.both
    clean = Report(tmp_path / "clean", ANSWERS)
    assert "script" not in Tags(page).names and set(Tags(page).names) <= set(Tags(clean.html).names)
    assert "<script" not in page and "&lt;script&gt;" in page and "{{ 7 * 7 }}" in page
    assert "<script" not in text and not re.search(r"(?<!\\)\]\(javascript", text)
    for form in (page, text):
        assert "\x00" not in form and form.encode("utf-8")


def test_the_page_needs_no_other_file_no_network_and_no_script(tmp_path: Path) -> None:
    page = Report(tmp_path, ANSWERS).html
    assert "<svg" in page and not re.search(r"src=|<link|@import|url\(|<script|https?://", page)


def test_the_page_reads_well_on_a_phone_and_on_paper(tmp_path: Path) -> None:
    page = Report(tmp_path, ANSWERS).html
    style = page[page.index("<style>") : page.index("</style>")]
    screen, _, printed = style.partition("@media print")
    assert 'name="viewport" content="width=device-width' in page
    assert page.count("<table>") == page.count('<div class="scroll"><table>')
    assert "width: 60" not in screen.replace("max-width: 60rem", "") and not re.search(r"width: \d+px", style)
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: ([\d.]+)rem", screen)]
    assert sizes and min(sizes) >= 1, "text is never smaller than 16 pixels"
    assert "overflow: visible" in printed and "<details" not in page
    assert "prefers-color-scheme: dark" in screen


def test_every_figure_is_the_evaluations_own(tmp_path: Path) -> None:
    report = Report(tmp_path, {**ANSWERS, "imported": ANSWERS["augmented"]})
    folder = report.stages["evaluate", 1]
    summary = json.loads(folder.read("summary.json"))
    summary["conditions"]["general"] |= {"accuracy": 0.41, "low": 0.12, "high": 0.93}
    summary["conditions"]["general"]["families"]["legs"] |= {"accuracy": 0.57}
    summary["conditions"]["imported"]["facts"]["held_out"] |= {"accuracy": 0.64}
    summary["comparisons"] = [
        {"a": "imported", "b": "general", "n": 4, "difference": 0.33, "low": 0.22, "high": 0.44, "p": 0.0123}
    ]
    summary["entries"] = [{"name": "n", "text": "Spiders have 8 legs.", "used": 71, "helped": 52, "harmed": 13}]
    folder.write("summary.json", json.dumps(summary).encode())
    for text in make_report(report.run, report.stages).values():
        for figure in ("41.0%", "12%", "93%", "57.0%", "64.0%", "+33.0", "0.012", "71", "52", "13"):
            assert figure in text, figure


def test_rounds_are_told_with_their_hard_cases_and_what_they_gained_on_held_out_rows(tmp_path: Path) -> None:
    report = Report(tmp_path, ANSWERS, rounds=2)
    for (name, number), folder in report.stages.items():
        made = {"n": 10, "accuracy": 0.5 + 0.1 * number, "low": 0.3, "high": 0.8, "gain": 0.1 if number == 2 else None}
        if name == "validate":
            folder.write("manifest.json", json.dumps((folder.manifest() or {}) | made).encode())
    rounds = collect(report.run, report.stages)["rounds"]
    assert [(r["number"], r["hard"], r["entries"], r["gain"]) for r in rounds] == [(1, 30, 33, None), (2, 30, 33, 0.1)]
    for text in make_report(report.run, report.stages).values():
        assert "30 of 90" in text and "60.0% [30%, 80%]" in text and "70.0%" in text and "+10.0" in text


def test_what_validate_measured_of_entries_is_told(tmp_path: Path) -> None:
    line = {
        "entry": "1",
        "text": "Crabs have 9 legs.",
        "used": 7,
        "helped": 0,
        "harmed": 5,
        "own": {"used": 4, "helped": 0, "harmed": 1},
        "cases": 4,
        "fixed": 3,
        "score": -5,
        "retire": True,
    }
    files = {"validate/utility.jsonl": [line, line | {"text": "z", "score": 2, "retire": False}]}
    for text in Report(tmp_path, ANSWERS, files, knowledge={"utility": {"rows": 50}}).both:
        assert "Crabs have 9 legs." in text and "6 of 8 are right now" in text and "kb rollback" in text
    helped = line | {
        "text": "z",
        "helped": 6,
        "own": {"used": 4, "helped": 2, "harmed": 1},
        "score": 1,
        "retire": False,
    }
    facts = Report(
        tmp_path / "b", ANSWERS, {"validate/utility.jsonl": [line, helped]}, knowledge={"utility": {"rows": 9}}
    ).facts
    own, others = facts["knowledge"]["utility"]["effects"]
    assert (own["entries"], own["used"], own["helped"], own["harmed"]) == (2, 8, 2, 2), "it fixes its own case"
    assert (others["entries"], others["used"], others["helped"], others["harmed"]) == (2, 6, 4, 8), (
        "it helps neighbours"
    )


def test_what_validate_measured_before_it_told_own_rows_apart_is_reported_without_that(tmp_path: Path) -> None:
    line = {"entry": "1", "text": "Crabs have 9 legs.", "used": 7, "helped": 1, "harmed": 5, "cases": 4, "fixed": 3, "score": -4, "retire": True}  # fmt: skip
    files = {"validate/utility.jsonl": [line, line | {"text": "z", "score": 2, "retire": False}]}
    for text in Report(tmp_path, ANSWERS, files, knowledge={"utility": {"rows": 50}}).both:
        assert "Crabs have 9 legs." in text and "6 of 8 are right now" in text and "kb rollback" in text
        assert "its own" not in text and "other rows" not in text and "the rows that they came from" not in text


def test_test_rows_that_were_trained_on_are_told(tmp_path: Path) -> None:
    test, training = (
        Row("t1", "legs", "How many legs have 3 mites?", "24"),
        Row("r9", "legs", "How many legs have 3 mites?", "24"),
    )
    found = json.dumps(contamination.check([test], [training]).summary())
    for text in Report(tmp_path, ANSWERS, {"evaluate/contamination.json": found}).both:
        assert "Of 1 test rows, 1 are also a training row" in text and "t1 is the same as training row r9" in text


def test_test_rows_that_the_experts_file_gives_away_have_a_line_of_their_own(tmp_path: Path) -> None:
    test = Row("t1", "legs", "How many legs have 3 mites?", "24")
    found = contamination.check([test], [Row("r9", "legs", "Why?", "24")]).summary()
    found["expert"] = contamination.check([test], [], {"e5": "How many legs have 3 mites?"}).summary()
    answers = {**ANSWERS, "imported": ANSWERS["augmented"]}
    for text in Report(tmp_path, answers, {"evaluate/contamination.json": json.dumps(found)}).both:
        assert "Of 1 test rows, 0 are also a training row" in text
        assert "Of 1 test rows, 1 are also an entry" in text and "t1 is the same as entry e5" in text


def test_mistakes_are_counted_by_kind_and_shown_without_and_with_knowledge(tmp_path: Path) -> None:
    wrong = answered("augmented", [False, False, True])
    wrong[0] |= {"answer": None, "text": "I do not know."}
    report = Report(tmp_path, {"general": answered("general", [True, False, False]), "augmented": wrong})
    mistakes = report.facts["mistakes"]
    assert (mistakes["without"], mistakes["reading"]) == ("general", "augmented")
    assert mistakes["counts"]["augmented"]["no answer"] == 1 and sum(mistakes["counts"]["augmented"].values()) == 2
    assert [(move["title"], move["count"]) for move in mistakes["moves"]] == [
        ("Put right by knowledge", 1), ("Put wrong by knowledge", 1), ("Wrong both ways", 1),
    ]  # fmt: skip
    pair = mistakes["moves"][1]["pairs"][0]
    assert pair["with"]["id"] == pair["without"]["id"] == "row-0" and pair["kind"] == "no answer"
    assert {kind["title"]: len(kind["pairs"]) for kind in mistakes["by_kind"]}["No answer"] == 0, "no example twice"
    for text in report.both:
        assert "I do not know." in text and "so 3 x 8 = 24." in text and "Spiders have 8 legs." in text


@pytest.mark.parametrize(
    ("headline", "conditions", "pair"),
    [
        ("augmented", ["zero_shot", "general", "augmented", "shuffled", "edited"], ("general", "augmented")),
        ("augmented", ["zero_shot", "general", "augmented", "imported"], ("general", "imported")),
        ("augmented_answer", ["augmented_answer"], ("", "augmented_answer")),
        ("general_answer", ["general_answer", "general"], ("general_answer", "")),
        ("zero_shot", ["zero_shot"], ("zero_shot", "")),
    ],
)
def test_a_trained_student_and_the_fullest_knowledge_are_laid_side_by_side(
    headline: str, conditions: list[str], pair: tuple[str, str]
) -> None:
    assert pair_of(headline, conditions) == pair


def test_learning_curves_share_one_field_one_behind_the_other_and_are_thinned() -> None:
    made = picture({"a": [(i, 2.0) for i in range(1, 1001)], "none": [], "b": [(1, 1.0), (1000, 0.5)]})
    a, b = made.lines
    assert len(a.points.split()) <= 202 and a.points.split()[0] == "0.05,0.00"
    assert b.points == "50.05,20.00 100.00,30.00 100.00,30.00" and (b.first, b.last, b.steps) == (1.0, 0.5, 1000)
    assert (a.begins, b.begins, b.place) == (0, 1000, 50), "where the second training begins"


@pytest.mark.parametrize(
    ("steps", "loss", "across", "up"),
    [
        (1000, 2.0, ["0", "500", "1,000"], ["0", "0.5", "1", "1.5", "2"]),
        (137, 3.7, ["0", "50", "100", "150"], ["0", "1", "2", "3", "4"]),
        (3, 0.004, ["0", "1", "2", "3"], ["0", "0.001", "0.002", "0.003", "0.004"]),
        (1, 0.0, ["0", "1"], ["0", "1"]),
    ],
)
def test_the_axes_of_learning_curves_have_round_numbers_so_few_that_they_fit_a_phone(
    steps: int, loss: float, across: list[str], up: list[str]
) -> None:
    made = picture({"a": [(steps, loss)]})
    assert [number for _, number in made.across] == across and [number for _, number in made.up] == up
    assert [made.across[i][0] for i in (0, -1)] == [0, 100]


def test_learning_curves_are_drawn_with_numbers_units_and_where_the_second_training_begins(tmp_path: Path) -> None:
    files = {
        f"train-{name}/history.jsonl": [{"step": s, "loss": 2 / s} for s in (1, 20)]
        for name in ("general", "augmented")
    }
    report = Report(tmp_path, ANSWERS, files)
    assert "train-augmented, begins at the broken line, step 20" in report.html
    plot = report.html[report.html.index('<div class="plot">') :]
    numbers = re.findall(r"<text[^>]*>([^<]+)</text>", plot[: plot.index("</div>")])
    assert numbers == ["0", "0.5", "1", "1.5", "2", "0", "10", "20", "30", "40"] and "optimiser steps" in report.html
    assert plot.count('class="begins') == 1


def test_what_became_of_the_rows_is_counted_stage_by_stage_with_the_reasons(tmp_path: Path) -> None:
    files = {
        "rationalize/rejected.jsonl": [{"reason": "WRONG_ANSWER"}] * 4 + [{"reason": "TEACHER_REFUSED"}],
        "diagnose/responses.jsonl": [{"pass_rate": rate} for rate in (0.0, 0.0, 0.5, 0.75, 1.0)],
        "extract/cases.jsonl": [{"leaked": 3}, {"error": {"reason": "EXTRACTION_FAILED"}}, {"leaked": 0}],
        "train-augmented/counterfactuals.jsonl": [{"answer": "9"}, {"reason": "UNCHANGED"}],
    }
    report = Report(tmp_path, ANSWERS, files)
    told = {(line.stage, line.what): (line.count, line.of) for line in report.facts["way"]}
    assert told["prepare", "training rows given"] == (90, 0)
    assert told["prepare", "test questions that are training questions too"] == (2, 60)
    assert told["rationalize", "rationales accepted"] == (85, 90)
    assert told["rationalize", "left out: the teacher's answer is not the row's"] == (4, 90)
    assert told["rationalize", "left out: TEACHER_REFUSED"] == (1, 90)
    assert told["train-general", "left out: longer than training.max_length"] == (1, 85)
    assert told["diagnose", "hard cases"] == (30, 90) and told["diagnose", "right in some, up to half"] == (1, 90)
    assert told["extract", "hard cases that became entries"] == (28, 30)
    assert told["extract", "left out: EXTRACTION_FAILED"] == (1, 30)
    assert told["extract", "pieces of entries refused because they gave the answer away"] == (3, 0)
    assert told["train-augmented", "counterfactual rows that can be used"] == (1, 2)
    for text in report.both:
        assert "Rows on the way" in text and "TEACHER" in text
    assert "EXTRACTION_FAILED" in report.html


def test_answers_that_were_cut_off_are_told_with_what_to_do(tmp_path: Path) -> None:
    cut = answered("general", [True, False, False, False])
    for row in cut[:3]:
        row["truncated"] = True
    for text in Report(tmp_path, {**ANSWERS, "general": cut}).both:
        assert "Trained, CoT 3 of 4 answers (2 of them wrong)" in text and "raise evaluate.max_new_tokens" in text
    for text in Report(tmp_path / "b", ANSWERS).both:
        assert "raise evaluate.max_new_tokens" not in text


def test_data_sets_have_lines_of_their_own_and_count_the_same_in_their_mean(tmp_path: Path) -> None:
    rows = answered("augmented", [True, True, True, False])
    for row, dataset in zip(rows, ("bbh", "bbh", "bbh", "gsm8k"), strict=True):
        row["dataset"] = dataset
    report = Report(tmp_path, {"augmented": rows, "edited": rows[:2]})
    assert report.facts["sets"] == ["bbh", "gsm8k"] and report.facts["average"] == {"augmented": 0.5, "edited": None}
    for text in report.both:
        assert "By data set" in text and "mean of data sets" in text and "gsm8k" in text and "mean of tasks" not in text
    one = Report(tmp_path / "b", ANSWERS)
    for text in one.both:
        assert "By data set" not in text and "mean of tasks" in text


def test_a_control_that_is_given_what_the_question_finds_itself_is_told(tmp_path: Path) -> None:
    shuffled = answered("shuffled", [True, False, True, False])
    shuffled[0]["own_entries"] = 1
    for text in Report(tmp_path, {**ANSWERS, "shuffled": shuffled}).both:
        assert "1 of its answers read an entry that the question finds itself" in text
        assert "no other question was found" in text, "donors looks for exchanges of pairs, not for all there could be"


def test_the_test_of_samples_is_named_as_what_it_is(tmp_path: Path) -> None:
    for text in Report(tmp_path, ANSWERS).both:
        assert "McNemar" in text and "permutation" not in text
    several = {
        name: [row | {"sample": s, "correct": row["correct"] and s < 2} for s in range(3) for row in rows]
        for name, rows in ANSWERS.items()
    }
    for text in Report(tmp_path / "b", several).both:
        assert "a two-sided paired permutation test" in text and "McNemar" not in text


def test_no_rows_give_a_dash_and_not_a_number() -> None:
    assert str(Cell.of(None)) == "-"


def test_markdown_stays_one_line_of_plain_text() -> None:
    assert md("a | b\n# c\r\n[x](y) `z` <b>") == "a \\| b # c \\[x\\](y) \\`z\\` &lt;b&gt;"
