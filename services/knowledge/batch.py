"""The writes of one request: decided one after the other, looked up and committed together."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

import numpy as np

from services.knowledge.entries import Entry, EntryKind, preference
from services.knowledge.filters import parse
from services.knowledge.hygiene import MIN_COSINE
from services.knowledge.search import Query, SearchMode, first_words
from services.knowledge.stores import Store, Vector, Write

_FACTS = parse("kind = FACT AND (status = ACTIVE OR status = DRAFT OR status = SUPERSEDED OR status = RETIRED)")
_NEAREST = 10
_SEARCHES = 8  # at once
_MOST_ALIKE = 200


class Batch:
    """Writes that are not committed yet, seen by the next decision as if they were.

    Several changes of one entry become one revision.

    Args:
        store: Where they go.
        kb: The base.
        now: The time in microseconds since 1970.
        make_vectors: Makes the vectors of texts, by text, as far as they can be had now; the others are made later.
        vectors: Vectors that were made before, by text.
    """

    def __init__(
        self,
        store: Store,
        kb: str,
        now: Callable[[], int],
        make_vectors: Callable[[Sequence[str]], Awaitable[dict[str, Vector]]],
        vectors: dict[str, Vector] | None = None,
    ) -> None:
        self._store = store
        self._kb = kb
        self._now = now
        self._make_vectors = make_vectors
        self._stored: dict[str, Entry | None] = {}
        self._stored_facts: dict[str, str] = {}
        self._known_facts: set[str] = set()
        self._stored_claims: dict[str, list[str]] = {}
        self._writes: dict[str, Write] = {}
        self._facts: dict[str, set[str]] = {}
        self._claims: dict[str, set[str]] = {}
        self.vectors: dict[str, Vector] = vectors or {}
        self._near: dict[str, list[str]] = {}  # ids, by text
        self._fresh = _FreshVectors()

    async def load(self, entries: Iterable[Entry] = (), ids: Iterable[str] = ()) -> None:
        """Looks up what decisions about entries need, with one request of a kind; what is known is not asked again."""
        entries = list(entries)
        wanted = {entry_id for entry_id in (*ids, *(e.id for e in entries)) if entry_id} - self._stored.keys()
        facts = {entry.fact_key for entry in entries} - self._known_facts
        claims = {key for entry in entries for key in entry.claim_keys} - self._stored_claims.keys()
        found, by_fact, by_claim = await asyncio.gather(
            self._ask(self._store.get, wanted),
            self._ask(self._store.by_facts, facts),
            self._ask(self._store.by_claims, claims),
        )
        for entry_id in wanted:
            self._stored[entry_id] = found.get(entry_id)
        for entry in (*by_fact.values(), *(entry for some in by_claim.values() for entry in some)):
            self._stored[entry.id] = entry
        self._known_facts |= facts
        self._stored_facts.update((key, entry.id) for key, entry in by_fact.items())
        for key in claims:
            self._stored_claims[key] = [entry.id for entry in by_claim.get(key, ())]

    async def _ask(self, look_up, keys: Collection[str]):  # type: ignore[no-untyped-def]
        return await look_up(self._kb, keys) if keys else {}

    async def look_around(self, entries: Iterable[Entry]) -> None:
        """Finds the stored facts whose vectors are near those of new facts."""
        texts = list(dict.fromkeys(entry.text for entry in entries if _is_plain_fact(entry)))
        await self.embed(texts)
        texts = [text for text in texts if text in self.vectors]
        slots = asyncio.Semaphore(_SEARCHES)

        async def look(text: str) -> None:
            query = Query(first_words(text), SearchMode.VECTOR, top_k=_NEAREST, minimum_score=MIN_COSINE, filter=_FACTS)
            async with slots:
                hits, _ = await self._store.search(self._kb, query, self.vectors[text])
            self._near[text] = [hit.entry.id for hit in hits]
            for hit in hits:
                self._stored.setdefault(hit.entry.id, hit.entry)

        await asyncio.gather(*(look(text) for text in texts if text not in self._near))

    async def embed(self, texts: Iterable[str]) -> None:
        """Makes vectors that `commit` and `look_around` need."""
        missing = [text for text in dict.fromkeys(texts) if text not in self.vectors]
        if missing:
            self.vectors.update(await self._make_vectors(missing))

    def stored(self, entry_id: str) -> Entry | None:
        """An entry as it was before this request; it was loaded."""
        return self._stored.get(entry_id)

    def entry(self, entry_id: str) -> Entry | None:
        """An entry as it will be; it was loaded."""
        write = self._writes.get(entry_id)
        return self._stored.get(entry_id) if write is None else write.entry

    def by_fact(self, key: str) -> Entry | None:
        """The entry that will say this fact: the one in use first, then the smallest id."""
        ids = {*self._facts.get(key, ()), self._stored_facts.get(key, "")}
        found = [e for entry_id in ids if (e := self.entry(entry_id)) is not None and e.fact_key == key]
        return min(found, key=preference, default=None)

    def alike(self, entry: Entry) -> list[Entry]:
        """Other entries that have a claim key in common with this one, as they will be, by id; not more than a few."""
        keys = set(entry.claim_keys)
        ids = {i for key in keys for i in (*self._stored_claims.get(key, ()), *self._claims.get(key, ()))}
        # More than these would be a table in sentences: a person looks at the first ones anyway.
        few = sorted(ids - {entry.id})[:_MOST_ALIKE]
        return [other for other in self._others(entry, few) if keys.intersection(other.claim_keys)]

    def near(self, entry: Entry) -> list[Entry]:
        """Other facts whose vectors are near, as they will be, by id."""
        vector = self.vectors.get(entry.text) if _is_plain_fact(entry) else None
        if vector is None:
            return []
        return self._others(entry, {*self._near.get(entry.text, ()), *self._fresh.near(vector)})

    def _others(self, entry: Entry, ids: Collection[str]) -> list[Entry]:
        return [e for entry_id in sorted({*ids} - {entry.id}) if (e := self.entry(entry_id)) is not None]

    def put(self, entry: Entry, author: str, reason: str) -> Entry:
        """Writes an entry; of several writes of one entry the last one counts, under the author of the first.

        Returns:
            The entry with its revision and times.
        """
        before = self._stored.get(entry.id)
        earlier = self._writes.get(entry.id)
        now = self._now()
        entry = dataclasses.replace(
            entry,
            revision=before.revision + 1 if before else 1,
            create_time=before.create_time if before else earlier.entry.create_time if earlier else now,
            update_time=now,
        )
        self._writes[entry.id] = Write(
            entry,
            earlier.author if earlier else author,
            earlier.reason if earlier else reason,
            keep_vector=before is not None and before.indexed == entry.indexed,
        )
        self._facts.setdefault(entry.fact_key, set()).add(entry.id)
        for key in entry.claim_keys:
            self._claims.setdefault(key, set()).add(entry.id)
        if _is_plain_fact(entry) and entry.text in self.vectors:
            self._fresh.add(entry.id, self.vectors[entry.text])
        return entry

    async def commit(self, *, atomic: bool) -> None:
        """Writes what was put, with its vectors."""
        writes = [write for write in self._writes.values() if not write.keep_vector]
        await self.embed(write.entry.indexed for write in writes)
        complete: Sequence[Write] = [
            write if write.keep_vector else dataclasses.replace(write, vector=self.vectors.get(write.entry.indexed))
            for write in self._writes.values()
        ]
        if complete:
            await self._store.commit(self._kb, complete, atomic=atomic)


def _is_plain_fact(entry: Entry) -> bool:
    return entry.kind is EntryKind.FACT and not entry.index_text


class _FreshVectors:
    """Vectors of the facts that this request writes."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._matrix: Vector = np.zeros((0, 0), np.float32)

    def add(self, entry_id: str, vector: Vector) -> None:
        count = len(self._ids)
        if count >= len(self._matrix):
            grown = np.zeros((max(64, 2 * count), len(vector)), np.float32)
            if count:  # before, its width is not known
                grown[:count] = self._matrix[:count]
            self._matrix = grown
        self._matrix[count] = vector
        self._ids.append(entry_id)

    def near(self, vector: Vector) -> list[str]:
        if not self._ids:
            return []
        scores = self._matrix[: len(self._ids)] @ vector
        return [self._ids[place] for place in np.flatnonzero(scores >= MIN_COSINE)]
