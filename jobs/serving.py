"""Requests to the student: built here, so that every stage asks as a user would be answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from nesycd.knowledge.v1 import SearchMode
from nesycd.student.v1 import (
    ANSWER_MODE_ANSWER_ONLY,
    ANSWER_MODE_CHAIN_OF_THOUGHT,
    ANSWER_MODE_ZERO_SHOT,
    AnswerRequest,
    Decoding,
    Retrieval,
    RetrievalMode,
)

from jobs.context import Context
from method.methods import get_method
from method.prompts import Row

_MODES = {"cot": ANSWER_MODE_CHAIN_OF_THOUGHT, "answer": ANSWER_MODE_ANSWER_ONLY, "zero_shot": ANSWER_MODE_ZERO_SHOT}


def retrieval(context: Context, *, exclude_case: str = "") -> Retrieval:
    """How the run's student reads its knowledge base.

    Args:
        context: The stage.
        exclude_case: Entries whose only source is this row are left out.
    """
    knowledge = context.spec.knowledge
    mode = cast(RetrievalMode, RetrievalMode.Value(f"RETRIEVAL_MODE_{knowledge.mode.upper() or 'UNSPECIFIED'}"))
    return Retrieval(
        knowledge_base=context.knowledge_base, top_k=knowledge.top_k, mode=mode, exclude_sole_source_case=exclude_case
    )


def search_mode(context: Context) -> SearchMode:
    """The same mode for the knowledge store."""
    return cast(SearchMode, SearchMode.Value(f"SEARCH_MODE_{context.spec.knowledge.mode.upper() or 'UNSPECIFIED'}"))


def request_for(
    context: Context, row: Row, adapter: str, *, retrieval: Retrieval | None = None, given: Sequence[str] | None = None,
    mode: str | None = None,
) -> AnswerRequest:  # fmt: skip
    """A greedy request for a row.

    Args:
        context: The stage.
        row: The row.
        adapter: Adapter name, or "base".
        retrieval: What to read; None: nothing.
        given: Texts to read instead.
        mode: Prompt mode; None: the method's.
    """
    return AnswerRequest(
        question=row.question,
        task_description=context.spec.student.task_descriptions.get(row.task, ""),
        adapter=adapter,
        retrieval=retrieval if retrieval is not None else Retrieval(disabled=True),
        given_entries=list(given or ()),
        decoding=Decoding(max_new_tokens=context.spec.evaluate.max_new_tokens),
        mode=_MODES[mode or get_method(context.spec.method).prompt_mode],
    )
