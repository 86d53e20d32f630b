"""Requests to the student: built here, so that every stage asks as a user would be answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from nesycd.knowledge.v1 import SearchEntriesRequest, SearchMode
from nesycd.student.v1 import (
    ANSWER_MODE_ANSWER_ONLY,
    ANSWER_MODE_CASCADE,
    ANSWER_MODE_CHAIN_OF_THOUGHT,
    ANSWER_MODE_ZERO_SHOT,
    ANSWER_MODE_ZERO_SHOT_ANSWER,
    AnswerRequest,
    Decoding,
    Demonstration,
    Retrieval,
    RetrievalMode,
)

from jobs.context import Context
from method.prompts import Row, search_query

_MODES = {
    "cot": ANSWER_MODE_CHAIN_OF_THOUGHT,
    "answer": ANSWER_MODE_ANSWER_ONLY,
    "zero_shot": ANSWER_MODE_ZERO_SHOT,
    "zero_shot_answer": ANSWER_MODE_ZERO_SHOT_ANSWER,
    "cascade": ANSWER_MODE_CASCADE,
}


def kinds_filter(context: Context) -> str:
    """The filter for the kinds of entries that the spec wants; "" where it wants all.

    Entries of a whole case have one kind: there the extraction leaves out what is not wanted.
    """
    knowledge = context.spec.knowledge
    if knowledge.granularity == "case" or set(knowledge.kinds) == {"summary", "fact"}:
        return ""
    return " OR ".join(f"kind = {kind.upper()}" for kind in sorted(set(knowledge.kinds)))


def retrieval(context: Context, *, exclude_case: str = "", gated: bool = True) -> Retrieval:
    """How the run's student reads its knowledge base.

    Args:
        context: The stage.
        exclude_case: Entries whose only source is this row are left out.
        gated: Whether the spec's gate counts, if it has one.
    """
    knowledge = context.spec.knowledge
    mode = cast(RetrievalMode, RetrievalMode.Value(f"RETRIEVAL_MODE_{knowledge.mode.upper() or 'UNSPECIFIED'}"))
    return Retrieval(
        knowledge_base=context.knowledge_base, top_k=knowledge.top_k, mode=mode, exclude_sole_source_case=exclude_case,
        filter=kinds_filter(context), gate=knowledge.gate if gated else 0.0,
    )  # fmt: skip


def search_request(context: Context, row: Row) -> SearchEntriesRequest:
    """The search that the student would make for a training row, leaving out the row's own entries."""
    knowledge = context.spec.knowledge
    mode = cast(SearchMode, SearchMode.Value(f"SEARCH_MODE_{knowledge.mode.upper() or 'UNSPECIFIED'}"))
    query = search_query(row.question, task_description=context.spec.student.task_descriptions.get(row.task, ""))
    return SearchEntriesRequest(
        parent=context.knowledge_base, query=query, mode=mode, top_k=knowledge.top_k,
        exclude_sole_source_case=row.id, filter=kinds_filter(context),
    )  # fmt: skip


def greedy(context: Context) -> Decoding:
    """Always the most likely token."""
    return Decoding(max_new_tokens=context.spec.evaluate.max_new_tokens)


def as_diagnosed(context: Context, sample: int) -> Decoding:
    """As the stage diagnose asks: greedy, or one of several samples, drawn as in the paper."""
    decoding = greedy(context)
    if context.spec.diagnose.samples > 1:
        decoding.temperature, decoding.top_p, decoding.top_k = 0.6, 0.9, 50
        decoding.seed = context.spec.seed * 1000 + sample
    return decoding


def as_evaluated(context: Context, sample: int = 0) -> Decoding:
    """As the spec's evaluation says: greedy, or one of several samples."""
    evaluate = context.spec.evaluate
    decoding = greedy(context)
    if evaluate.temperature:
        decoding.temperature, decoding.top_p = evaluate.temperature, evaluate.top_p
        decoding.top_k, decoding.seed = evaluate.sample_top_k, context.spec.seed * 1000 + sample
    return decoding


def request_for(
    context: Context, row: Row, adapter: str, *, mode: str = "cot", retrieval: Retrieval | None = None,
    given: Sequence[str] | None = None, demonstrations: Sequence[Demonstration] = (), decoding: Decoding | None = None,
) -> AnswerRequest:  # fmt: skip
    """A request for a row.

    Args:
        context: The stage.
        row: The row.
        adapter: Adapter name, or "base".
        mode: Prompt mode, of `method.prompts.MODES`.
        retrieval: What to read; None: nothing.
        given: Texts to read instead.
        demonstrations: Examples to show before the question.
        decoding: How to write; None: greedy.
    """
    return AnswerRequest(
        question=row.question,
        task_description=context.spec.student.task_descriptions.get(row.task, ""),
        adapter=adapter,
        retrieval=retrieval if retrieval is not None else Retrieval(disabled=True),
        given_entries=list(given or ()),
        demonstrations=demonstrations,
        decoding=decoding or greedy(context),
        mode=_MODES[mode],
    )
