"""Stage prepare: what it refuses before anything is paid, and what its output depends on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.artifacts import Artifacts, write_jsonl
from jobs.spec import parse
from jobs.stages import prepare
from method.methods import all_methods
from services.common.errors import FailedPrecondition

ROWS = [{"id": f"r{i}", "task": "count", "question": f"How many {i}?", "answer": "5"} for i in range(10)]


@pytest.fixture
def context(tmp_path: Path) -> Any:
    """Makes as much of a stage's context as it needs."""
    rows, passages = tmp_path / "rows.jsonl", tmp_path / "passages.txt"
    rows.write_bytes(write_jsonl(ROWS))
    passages.write_text("A mite has 8 legs.\n")
    data = {"train": str(rows), "test": str(rows), "passages": str(passages)}

    def make(**spec: Any) -> Any:
        made = parse({"name": "x", "data": data, "student": {"base_model": "small"}, **spec})
        return SimpleNamespace(spec=made, artifacts=Artifacts(str(tmp_path / "artifacts")))

    return make


def model(context: Any, **config: Any) -> None:
    context.artifacts.write(json.dumps(config).encode(), "models", "small", "config.json")


@pytest.mark.parametrize("method", ["zero-shot", "nesycd"])
def test_answers_that_the_student_would_refuse_to_write_are_told_before_anything_is_paid(
    context: Any, method: str
) -> None:
    made = context(method=method, evaluate={"max_new_tokens": 300})
    model(made, max_position_embeddings=512)
    with pytest.raises(
        FailedPrecondition, match=r"max_new_tokens is 300, but small .* 512 tokens .* set it to 256"
    ) as told:
        prepare.relevant(made)
    assert told.value.reason == "CONTEXT_TOO_SHORT"
    prepare.relevant(context(method=method, evaluate={"max_new_tokens": 256}))


def test_a_model_that_is_elsewhere_or_does_not_tell_its_context_is_not_judged(context: Any) -> None:
    made = context(method="zero-shot", evaluate={"max_new_tokens": 2048})
    prepare.relevant(made)
    model(made)
    prepare.relevant(made)


@pytest.mark.parametrize("further", [{}, {"rounds": 3}, {"knowledge": {"utility": {"rows": 5}}}])
def test_all_methods_of_one_spec_have_the_same_rows_whatever_is_held_out(context: Any, further: dict[str, Any]) -> None:
    model(context(), max_position_embeddings=512)
    made = [prepare.relevant(context(method=method, **further)) for method in all_methods()]
    assert all(one == made[0] for one in made)
    assert bool(made[0]["held_out"]) == bool(further)
