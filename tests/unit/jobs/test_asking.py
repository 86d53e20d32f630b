"""What is recorded of an answer of the student."""

from __future__ import annotations

from nesycd.student.v1 import AnswerResponse, BatchAnswerResponse

from jobs.asking import _answer, cut_off
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
