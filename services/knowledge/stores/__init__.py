"""Where knowledge is kept. A store keeps and finds; what a write means is decided in library.py, for every store alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.knowledge.entries import Entry, KnowledgeBase, Revision
from services.knowledge.filters import Filter
from services.knowledge.search import Hit, Query

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Write:
    """An entry as it shall be.

    Attributes:
        entry: The entry, with its new revision number where it is a revision.
        author: Who wrote it.
        reason: Why.
        is_revision: False where only counters changed.
        vector: The embedding of what the index reads; None: it has none.
        keep_vector: The index reads what it read before: leave the vector that is kept.
    """

    entry: Entry
    author: str = ""
    reason: str = ""
    is_revision: bool = True
    vector: Vector | None = None
    keep_vector: bool = False


class Store(Protocol):
    """What every back-end offers. Ids are checked and entries valid; writers of one base come one at a time.

    A write that returned is durable, and the next search sees it. A missing base raises NotFound, a full disk
    ResourceExhausted, a back-end that is down Unavailable; nothing is half-written then.
    """

    async def open(self) -> None:
        """Returns when searches can be answered."""

    async def close(self) -> None:
        """Gives everything back; running calls have ended."""

    async def bases(self) -> list[KnowledgeBase]:
        """All bases, by id."""

    async def base(self, kb: str) -> KnowledgeBase:
        """One base, with its counts."""

    async def has_base(self, kb: str) -> bool:
        """Whether there is such a base."""

    async def put_base(self, base: KnowledgeBase, request_id: str = "") -> None:
        """Makes or changes a base, and remembers the request; version and counts are the store's."""

    async def delete_base(self, kb: str) -> None:
        """Removes a base with everything in it."""

    async def entry(self, kb: str, entry_id: str) -> Entry | None:
        """One entry, or None."""

    async def by_fact(self, kb: str, fact_key: str) -> Entry | None:
        """The entry that says this fact, or None."""

    async def entries(self, kb: str, after: str, limit: int, where: Filter | None = None) -> list[Entry]:
        """Entries that fit the filter, by id, after an id."""

    async def revisions(self, kb: str, entry_id: str, before: int, limit: int) -> list[Revision]:
        """Revisions below a number, newest first."""

    async def commit(self, kb: str, writes: Sequence[Write], request_id: str = "") -> None:
        """Writes all or nothing, and remembers the request."""

    async def seen(self, scope: str, request_id: str) -> bool:
        """Whether a request was remembered; the scope is the base's id, or "" for put_base."""

    async def search(self, kb: str, query: Query, vector: Vector | None) -> tuple[list[Hit], int]:
        """The entries that fit best, and the version of the base that was searched.

        Args:
            kb: The base.
            query: What to look for.
            vector: The query's embedding; None for BM25.
        """

    async def changes(self, kb: str, since: int, limit: int) -> list[tuple[int, Entry]]:
        """Entries that changed after a version, with the version of their last change, oldest first."""

    async def wait_for_change(self, kb: str, since: int) -> None:
        """Returns when the base's version is above the given one."""

    async def without_vector(self, kb: str, embedder: str, limit: int) -> list[Entry]:
        """Entries that have no vector of this embedder yet."""

    async def put_vectors(self, kb: str, embedder: str, vectors: Sequence[tuple[Entry, Vector]]) -> None:
        """Keeps vectors; those of entries whose indexed text changed meanwhile are dropped."""

    async def use_embedder(self, kb: str, embedder: str, dimension: int) -> None:
        """Searches with the vectors of this embedder from now on."""
