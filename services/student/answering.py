"""From a question to an answer: which adapter, whether and what to read, the prompt, the text, the answer in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from method.prompts import FittedPrompt, QuestionTooLong, fit_prompt, search_query
from services.common import context
from services.common.errors import InvalidArgument, NesycdError, deadline_exceeded
from services.student import reasons
from services.student.adapters import Adapters, Resolved, merge
from services.student.engines.base import Complete, Completer, Completion, Job, Model
from services.student.questions import Question, check
from services.student.registry import Retrieval
from services.student.retrieval import Entry, Found
from services.student.writing import CompleteOne, OnText, Written, prompt_budget, write


class Retriever(Protocol):
    """Finds what to read."""

    async def search(self, question: str, retrieval: Retrieval) -> Found:
        """The entries that fit a question best; see `KnowledgeClient.search`."""
        ...


@dataclass(frozen=True)
class Answer:
    """The student's answer; see the contract's AnswerResponse.

    Attributes:
        written: The answer that stands, with the tokens of all that was written for it, and how sure the student was
            where a gate wanted to know: before it read anything, if it could read something.
        entries: What it read, best first.
        dropped_entries: Entries that were found and did not fit.
        adapter: The version that answered.
        knowledge_version: The knowledge base's version that was read.
        gated: It was sure enough to read nothing.
    """

    written: Written
    entries: tuple[Entry, ...]
    dropped_entries: int
    adapter: str
    knowledge_version: int
    gated: bool = False


class Answering:
    """Answers questions. Knows no transport."""

    def __init__(self, engine: Model, completer: Completer, adapters: Adapters, retriever: Retriever) -> None:
        self._engine = engine
        self._completer = completer
        self._adapters = adapters
        self._retriever = retriever

    async def answer(self, question: Question, on_text: OnText | None = None) -> Answer:
        """Answers one question, at the same time as others.

        Args:
            question: The question.
            on_text: Called from any thread with the next characters as they are written.

        Raises:
            NesycdError: Each with the reason that says why.
        """
        return await self._answer(question, self._completer.complete, on_text)

    async def answer_group(self, questions: Sequence[Question]) -> list[Answer | NesycdError]:
        """Answers questions together; an error stands in a failed one's place."""

        async def answer_or_error(question: Question, complete: Complete) -> Answer | NesycdError:
            try:
                return await self._answer(question, complete)
            except NesycdError as error:
                return error

        return await self._completer.together([partial(answer_or_error, question) for question in questions])

    async def _answer(self, question: Question, complete: Complete, on_text: OnText | None = None) -> Answer:
        check(question, self._engine.context_length)
        left = context.remaining()
        if left == 0.0:
            raise deadline_exceeded()
        deadline = None if left is None else time.monotonic() + left
        adapter = await self._adapters.resolve(question.adapter)
        retrieval = merge(question.retrieval, adapter.retrieval) if not question.given_entries else None
        gate = (retrieval or question.retrieval or Retrieval()).gate

        async def complete_in_time(job: Job) -> Completion:
            job.deadline = deadline
            return await complete(job, adapter.weights)

        answer = partial(self._answer_with, adapter=adapter, complete=complete_in_time, scored=gate > 0)
        if retrieval is None and not question.given_entries:
            return await answer(question, Found(), on_text=on_text)
        first = None
        if gate:
            first = await answer(replace(question, decoding=replace(question.decoding, temperature=0.0)), Found())
            if first.written.confidence >= gate:
                if on_text:
                    on_text(first.written.text)
                return replace(first, gated=True)
        found = Found(tuple(Entry("", text) for text in question.given_entries))
        if retrieval is not None:
            query = search_query(question.question, task_description=question.task_description)
            found = await self._retriever.search(query, retrieval)
        second = await answer(question, found, on_text=on_text)
        return second if first is None else replace(second, written=_after(first.written, second.written))

    async def _answer_with(
        self, question: Question, found: Found, *, adapter: Resolved, complete: CompleteOne, scored: bool,
        on_text: OnText | None = None,
    ) -> Answer:  # fmt: skip
        """The answer with these entries before the student's eyes."""
        # Not on the event loop: texts may be long.
        fitted = await asyncio.to_thread(self._fit, question, [entry.text for entry in found.entries])
        written = await write(
            fitted.text, question.mode, question.decoding, complete, self._engine, scored=scored, on_text=on_text
        )
        return Answer(
            written=written,
            entries=found.entries[: len(fitted.entries)],
            dropped_entries=len(found.entries) - len(fitted.entries),
            adapter=adapter.name,
            knowledge_version=found.version,
        )

    def _fit(self, question: Question, entries: Sequence[str]) -> FittedPrompt:
        try:
            return fit_prompt(
                question.question,
                entries,
                question.demonstrations,
                count_tokens=self._engine.count_tokens,
                budget=prompt_budget(question.mode, question.decoding, self._engine.context_length),
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


def _after(first: Written, second: Written) -> Written:
    """The second answer, after a first one that the student was not sure of."""
    return replace(
        second,
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        confidence=first.confidence,
    )
