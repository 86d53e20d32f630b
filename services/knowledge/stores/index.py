"""The entries of one base in memory: a cache of what the database holds, made for searching."""

from __future__ import annotations

import heapq
import threading
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from services.knowledge.entries import Entry, EntryStatus
from services.knowledge.filters import Filter
from services.knowledge.search import CANDIDATES, MAX_WORDS, Hit, Query, SearchMode, fuse, words
from services.knowledge.stores import Statistics, Vector
from services.knowledge.stores.bm25 import Bm25


@dataclass(frozen=True, slots=True)
class Change:
    """An entry that is new or other than before.

    Attributes:
        entry: The entry as it is now.
        keys: By which it is found: what it says, and what it claims. Empty ones do not count.
        version: Of the base with this change.
        vector: Its vector; None: it has none.
        keep_vector: Leave the vector that it has.
    """

    entry: Entry
    keys: tuple[str, ...]
    version: int
    vector: Vector | None = None
    keep_vector: bool = False


class Index:
    """All entries of a base, of every status. Changed by one thread, read by many."""

    def __init__(self, make_bm25: Callable[[], Bm25]) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._slots: dict[str, int] = {}
        self._ids: list[str] = []  # sorted
        self._keys: dict[str, int | set[int]] = {}  # the slot, or the slots, of a key
        self._bm25 = make_bm25()
        self._active = np.zeros(16, np.bool_)
        self._changed = np.zeros(16, np.int64)
        self._vectors: Vector | None = None
        self._has_vector = np.zeros(16, np.bool_)
        self.version = 0
        self.active_count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, entry_id: str) -> Entry | None:
        """An entry by its id."""
        slot = self._slots.get(entry_id)
        return None if slot is None else self._entries[slot]

    def by_key(self, key: str) -> list[Entry]:
        """Entries that have a key, by id."""
        with self._lock:
            slots = self._keys.get(key, set())
            found = (self._entries[slot] for slot in ((slots,) if isinstance(slots, int) else slots))
            return sorted(found, key=lambda entry: entry.id)

    def page(self, after: str, limit: int, where: Filter | None) -> list[Entry]:
        """Entries that fit, by id, after an id."""
        with self._lock:
            start = bisect_right(self._ids, after)
            found = (self._entries[self._slots[entry_id]] for entry_id in islice(self._ids, start, None))
            return list(islice((e for e in found if where is None or where.matches(e)), limit))

    def changes(self, since: int, limit: int) -> list[tuple[int, Entry]]:
        """Entries that changed after a version, oldest change first."""
        with self._lock:
            changed = self._changed[: len(self._entries)]
            slots = np.flatnonzero(changed > since)
            slots = slots[np.argsort(changed[slots])][:limit]
            return [(int(changed[slot]), self._entries[slot]) for slot in slots]

    def put(self, changes: Sequence[Change]) -> None:
        """Adds and changes entries."""
        last = {change.entry.id: change for change in changes}
        with self._lock:
            documents: list[tuple[int, list[str], list[str] | None]] = []
            fresh: list[str] = []
            for change in last.values():
                entry = change.entry
                slot = self._slots.get(entry.id)
                if slot is None:
                    slot = self._slots[entry.id] = len(self._entries)
                    self._entries.append(entry)
                    fresh.append(entry.id)
                    self._grow(slot)
                    documents.append((slot, words(entry.indexed), None))
                else:
                    before = self._entries[slot]
                    self._entries[slot] = entry
                    if before.indexed != entry.indexed:
                        documents.append((slot, words(entry.indexed), words(before.indexed)))
                    if (before.kind, before.text) != (entry.kind, entry.text):
                        self._forget(before, slot)
                self._remember(change.keys, slot)
                is_active = entry.status is EntryStatus.ACTIVE
                self.active_count += int(is_active) - int(self._active[slot])
                self._active[slot] = is_active
                self._changed[slot] = change.version
                self.version = max(self.version, change.version)
                if not change.keep_vector:
                    self._set_vector(slot, change.vector)
            if len(fresh) > 16:
                self._ids = sorted([*self._ids, *fresh])
            else:
                for entry_id in fresh:
                    insort(self._ids, entry_id)
            if documents:
                self._bm25.put(documents)

    def _remember(self, keys: tuple[str, ...], slot: int) -> None:
        for key in filter(None, keys):
            slots = self._keys.setdefault(key, slot)
            if isinstance(slots, set):
                slots.add(slot)
            elif slots != slot:
                self._keys[key] = {slots, slot}

    def _forget(self, entry: Entry, slot: int) -> None:
        for key in (entry.fact_key, *entry.claim_keys):
            slots = self._keys.get(key)
            if isinstance(slots, set):
                slots.discard(slot)
            if slots == slot or not slots:  # an empty set, or nothing at all
                self._keys.pop(key, None)

    def statistics(self, top: int) -> Statistics:
        """Figures of the entries; lists have at most `top` items."""
        with self._lock:
            entries = list(self._entries)
        tags = Counter(tag for entry in entries for tag in entry.tags)

        def best(counter: str) -> list[Entry]:
            having = (entry for entry in entries if getattr(entry, counter))
            return heapq.nsmallest(top, having, key=lambda entry: (-getattr(entry, counter), entry.id))

        return Statistics(
            by_status=dict(Counter(entry.status for entry in entries)),
            by_kind=dict(Counter(entry.kind for entry in entries)),
            tags=heapq.nsmallest(top, tags.items(), key=lambda item: (-item[1], item[0])),
            used=sum(entry.used for entry in entries),
            helpful=sum(entry.helpful for entry in entries),
            harmful=sum(entry.harmful for entry in entries),
            most_used=best("used"),
            most_helpful=best("helpful"),
            most_harmful=best("harmful"),
        )

    def set_vectors(self, vectors: dict[str, Vector] | None) -> None:
        """Replaces all vectors at once, or adds some (None: drops all)."""
        with self._lock:
            if vectors is None:
                self._vectors = None
                self._has_vector[:] = False
                return
            for entry_id, vector in vectors.items():
                self._set_vector(self._slots[entry_id], vector)

    def without_vector(self, limit: int) -> list[Entry]:
        """Entries that have no vector, by the order in which they came."""
        with self._lock:
            slots = np.flatnonzero(~self._has_vector[: len(self._entries)])[:limit]
            return [self._entries[slot] for slot in slots]

    def _grow(self, slot: int) -> None:
        if slot >= len(self._active):
            room = len(self._active)
            self._active = np.concatenate([self._active, np.zeros(room, np.bool_)])
            self._has_vector = np.concatenate([self._has_vector, np.zeros(room, np.bool_)])
            self._changed = np.concatenate([self._changed, np.zeros(room, np.int64)])

    def _set_vector(self, slot: int, vector: Vector | None) -> None:
        self._has_vector[slot] = vector is not None
        if vector is None:
            return
        if self._vectors is None:
            self._vectors = np.zeros((len(self._active), len(vector)), np.float32)
        elif len(self._vectors) < len(self._active):
            more = np.zeros((len(self._active) - len(self._vectors), self._vectors.shape[1]), np.float32)
            self._vectors = np.concatenate([self._vectors, more])
        self._vectors[slot] = vector

    def search(self, query: Query, vector: Vector | None) -> tuple[list[Hit], int]:
        """The entries that fit best, and the version that was searched."""
        with self._lock:
            terms = words(query.text, MAX_WORDS)
            if query.mode is SearchMode.HYBRID:
                hits = self._hybrid(query, terms, vector)
            elif query.mode is SearchMode.VECTOR:
                hits = [
                    Hit(self._entries[slot], score, f"cosine = {score:.6g}" if query.explain else "")
                    for slot, score in self._best(self._by_vector(vector), query, query.top_k, query.minimum_score)
                ]
            else:
                hits = [
                    Hit(self._entries[slot], score, self._bm25.explain(terms, slot) if query.explain else "")
                    for slot, score in self._best(self._by_words(terms), query, query.top_k, query.minimum_score)
                ]
            return hits, self.version

    def _hybrid(self, query: Query, terms: list[str], vector: Vector | None) -> list[Hit]:
        rankings = []
        for share, scores in ((1.0 - query.hybrid_weight, self._by_words), (query.hybrid_weight, self._by_vector)):
            argument = terms if scores == self._by_words else vector
            found = self._best(scores(argument), query, CANDIDATES, None) if share > 0.0 else []  # type: ignore[arg-type]
            rankings.append({self._entries[slot].id: score for slot, score in found})
        fused = fuse(rankings[0], rankings[1], query.hybrid_weight, query.fusion)
        wanted = (
            Hit(self._entries[self._slots[key]], score, f"hybrid = {why}" if query.explain else "")
            for key, (score, why) in fused.items()
            if query.minimum_score is None or score >= query.minimum_score
        )
        return list(islice(wanted, query.top_k))

    def _by_words(self, terms: list[str]) -> NDArray[np.float64]:
        scores = self._bm25.scores(terms)
        scores[scores <= 0.0] = -np.inf
        return scores

    def _by_vector(self, vector: Vector | None) -> NDArray[np.float64]:
        count = len(self._entries)
        if self._vectors is None or vector is None:
            return np.full(count, -np.inf, np.float64)
        # Rounded, so that the same text has the same score wherever it stands in the matrix.
        scores = np.asarray(np.round(self._vectors[:count] @ vector, 6), np.float64)
        scores[~self._has_vector[:count]] = -np.inf
        return scores

    def _best(
        self, scores: NDArray[np.float64], query: Query, wanted: int, minimum: float | None
    ) -> list[tuple[int, float]]:
        """The best slots that the query accepts, with their scores; ties by id."""
        possible = scores > -np.inf
        if query.active_only:
            possible &= self._active[: len(scores)]
        if minimum is not None:
            possible &= scores >= minimum
        slots = np.flatnonzero(possible)
        values = scores[slots]
        found: list[tuple[int, float]] = []
        looked_at = 0
        chunk = wanted * 2 + min(len(query.exclude), 64) + 8
        while looked_at < len(slots) and len(found) < wanted:
            # Entries are looked at in Python, so only as many as it takes: the best ones first.
            take = min(chunk, len(slots))
            threshold = np.partition(values, len(slots) - take)[len(slots) - take]
            best = slots[values >= threshold].tolist()
            ranked = sorted(best, key=lambda slot: (-scores[slot], self._entries[slot].id))
            for slot in ranked[looked_at:]:
                if query.accepts(self._entries[slot]):
                    found.append((slot, float(scores[slot])))
                    if len(found) == wanted:
                        break
            looked_at = len(ranked)
            chunk = max(take * 8, looked_at + 1)
        return found
