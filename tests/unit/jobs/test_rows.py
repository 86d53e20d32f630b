"""Mistakes in a data file are told with file and line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.rows import from_record, parse
from services.common.errors import InvalidArgument

GOOD = {"id": "1", "task": "legs", "question": "How many?", "answer": "8", "facts": "held_out"}


def lines(*rows: object) -> bytes:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()


@pytest.mark.parametrize(
    ("content", "place", "says"),
    [
        (b"", "t.jsonl:1", "no rows"),
        (b"\n \n", "t.jsonl:1", "no rows"),
        (lines(GOOD, {k: v for k, v in GOOD.items() if k != "answer"}), "t.jsonl:2", "no 'answer'"),
        (lines(GOOD, {**GOOD, "id": "2", "answer": " "}), "t.jsonl:2", "'answer' is empty"),
        (lines(GOOD, {**GOOD, "id": "2", "answer": 8}), "t.jsonl:2", "'answer' must be text, not int"),
        (lines(GOOD, "", GOOD), "t.jsonl:3", "stands in line 1 already"),
        (lines(GOOD, "{'id': 1}"), "t.jsonl:2", "not a JSON object"),
        (lines([1]), "t.jsonl:1", "not a JSON object"),
        (lines(GOOD) + b"\n" + '{"id": "é"}'.encode("latin-1"), "t.jsonl:2", "byte 0xe9 is not UTF-8"),
        (lines(GOOD).decode().encode("utf-16"), "t.jsonl:1", "UTF-16"),
        (lines({**GOOD, "facts": None}), "t.jsonl:1", "'facts' must be text"),
        (b'{"id": "\\ud800", "task": "a", "question": "b", "answer": "c"}', "t.jsonl:1", "surrogate"),
        (b"[" * 100_000, "t.jsonl:1", "not a JSON object"),
    ],
)
def test_a_wrong_line_is_named(content: bytes, place: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(content, "t.jsonl")
    assert caught.value.reason == "INVALID_DATA"
    assert caught.value.violations[0][0] == place
    assert place in caught.value.message and says in caught.value.message


def test_several_wrong_lines_are_told_at_once() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(lines(*("{}" for _ in range(30))), "t.jsonl")
    assert len(caught.value.violations) == 10
    assert "and 20 more" in caught.value.message


def test_rows_keep_their_order_and_their_attributes() -> None:
    rows = parse(b"\xef\xbb\xbf" + lines(GOOD, {**GOOD, "id": "2", "question": "a\u2028b"}), "t.jsonl")
    assert [row.row.id for row in rows] == ["1", "2"]
    assert rows[0].attributes == {"facts": "held_out"}
    assert rows[1].row.question == "a\u2028b"
    assert [from_record(row.dump()) for row in rows] == rows


@given(st.binary(max_size=200))
def test_no_bytes_give_another_error(content: bytes) -> None:
    try:
        assert parse(content, "t.jsonl")
    except InvalidArgument:
        pass
