"""What is recorded of an answer of the student."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nesycd.student.v1 import AnswerRequest, AnswerResponse, BatchAnswerResponse

from jobs.artifacts import Artifacts, StageFolder
from jobs.asking import _answer, ask_student, cut_off
from jobs.figures import summarise
from jobs.rows import DataRow
from method.prompts import Row

ROW = Row("r1", "legs", "How many legs have 3 spiders?", "24")


def test_an_answer_that_was_cut_off_is_recorded_as_such() -> None:
    for truncated in (True, False):
        said = BatchAnswerResponse(row_id="0", response=AnswerResponse(text="Spiders have", truncated=truncated))
        record = _answer(said, ROW, "24")
        assert record["truncated"] is truncated and record["correct"] is False


def test_a_note_tells_where_more_than_a_few_answers_were_cut_off_and_what_to_do() -> None:
    told = cut_off({"general": 0.125, "augmented": 0.02, "zero_shot": 1.0}, most=80)
    assert told == "cut off at evaluate.max_new_tokens = 80: 12% of general, 100% of zero_shot; raise it"
    assert cut_off({"general": 0.03}, most=80) == ""


async def test_a_rows_attributes_are_recorded_and_are_never_taken_for_what_the_student_did(tmp_path: Path) -> None:
    async def batch(method: Any, messages: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {i: BatchAnswerResponse(row_id=i, response=AnswerResponse(answer="24", text="24.")) for i in messages}

    services = SimpleNamespace(batch=batch, student=SimpleNamespace(BatchAnswer=None))
    folder = StageFolder(Artifacts(str(tmp_path)), "evaluate", "1")
    context: Any = SimpleNamespace(folder=folder, services=services, check=lambda: None, progress=lambda *_, **__: None)
    own = {"dataset": "bbh", "correct": "no", "text": "x", "truncated": "yes", "entries": "none"}
    at_times = {
        "sample": "7",
        "error": "none",
        "gated": "no",
        "own_entries": "x",
        "edited_entry": "x",
        "confidence": "1",
    }
    rows = [DataRow(ROW, own | at_times)]
    (record,) = await ask_student(context, "answers", rows, lambda i: AnswerRequest(question=ROW.question))
    assert (record["dataset"], record["correct"], record["text"]) == ("bbh", True, "24.")
    assert record["truncated"] is False and record["entries"] == []
    assert not at_times.keys() & record.keys()
    figures = summarise({"general": [record]}, {})["conditions"]["general"]
    assert [figures[name] for name in ("samples", "errors", "gated", "own_entries")] == [1, 0, 0, 0]
