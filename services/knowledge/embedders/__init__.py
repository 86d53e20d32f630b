"""Embedders: texts become unit vectors, so that a dot product is a cosine.

An embedder runs in this process (transformers.py) or behind an HTTP endpoint (openai.py). Several kinds of work want it
at a time; what is urgent goes first (`Turns`).
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from services.knowledge.stores import Vector

if TYPE_CHECKING:
    from services.knowledge.settings import Settings


class Urgency(IntEnum):
    """Who waits for a vector; the smaller number goes first."""

    QUERY = 0
    WRITE = 1
    REBUILD = 2


class Turns:
    """Places in a queue in which the urgent ones stand in front. To be used in one event loop.

    Args:
        slots: How many may work at a time. Where there are several, rebuilds leave one free.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._free_for_rebuilds = max(1, slots - 1)
        self._order = itertools.count()
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def take(self, urgency: Urgency) -> AsyncIterator[None]:
        """Waits for a slot, and holds it."""
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._order), turn))
        self._admit()
        try:
            await turn
            yield
        finally:
            # Also where the wait was given up in the moment in which the slot came.
            if turn.done() and not turn.cancelled():
                self._free += 1
                self._free_for_rebuilds += urgency is Urgency.REBUILD
                self._admit()

    def _admit(self) -> None:
        while self._waiting and self._free:
            urgency, _, turn = self._waiting[0]
            if not turn.cancelled():
                if urgency is Urgency.REBUILD:
                    if not self._free_for_rebuilds:
                        return  # only rebuilds wait
                    self._free_for_rebuilds -= 1
                self._free -= 1
                turn.set_result(None)
            heapq.heappop(self._waiting)


class Embedder(ABC):
    """Makes vectors. `name` and `dimension` are known after `load`.

    The name stands for the vectors: an embedder that makes others has another one.

    Args:
        query_prefix: Put before every query; E5, BGE and others were trained with one.
        document_prefix: Put before every text that is kept; it becomes part of the name.
        cached_queries: How many query vectors are remembered: students ask the same again.
    """

    remote: ClassVar[bool] = False
    """Whether it can be down while this process is up."""

    def __init__(self, *, query_prefix: str = "", document_prefix: str = "", cached_queries: int = 4096) -> None:
        self.name = ""
        self.dimension = 0
        self._query_prefix = query_prefix
        self._document_prefix = document_prefix
        self._cached_queries = cached_queries
        self._cache: OrderedDict[str, Vector] = OrderedDict()

    async def load(self) -> None:
        """Makes ready; may be repeated after an error.

        Raises:
            FailedPrecondition: A setting is wrong, or a package is missing.
            Unavailable: The endpoint is down.
        """
        name, self.dimension = await self._load()
        if self._document_prefix:
            name += "+" + hashlib.sha256(self._document_prefix.encode()).hexdigest()[:8]
        self.name = name

    async def embed(self, texts: list[str], urgency: Urgency = Urgency.WRITE) -> list[Vector]:
        """The vectors of texts that are kept, in their order.

        Raises:
            FailedPrecondition: A setting is wrong.
            Unavailable: The endpoint is down.
            DeadlineExceeded: The caller's deadline came first.
        """
        return await self._embed([self._document_prefix + text for text in texts], urgency) if texts else []

    async def embed_query(self, text: str) -> Vector:
        """The vector of a query; raises what `embed` does."""
        known = self.known_query(text)
        if known is None:
            (known,) = await self._embed([self._query_prefix + text], Urgency.QUERY)
            self._cache[text] = known
            if len(self._cache) > self._cached_queries:
                self._cache.popitem(last=False)
        return known

    def known_query(self, text: str) -> Vector | None:
        """The vector of a query that is remembered."""
        known = self._cache.get(text)
        if known is not None:
            self._cache.move_to_end(text)
        return known

    async def close(self) -> None:  # noqa: B027
        """Gives back what it holds."""

    @abstractmethod
    async def _load(self) -> tuple[str, int]:
        """Makes ready; the name without the prefix, and the dimension."""

    @abstractmethod
    async def _embed(self, texts: list[str], urgency: Urgency) -> list[Vector]:
        """The unit vectors of texts, at least one, in their order."""


def make_embedder(settings: Settings) -> Embedder | None:
    """The embedder that the settings name, not loaded yet; None for none."""
    prefixes = {
        "query_prefix": settings.embedder_query_prefix,
        "document_prefix": settings.embedder_document_prefix,
    }
    if settings.embedder in ("minilm", "local"):
        from services.knowledge.embedders.transformers import TransformersEmbedder

        folder = Path(settings.embedder_model).expanduser() if settings.embedder == "local" else None
        return TransformersEmbedder(folder, **prefixes)
    if settings.embedder == "openai":
        from services.knowledge.embedders.openai import OpenAiEmbedder

        return OpenAiEmbedder(
            settings.embedder_url,
            settings.embedder_model,
            settings.embedder_api_key,
            batch_size=settings.embedder_batch_size,
            concurrency=settings.embedder_concurrency,
            timeout=settings.embedder_timeout_seconds,
            **prefixes,
        )
    return None
