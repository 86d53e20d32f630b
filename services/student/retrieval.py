"""Reads from the knowledge service, through its contract."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc
from nesycd.knowledge.v1 import KnowledgeServiceStub, SearchEntriesRequest

from services.common import context
from services.common.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NesycdError,
    NotFound,
    Unavailable,
    from_rpc_error,
)
from services.student import reasons
from services.student.registry import Retrieval

_TIMEOUT_SECONDS = 15.0
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)


@dataclass(frozen=True)
class Entry:
    """An entry that stands before the student's eyes; without a name where the caller gave it."""

    name: str
    text: str
    revision: int = 0
    score: float = 0.0


@dataclass(frozen=True)
class Found:
    """What a search found, best first, and the knowledge base's version."""

    entries: tuple[Entry, ...] = ()
    version: int = 0


class KnowledgeClient:
    """Searches knowledge bases."""

    def __init__(self, channel: grpc.aio.Channel | None, *, concurrency: int = 16) -> None:
        """Without a channel every search fails with KNOWLEDGE_NOT_CONFIGURED.

        Args:
            channel: To the knowledge service.
            concurrency: Most searches at once.
        """
        self._stub = None if channel is None else KnowledgeServiceStub(channel)
        self._slots = asyncio.Semaphore(concurrency)

    async def search(self, question: str, retrieval: Retrieval) -> Found:
        """Finds the entries that fit a question best.

        Raises:
            NotFound: There is no such knowledge base.
            InvalidArgument: The filter is none, for instance.
            Unavailable: The knowledge service is down (KNOWLEDGE_UNAVAILABLE).
            DeadlineExceeded: The caller's deadline passed.
            FailedPrecondition: The knowledge service is not configured, or refuses us.
        """
        if self._stub is None:
            raise FailedPrecondition(
                "no knowledge service is configured: set NESYCD_STUDENT_KNOWLEDGE_ADDRESS",
                reason=reasons.KNOWLEDGE_NOT_CONFIGURED,
                subject="knowledge_address",
            )
        request = SearchEntriesRequest(
            parent=retrieval.knowledge_base,
            query=question,
            mode=retrieval.mode,  # type: ignore[arg-type]  # the same numbers
            top_k=retrieval.top_k or 3,
            filter=retrieval.filter,
            minimum_score=retrieval.minimum_score,
            exclude_sole_source_case=retrieval.exclude_sole_source_case,
        )
        try:
            async with self._slots:
                with context.timeout(_TIMEOUT_SECONDS):
                    response = await self._stub.SearchEntries(request)
        except grpc.aio.AioRpcError as error:
            raise _as_ours(error) from error
        entries = tuple(
            Entry(result.entry.name, result.entry.text, result.entry.revision, result.score)
            for result in response.results
        )
        return Found(entries, response.version)


def _as_ours(error: grpc.aio.AioRpcError) -> NesycdError:
    """What the student's caller is told of a search that failed."""
    known = from_rpc_error(error)
    if isinstance(known, NotFound):
        return known
    if isinstance(known, InvalidArgument):
        known.violations = [(f"request.retrieval.{field}", text) for field, text in known.violations]
        return known
    if isinstance(known, DeadlineExceeded) and context.remaining() == 0.0:
        return known
    if error.code() in _REFUSED:
        return FailedPrecondition(
            f"the knowledge service refuses the student's calls ({error.code().name})",
            reason=reasons.KNOWLEDGE_REFUSED,
            subject="knowledge",
        )
    return Unavailable(
        f"the knowledge service cannot be used now ({error.code().name}); repeat the request shortly",
        reason=reasons.KNOWLEDGE_UNAVAILABLE,
        retry_after=known.retry_after or 1.0,
    )
