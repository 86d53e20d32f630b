"""From a question to an answer: which adapter, what to read, the prompt, the text, the answer in it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from method.answers import extract_answer, split_rationale
from method.prompts import TRIGGER, QuestionTooLong, fit_entries, student_prompt
from services.common import context
from services.common.errors import InvalidArgument, NesycdError, deadline_exceeded
from services.student import reasons
from services.student.adapters import Adapters, Resolved, Retrieval, merge
from services.student.batching import Batcher
from services.student.engines.base import Completion, Decoding, Engine, Job
from services.student.retrieval import Entry, Found

Mode = Literal["cot", "answer", "zero_shot"]
_MAX_QUESTION, _MAX_DESCRIPTION, _MAX_ENTRY, _MAX_ENTRIES = 32768, 8192, 8192, 20


class Retriever(Protocol):
    """Finds what to read."""

    async def search(self, question: str, retrieval: Retrieval) -> Found:
        """The entries that fit a question best; see `KnowledgeClient.search`."""
        ...


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


@dataclass(frozen=True)
class Answer:
    """The student's answer; see the contract's AnswerResponse."""

    rationale: str
    answer: str
    text: str
    entries: tuple[Entry, ...]
    dropped_entries: int
    prompt_tokens: int
    completion_tokens: int
    truncated: bool
    adapter: str
    knowledge_version: int


@dataclass(frozen=True)
class _Prepared:
    question: Question
    job: Job
    adapter: Resolved
    entries: tuple[Entry, ...]
    dropped: int
    knowledge_version: int

    def answer(self, completion: Completion) -> Answer:
        text = completion.text
        if self.question.mode == "answer":
            rationale, answer = "", extract_answer(text, mode="answer")
        else:
            rationale, answer = split_rationale(text)
        return Answer(
            rationale=rationale,
            answer=answer or "",
            text=text,
            entries=self.entries,
            dropped_entries=self.dropped,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            truncated=completion.finish == "length",
            adapter=self.adapter.name,
            knowledge_version=self.knowledge_version,
        )


class Answering:
    """Answers questions. Knows no transport."""

    def __init__(self, engine: Engine, batcher: Batcher, adapters: Adapters, retriever: Retriever) -> None:
        self._engine = engine
        self._batcher = batcher
        self._adapters = adapters
        self._retriever = retriever

    async def answer(self, question: Question, on_text: Callable[[str], None] | None = None) -> Answer:
        """Answers one question, in a batch with others that come at about the same time.

        Args:
            question: The question.
            on_text: Called from another thread with the next characters as they are written.

        Raises:
            NesycdError: Each with the reason that says why.
        """
        prepared = await self._prepare(question, on_text)
        return prepared.answer(await self._batcher.complete(prepared.job, prepared.adapter.weights))

    async def answer_group(self, questions: Sequence[Question]) -> list[Answer | NesycdError]:
        """Answers questions in batches that depend on these questions only; an error stands in a failed one's place."""
        prepared = await asyncio.gather(*(self._prepare_or_error(question) for question in questions))
        results: list[Answer | NesycdError | None] = [p if isinstance(p, NesycdError) else None for p in prepared]
        by_adapter: dict[str, list[tuple[int, _Prepared]]] = {}
        for index, entry in enumerate(prepared):
            if isinstance(entry, _Prepared):
                by_adapter.setdefault(entry.adapter.name, []).append((index, entry))
        for entries in by_adapter.values():
            weights = entries[0][1].adapter.weights
            try:
                completions = await self._batcher.complete_group([entry.job for _, entry in entries], weights)
            except NesycdError as error:
                completions = [error] * len(entries)  # type: ignore[list-item]
            for (index, entry), completion in zip(entries, completions, strict=True):
                results[index] = completion if isinstance(completion, NesycdError) else entry.answer(completion)
        return [result for result in results if result is not None]

    async def _prepare_or_error(self, question: Question) -> _Prepared | NesycdError:
        try:
            return await self._prepare(question, None)
        except NesycdError as error:
            return error

    async def _prepare(self, question: Question, on_text: Callable[[str], None] | None) -> _Prepared:
        self._check(question)
        left = context.remaining()
        if left == 0.0:
            raise deadline_exceeded()
        adapter = self._adapters.resolve(question.adapter)
        found = Found(tuple(Entry("", text) for text in question.given_entries))
        if not question.given_entries:
            retrieval = merge(question.retrieval, adapter.retrieval)
            if retrieval is not None:
                found = await self._retriever.search(question.question, retrieval)
        budget = self._engine.context_length - question.decoding.max_new_tokens
        try:
            kept = fit_entries(
                question.question,
                [entry.text for entry in found.entries],
                count_tokens=self._engine.count_tokens,
                budget=budget,
                mode=question.mode,
                task_description=question.task_description,
            )
        except QuestionTooLong as error:
            raise InvalidArgument(
                str(error),
                reason=reasons.QUESTION_TOO_LONG,
                field="request.question",
                metadata={"tokens": str(error.needed), "budget": str(error.budget)},
            ) from error
        prompt = student_prompt(
            question.question, entries=kept, mode=question.mode, task_description=question.task_description
        )
        job = Job(
            prompt,
            question.decoding,
            stop_after="" if question.mode == "answer" else TRIGGER,
            on_text=on_text,
            deadline=None if left is None else time.monotonic() + (context.remaining() or 0.0),
        )
        return _Prepared(
            question=question,
            job=job,
            adapter=adapter,
            entries=found.entries[: len(kept)],
            dropped=len(found.entries) - len(kept),
            knowledge_version=found.version,
        )

    def _check(self, question: Question) -> None:
        """Refuses what cannot be answered, before any work."""
        decoding, retrieval = question.decoding, question.retrieval
        limit = min(2048, self._engine.context_length // 2)
        for holds, name, rule in (
            (question.question.strip(), "question", "must not be empty"),
            (len(question.question) <= _MAX_QUESTION, "question", f"may have {_MAX_QUESTION} characters"),
            (
                len(question.task_description) <= _MAX_DESCRIPTION,
                "task_description",
                f"may have {_MAX_DESCRIPTION} characters",
            ),
            (len(question.given_entries) <= _MAX_ENTRIES, "given_entries", f"may be {_MAX_ENTRIES}"),
            (
                all(text.strip() and len(text) <= _MAX_ENTRY for text in question.given_entries),
                "given_entries",
                f"must have 1 to {_MAX_ENTRY} characters each",
            ),
            (
                math.isfinite(decoding.temperature) and 0 <= decoding.temperature <= 10,
                "decoding.temperature",
                "must be 0 to 10",
            ),
            (0 < decoding.top_p <= 1, "decoding.top_p", "must be above 0 and at most 1"),
            (decoding.top_k >= 0, "decoding.top_k", "must not be negative"),
            (1 <= decoding.max_new_tokens <= limit, "decoding.max_new_tokens", f"must be 1 to {limit}"),
            (retrieval is None or 0 <= retrieval.top_k <= 20, "retrieval.top_k", "must be 1 to 20, or 0 for 3"),
            (
                retrieval is None or math.isfinite(retrieval.minimum_score),
                "retrieval.minimum_score",
                "must be a finite number",
            ),
        ):
            if not holds:
                raise InvalidArgument(f"{name} {rule}", field=f"request.{name}")
