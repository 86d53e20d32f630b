"""Stage rationalize: what it says of rationales that are longer than the student's answers may be."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from jobs.artifacts import Artifacts, StageFolder, write_jsonl
from jobs.spec import parse
from jobs.stages import rationalize


async def told(folder: Path, *, long: int, short: int, most: int = 80, signs: int = 600, context: int = 0) -> str:
    """The stage's note, where so many rationales have about 150 tokens or more (four signs each, as there is no tokenizer) and so many 25."""
    artifacts, notes = Artifacts(str(folder)), []
    made = StageFolder(artifacts, "rationalize", f"{long}-{short}")
    records = [
        {"id": str(i), "rationale": "legs " * (signs // 5 if i < long else 12), "answer": "8"}
        for i in range(long + short)
    ]
    made.write("rationales.jsonl", write_jsonl(records))
    if context:
        artifacts.write(json.dumps({"max_position_embeddings": context}).encode(), "models", "small", "config.json")
    turn: Any = SimpleNamespace(
        spec=parse({"name": "x", "data": {"train": "a", "test": "b"}, "student": {"base_model": "small"}, "evaluate": {"max_new_tokens": most}}),
        artifacts=artifacts, folder=made, run_id="r", progress=lambda *_, note, **__: notes.append(note),
    )  # fmt: skip
    await rationalize.settle(turn, {"accepted": long + short, "rejected": 1})
    (note,) = notes
    return note


async def test_rationales_that_are_longer_than_an_answer_may_be_are_told_with_what_to_do(tmp_path: Path) -> None:
    with capture_logs() as logged:
        note = await told(tmp_path, long=3, short=17)
    assert note.startswith("20 of 21 rationales are right; about 15% are longer")
    assert "evaluate.max_new_tokens: 80" in note
    assert 150 < int(note.split("anew with ")[1].split(";")[0]) < 200
    (line,) = logged
    assert (line["event"], line["log_level"], line["run"]) == ("answers_cut_off", "warning", "r")


async def test_no_more_is_advised_than_a_spec_may_have_and_what_helps_instead_is_said(tmp_path: Path) -> None:
    note = await told(tmp_path, long=3, short=17, context=300)
    assert note.endswith(
        "may be 150 at most: take a base model with a longer context, or a teacher that writes shorter"
    )
    note = await told(tmp_path, long=4, short=17, signs=10_000, context=32_768)
    assert note.endswith("may be 2048 at most: take a teacher that writes shorter") and "anew" not in note


@pytest.mark.parametrize(("long", "most"), [(1, 80), (20, 256)])
async def test_nothing_is_said_where_all_but_few_have_room(long: int, most: int, tmp_path: Path) -> None:
    with capture_logs() as logged:
        assert await told(tmp_path, long=long, short=20 - long, most=most) == "20 of 21 rationales are right"
    assert not logged
