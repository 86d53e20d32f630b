"""A student whose words are written by the test, with all that stands around it: batcher, adapters, a retriever."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.student.adapters import Adapters, AdapterStore
from services.student.answering import Answering
from services.student.batching import Batcher
from services.student.engines.base import Completion, Job, Token
from services.student.registry import Registry, Retrieval
from services.student.retrieval import Entry, Found

Say = Callable[[str], tuple[str, float]]
"""From a prompt to what the student writes, and how probable each token of it is."""


@dataclass
class ScriptedEngine:
    """Writes what the test says. A token is a character when text is written, and a word when a prompt is counted."""

    say: Say
    context_length: int = 400
    jobs: list[Job] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)

    def count_tokens(self, text: str) -> int:
        """Words."""
        return len(text.split())

    def prepare(self, name: str, config: Mapping[str, Any], tensors: bytes) -> Any:
        """Nothing that tests of it need."""
        raise NotImplementedError

    def generate(self, jobs: Sequence[Job], adapter: object, pause: object = None) -> list[Completion]:
        """Writes; tells streamed text in pieces of three characters."""
        self.jobs += jobs
        self.batches.append([job.prompt for job in jobs])
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Completion:
        text, probability = self.say(job.prompt)
        text, cut = text[: job.decoding.max_new_tokens], len(text) > job.decoding.max_new_tokens
        for start in range(0, len(text) if job.on_text else 0, 3):
            job.on_text(text[start : start + 3])  # type: ignore[misc]
        tokens = tuple(Token(end + 1, math.log(probability)) for end in range(len(text))) if job.scored else ()
        return Completion(text, self.count_tokens(job.prompt), len(text), "length" if cut else "stop", tokens)


@dataclass
class ListRetriever:
    """Finds the same entries for each question."""

    texts: Sequence[str] = ("Crabs have 10 legs.",)
    searches: list[tuple[str, Retrieval]] = field(default_factory=list)

    async def search(self, question: str, retrieval: Retrieval) -> Found:
        """As knowledge of version 7."""
        self.searches.append((question, retrieval))
        return Found(tuple(Entry(f"knowledgeBases/k/entries/{i}", text) for i, text in enumerate(self.texts)), 7)


@dataclass
class Scripted:
    """All of it."""

    engine: ScriptedEngine
    retriever: ListRetriever
    adapters: Adapters
    answering: Answering


@asynccontextmanager
async def scripted(say: Say, folder: Path, *texts: str, max_batch: int = 8) -> AsyncIterator[Scripted]:
    """A student that writes what `say` says and finds `texts`."""
    engine, retriever = ScriptedEngine(say), ListRetriever(texts) if texts else ListRetriever()
    adapters = Adapters(
        AdapterStore(folder.as_uri(), "d" * 64), engine.prepare, Registry((folder / "students").as_uri())
    )
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher(engine, executor, max_batch=max_batch, window_seconds=0.001)
        running = asyncio.create_task(batcher.run())
        yield Scripted(engine, retriever, adapters, Answering(engine, batcher, adapters, retriever))
        running.cancel()
