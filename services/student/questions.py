"""A question and how to answer it, and what may not be asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from method.prompts import Demonstration
from services.common.errors import InvalidArgument
from services.student.engines.base import Decoding
from services.student.registry import Retrieval

Mode = Literal["cot", "answer", "zero_shot", "zero_shot_answer", "cascade"]
"""One of method.prompts.MODES."""
_MAX_QUESTION, _MAX_DESCRIPTION, _MAX_ENTRY, _MAX_ANSWER, _MAX_RATIONALE = 32768, 8192, 8192, 8192, 32768
_MAX_ENTRIES, _MAX_DEMONSTRATIONS, _MAX_NEW_TOKENS = 20, 16, 2048
_Rules = Iterator[tuple[bool, str, str]]
"""Whether it holds, the field, and the rule."""


@dataclass(frozen=True)
class Question:
    """A question and how to answer it; see the contract's AnswerRequest."""

    question: str
    task_description: str = ""
    adapter: str = ""
    retrieval: Retrieval | None = None
    given_entries: tuple[str, ...] = ()
    decoding: Decoding = field(default_factory=Decoding)
    mode: Mode = "cot"
    demonstrations: tuple[Demonstration, ...] = ()


def check(question: Question, context_length: int) -> None:
    """Refuses what cannot be answered, before any work.

    Args:
        question: The question.
        context_length: Of the student, in tokens.

    Raises:
        InvalidArgument: Names the field.
    """
    _demand(_rules(question), "request.")
    _demand(_decoding_rules(question, context_length), "request.decoding.")
    if question.retrieval is not None:
        check_retrieval(question.retrieval, "request.retrieval")


def check_retrieval(retrieval: Retrieval, field: str) -> None:
    """Refuses what cannot be retrieved.

    Args:
        retrieval: What to read.
        field: Where it stands in the request.

    Raises:
        InvalidArgument: Names the field.
    """
    _demand(_retrieval_rules(retrieval), f"{field}.")


def _demand(rules: _Rules, prefix: str) -> None:
    for holds, name, rule in rules:
        if not holds:
            path = f"{prefix}{name}"
            raise InvalidArgument(f"{path.removeprefix('request.')} {rule}", field=path)


def _rules(question: Question) -> _Rules:
    yield bool(question.question.strip()), "question", "must not be empty"
    yield len(question.question) <= _MAX_QUESTION, "question", f"may have {_MAX_QUESTION} characters"
    yield (
        len(question.task_description) <= _MAX_DESCRIPTION,
        "task_description",
        f"may have {_MAX_DESCRIPTION} characters",
    )
    yield len(question.given_entries) <= _MAX_ENTRIES, "given_entries", f"may be {_MAX_ENTRIES}"
    yield (
        all(text.strip() and len(text) <= _MAX_ENTRY for text in question.given_entries),
        "given_entries",
        f"must have 1 to {_MAX_ENTRY} characters each",
    )
    yield len(question.demonstrations) <= _MAX_DEMONSTRATIONS, "demonstrations", f"may be {_MAX_DEMONSTRATIONS}"
    for index, shown in enumerate(question.demonstrations):
        for text, name, least, most in (
            (shown.question, "question", 1, _MAX_QUESTION),
            (shown.rationale, "rationale", 0, _MAX_RATIONALE),
            (shown.answer, "answer", 1, _MAX_ANSWER),
        ):
            yield (
                least <= len(text.strip()) and len(text) <= most,
                f"demonstrations[{index}].{name}",
                f"must have {least} to {most} characters",
            )


def _decoding_rules(question: Question, context_length: int) -> _Rules:
    decoding = question.decoding
    yield math.isfinite(decoding.temperature) and 0 <= decoding.temperature <= 10, "temperature", "must be 0 to 10"
    yield 0 < decoding.top_p <= 1, "top_p", "must be above 0 and at most 1"
    yield decoding.top_k >= 0, "top_k", "must not be negative"
    # The second step of a cascade needs a token, too.
    least, most = 2 if question.mode == "cascade" else 1, min(_MAX_NEW_TOKENS, context_length // 2)
    yield least <= decoding.max_new_tokens <= most, "max_new_tokens", f"must be {least} to {most}"


def _retrieval_rules(retrieval: Retrieval) -> _Rules:
    yield 0 <= retrieval.top_k <= 20, "top_k", "must be 1 to 20, or 0 for 3"
    yield math.isfinite(retrieval.minimum_score), "minimum_score", "must be a finite number"
    yield 0 <= retrieval.gate <= 1, "gate", "must be 0 to 1"
