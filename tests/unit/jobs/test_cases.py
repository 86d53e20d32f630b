"""Which rows are held out, hard, in which fold, shown as examples; and with what they are asked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.artifacts import Artifacts, StageFolder, write_jsonl
from jobs.rows import DataRow
from jobs.serving import as_diagnosed, as_evaluated, kinds_filter, retrieval
from jobs.spec import parse
from jobs.stages.diagnose import _judged, folds
from jobs.stages.evaluate import demonstrations
from jobs.stages.prepare import load_rows, set_aside
from jobs.stages.train_augmented import own_entries
from method.prompts import Row
from services.common.errors import InvalidArgument

ROWS = [DataRow(Row(f"r{i}", "ab"[i % 2], f"How many {i}?", "5")) for i in range(40)]


def context(**spec: Any) -> Any:
    whole = parse({"name": "x", "data": {"train": "a", "test": "b"}, **spec})
    return SimpleNamespace(spec=whole, knowledge_base="knowledgeBases/k")


def test_of_every_task_the_same_share_is_held_out_and_the_order_stays() -> None:
    kept, held_out = set_aside(ROWS, 0.25, seed=7)
    assert Counter(item.row.task for item in held_out) == {"a": 5, "b": 5}
    assert sorted(kept + held_out, key=ROWS.index) == ROWS
    assert [i for i in ROWS if i in kept] == kept and [i for i in ROWS if i in held_out] == held_out
    assert len(set_aside(ROWS, 0.01, 7)[1]) == 1 and set_aside(ROWS, 0.0, 7) == (ROWS, [])
    assert Counter(item.row.task for item in set_aside(ROWS, 0.075, 7)[1]) in ({"a": 2, "b": 1}, {"a": 1, "b": 2})
    assert set_aside(ROWS, 0.25, 7) == (kept, held_out) and set_aside(ROWS, 0.25, 8)[1] != held_out


def test_every_row_is_in_one_fold_and_every_fold_has_every_task() -> None:
    parts = folds(ROWS, 5, seed=7)
    assert sorted((item for part in parts for item in part), key=ROWS.index) == ROWS
    assert all(Counter(item.row.task for item in part) == {"a": 4, "b": 4} for part in parts)
    assert folds(ROWS, 5, 8) != parts == folds(ROWS, 5, 7)
    assert len(folds(ROWS[:3], 5, 7)) == 3


@pytest.mark.parametrize(("right", "below", "hard"), [(1, 0.5, True), (2, 0.5, False), (3, 1.0, True), (4, 1.0, False)])
def test_a_row_is_hard_where_too_few_of_its_answers_are_right(right: int, below: float, hard: bool) -> None:
    answers = [{"id": "1", "text": str(i), "answer": "5", "correct": i < right} for i in range(4)]
    told = _judged(answers, below)
    assert told["correct"] is not hard and told["pass_rate"] == right / 4
    assert told["text"] == str(right % 4), "the teacher is shown a wrong answer where there is one"


def test_examples_are_of_the_same_task_and_never_the_question_itself() -> None:
    rows = [item.row for item in ROWS]
    rationales = {row.id: f"why {row.id}" for row in rows[:20]}
    shown = demonstrations(rows, rationales, count=3, seed=7)
    for row in rows:
        found = shown(row)
        assert len(found) == 3 and all(d.question != row.question for d in found)
        assert {int(d.question.split()[2].rstrip("?")) % 2 for d in found} == {rows.index(row) % 2}
    assert shown(Row("x", "other", "?", "5")), "a task without examples gets those of others"
    assert [d.rationale for d in shown(rows[30])] == [d.rationale for d in shown(rows[32])]


def test_kinds_that_are_not_wanted_are_left_out_of_searches_but_not_of_whole_cases() -> None:
    assert kinds_filter(context()) == ""
    facts = {"kinds": ["fact"]}
    assert retrieval(context(knowledge=facts)).filter == "kind = FACT"
    assert kinds_filter(context(knowledge={**facts, "granularity": "case"})) == ""


def test_the_gate_counts_where_the_student_is_served_and_not_where_entries_are_measured() -> None:
    made = context(knowledge={"gate": 0.9})
    assert (retrieval(made).gate, retrieval(made, gated=False).gate) == (0.9, 0.0)


def test_an_evaluation_is_greedy_or_each_sample_has_a_seed_of_its_own() -> None:
    assert as_evaluated(context()).temperature == 0
    sampled = context(seed=3, evaluate={"temperature": 0.6, "top_p": 0.9, "sample_top_k": 50, "samples": 2})
    one, two = as_evaluated(sampled, 0), as_evaluated(sampled, 1)
    assert (one.temperature, one.top_p, one.top_k) == (0.6, 0.9, 50) and (one.seed, two.seed) == (3000, 3001)


def test_a_diagnosis_is_greedy_or_sampled_as_in_the_paper() -> None:
    assert as_diagnosed(context(seed=3), 0).temperature == 0
    one, two = (as_diagnosed(context(seed=3, diagnose={"samples": 2}), sample) for sample in (0, 1))
    assert (one.temperature, one.top_p, one.top_k) == (0.6, 0.9, 50) and (one.seed, two.seed) == (3000, 3001)


def test_a_rows_own_entries_are_those_that_it_led_to_and_that_may_be_read(tmp_path: Path) -> None:
    folder = StageFolder(Artifacts(str(tmp_path)), "extract", "1")

    def entry(text: str, kind: str, *cases: str, status: str = "ACTIVE") -> dict[str, Any]:
        sources = [{"caseId": case} for case in cases]
        return {"text": text, "kind": f"ENTRY_KIND_{kind}", "status": f"ENTRY_STATUS_{status}", "sources": sources}

    entries = [entry("a", "FACT", "r0", "r1"), entry("b", "SUMMARY", "r0"), entry("c", "FACT", "r0", status="DRAFT")]
    folder.write("entries.jsonl", write_jsonl(entries))
    rows = [item.row for item in ROWS[:3]]

    def found(**knowledge: Any) -> dict[str, list[str]]:
        made = context(knowledge=knowledge)
        made.inputs = {"extract": folder}
        return own_entries(made, rows)

    assert found() == {"r0": ["a", "b"], "r1": ["a"], "r2": []}
    assert found(kinds=["fact"]) == {"r0": ["a"], "r1": ["a"], "r2": []}
    assert found(top_k=1)["r0"] == ["a"]


def test_rows_of_several_sources_come_in_order_and_an_id_stands_in_one_only(tmp_path: Path) -> None:
    for name, ids in (("one", "ab"), ("two", "cd"), ("three", "da")):
        lines = [{"id": i, "task": i, "question": f"How many {i}?", "answer": "5"} for i in ids]
        (tmp_path / f"{name}.jsonl").write_bytes(write_jsonl(lines))
    one, two, three = (str(tmp_path / f"{name}.jsonl") for name in ("one", "two", "three"))

    def ids(*sources: Any) -> list[str]:
        data = parse({"name": "x", "data": {"train": list(sources), "test": "t"}}).data
        return [item.row.id for item in load_rows(data, "train")]

    assert ids(one, two) == ["a", "b", "c", "d"]
    assert ids(two, {"path": one, "limit": 1}) == ["c", "d", "a"]
    assert ids({"path": two, "tasks": ["d"]}, one) == ["d", "a", "b"]
    with pytest.raises(InvalidArgument, match=r"three.jsonl: id 'd' stands in another source of data.train"):
        ids(two, three)
