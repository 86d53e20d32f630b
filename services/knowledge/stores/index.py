"""The entries of one base in memory: a cache of what the database holds, made for searching."""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from services.knowledge.entries import Entry, EntryStatus
from services.knowledge.filters import Filter
from services.knowledge.search import CANDIDATES, MAX_WORDS, Hit, Query, SearchMode, fuse, words
from services.knowledge.stores import Statistics, Vector
from services.knowledge.stores.bm25 import Bm25, grown
from services.knowledge.stores.cosine import CosineIndex
from services.knowledge.stores.kernels import NUMPY, Kernels
from services.knowledge.stores.locks import SharedLock

_KEPT_FILTERS = 32  # whose verdicts are remembered
_UNKNOWN, _ACCEPTED, _REFUSED = 0, 1, 2
_CHEAP = 10_000_000  # characters of the query times entries; about a millisecond


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

    def __init__(self, kernels: Kernels = NUMPY) -> None:
        self._lock = SharedLock()
        self._kernels = kernels
        self._entries: list[Entry] = []
        self._slots: dict[str, int] = {}
        self._ids: list[str] = []  # sorted
        self._keys: dict[str, int | set[int]] = {}  # the slot, or the slots, of a key
        self._bm25 = Bm25(kernels)
        self._vectors = CosineIndex(kernels)
        self._active = np.zeros(16, np.bool_)
        self._every = np.ones(16, np.bool_)
        self._unknown = np.zeros(16, np.int8)
        self._changed = np.zeros(16, np.int64)
        # What filters were seen to say of slots: callers repeat their filters, and looking at an entry is slow.
        self._verdicts: dict[Filter, NDArray[np.int8]] = {}
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
        with self._lock.reading():
            return sorted((self._entries[slot] for slot in self._having(key)), key=lambda entry: entry.id)

    def _having(self, key: str) -> Collection[int]:
        slots = self._keys.get(key, ())
        return (slots,) if isinstance(slots, int) else slots

    def page(self, after: str, limit: int, where: Filter | None) -> list[Entry]:
        """Entries that fit, by id, after an id."""
        with self._lock.reading():
            start = bisect_right(self._ids, after)
            found = (self._entries[self._slots[entry_id]] for entry_id in islice(self._ids, start, None))
            return list(islice((e for e in found if where is None or where.matches(e)), limit))

    def changes(self, since: int, limit: int) -> list[tuple[int, Entry]]:
        """Entries that changed after a version, oldest change first."""
        with self._lock.reading():
            changed = self._changed[: len(self._entries)]
            slots = np.flatnonzero(changed > since)
            slots = slots[np.argsort(changed[slots])][:limit]
            return [(int(changed[slot]), self._entries[slot]) for slot in slots]

    def put(self, changes: Sequence[Change]) -> None:
        """Adds and changes entries."""
        last = {change.entry.id: change for change in changes}
        # What needs no lock is done before, so that searches wait as little as may be.
        texts = {entry_id: words(change.entry.indexed) for entry_id, change in last.items() if self._reads(change)}
        with self._lock.writing():
            documents: list[tuple[int, list[str], list[str] | None]] = []
            fresh: list[str] = []
            for entry_id, change in last.items():
                entry = change.entry
                slot = self._slots.get(entry_id)
                before = None
                if slot is None:
                    slot = self._slots[entry_id] = len(self._entries)
                    self._entries.append(entry)
                    fresh.append(entry_id)
                else:
                    before = self._entries[slot]
                    self._entries[slot] = entry
                    if (before.kind, before.text) != (entry.kind, entry.text):
                        self._forget((before.fact_key, *before.claim_keys), slot)
                    if before.sources != entry.sources:
                        self._forget((_sole_case(before),), slot)
                self._remember((*change.keys, _sole_case(entry)), slot)
                if entry_id in texts:
                    documents.append((slot, texts[entry_id], None if before is None else words(before.indexed)))
            self._grow(len(self._entries))
            self._bm25.put(documents)
            self._note(list(last.values()))
            if len(fresh) > 16:
                self._ids = sorted([*self._ids, *fresh])
            else:
                for entry_id in fresh:
                    insort(self._ids, entry_id)

    def _reads(self, change: Change) -> bool:
        """Whether the index reads something else than before."""
        before = self.get(change.entry.id)
        return before is None or before.indexed != change.entry.indexed

    def _note(self, changes: list[Change]) -> None:
        """What the arrays say of entries."""
        slots = [self._slots[change.entry.id] for change in changes]
        active = np.array([change.entry.status is EntryStatus.ACTIVE for change in changes], np.bool_)
        self.active_count += int(active.sum()) - int(self._active[slots].sum())
        self._active[slots] = active
        self._changed[slots] = [change.version for change in changes]
        self.version = max([self.version, *(change.version for change in changes)])
        for verdicts in self._verdicts.values():
            verdicts[slots] = _UNKNOWN
        given = [(slot, c.vector) for slot, c in zip(slots, changes, strict=True) if not c.keep_vector]
        self._vectors.remove([slot for slot, vector in given if vector is None])
        kept = [(slot, vector) for slot, vector in given if vector is not None]
        self._vectors.put([slot for slot, _ in kept], [vector for _, vector in kept])

    def _grow(self, room: int) -> None:
        if room > len(self._active):
            self._every = np.ones(max(room, 2 * len(self._active)), np.bool_)
            self._unknown = np.zeros(len(self._every), np.int8)
            self._active = grown(self._active, len(self._every))
            self._changed = grown(self._changed, len(self._every))
            self._verdicts.clear()

    def _remember(self, keys: tuple[str, ...], slot: int) -> None:
        for key in filter(None, keys):
            slots = self._keys.setdefault(key, slot)
            if isinstance(slots, set):
                slots.add(slot)
            elif slots != slot:
                self._keys[key] = {slots, slot}

    def _forget(self, keys: tuple[str, ...], slot: int) -> None:
        for key in keys:
            slots = self._keys.get(key)
            if isinstance(slots, set):
                slots.discard(slot)
            if slots == slot or not slots:  # an empty set, or nothing at all
                self._keys.pop(key, None)

    def statistics(self, top: int) -> Statistics:
        """Figures of the entries; lists have at most `top` items."""
        with self._lock.reading():
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

    def put_vectors(self, vectors: dict[str, Vector]) -> None:
        """Sets vectors of entries that are there."""
        with self._lock.writing():
            self._vectors.put([self._slots[entry_id] for entry_id in vectors], list(vectors.values()))

    def replace_vectors(self, vectors: CosineIndex) -> None:
        """Searches with other vectors from now on; their slots are those of `slot_of`."""
        with self._lock.writing():
            self._vectors = vectors

    def slot_of(self, entry_id: str) -> int:
        """Where an entry is in the index; it stays there."""
        return self._slots[entry_id]

    def try_search(self, query: Query, vector: Vector | None) -> tuple[list[Hit], int] | None:
        """Searches at once; None where that would take long, or something is written just now."""
        cost = len(self._entries) * (len(query.text) + (0 if vector is None else len(vector)))
        if cost > _CHEAP or not self._lock.try_read():
            return None
        try:
            return self._search(query, vector)
        finally:
            self._lock.end_read()

    def search(self, query: Query, vector: Vector | None) -> tuple[list[Hit], int]:
        """The entries that fit best, and the version that was searched."""
        with self._lock.reading():
            return self._search(query, vector)

    def _search(self, query: Query, vector: Vector | None) -> tuple[list[Hit], int]:
        terms = words(query.text, MAX_WORDS)
        if query.mode is SearchMode.HYBRID:
            return self._hybrid(query, terms, vector), self.version
        by_vector = query.mode is SearchMode.VECTOR
        found = self._by_vector(vector, query, query.top_k) if by_vector else self._by_words(terms, query, query.top_k)
        hits = []
        for slot, score in found:
            why = ""
            if query.explain:
                why = f"cosine = {score:.6g}" if by_vector else self._bm25.explain(terms, slot)
            if query.minimum_score is None or score >= query.minimum_score:
                hits.append(Hit(self._entries[slot], score, why))
        return hits, self.version

    def _hybrid(self, query: Query, terms: list[str], vector: Vector | None) -> list[Hit]:
        by_words = self._by_words(terms, query, CANDIDATES) if query.hybrid_weight < 1.0 else []
        by_vector = self._by_vector(vector, query, CANDIDATES) if query.hybrid_weight > 0.0 else []
        rankings = [{self._entries[slot].id: score for slot, score in found} for found in (by_words, by_vector)]
        fused = fuse(rankings[0], rankings[1], query.hybrid_weight, query.fusion)
        wanted = (
            Hit(self._entries[self._slots[key]], score, f"hybrid = {why}" if query.explain else "")
            for key, (score, why) in fused.items()
            if query.minimum_score is None or score >= query.minimum_score
        )
        return list(islice(wanted, query.top_k))

    def _by_words(self, terms: list[str], query: Query, wanted: int) -> list[tuple[int, float]]:
        scores = self._bm25.scores(terms)
        return self._best(lambda _refused, _count: scores, 0.0, query, wanted)

    def _by_vector(self, vector: Vector | None, query: Query, wanted: int) -> list[tuple[int, float]]:
        if vector is None:
            return []
        allowed = self._allowed(query)
        return self._best(partial(self._vectors.candidates, vector, allowed), -np.inf, query, wanted)

    def _allowed(self, query: Query) -> NDArray[np.bool_]:
        """Which slots may be found as far as the status goes."""
        return (self._active if query.active_only else self._every)[: len(self._entries)]

    def _best(
        self,
        score: Callable[[NDArray[np.bool_], int], NDArray[np.float64]],
        floor: float,
        query: Query,
        wanted: int,
    ) -> list[tuple[int, float]]:
        """The best slots above the floor that the query accepts, with their scores; ties by id.

        Args:
            score: The scores of all slots, given those that are refused, and how many of the best must be right.
            floor: See above.
            query: Whose filter and exclusions hold.
            wanted: How many.
        """
        verdicts = self._verdicts_of(query.filter)
        count = wanted
        while True:
            refused = self._refused(query, verdicts)
            scores = score(refused, count)
            slots = self._kernels.best(scores, self._allowed(query), refused, floor, count).tolist()
            accepted = slots if query.filter is None else self._accepted(slots, query.filter, verdicts)
            if len(accepted) >= wanted or len(slots) < count:
                break
            count *= 2
        values = {slot: float(scores[slot]) for slot in accepted}
        ranked = sorted(accepted, key=lambda slot: (-values[slot], self._entries[slot].id))
        return [(slot, values[slot]) for slot in ranked[:wanted]]

    def _verdicts_of(self, where: Filter | None) -> NDArray[np.int8]:
        if where is None:
            return self._unknown[: len(self._entries)]
        if where not in self._verdicts and len(self._verdicts) >= _KEPT_FILTERS:
            self._verdicts.clear()
        return self._verdicts.setdefault(where, self._unknown.copy())[: len(self._entries)]

    def _refused(self, query: Query, verdicts: NDArray[np.int8]) -> NDArray[np.bool_]:
        """The slots that the query excludes, and those that its filter was seen to refuse."""
        refused = verdicts == _REFUSED
        refused[[slot for entry_id in query.exclude if (slot := self._slots.get(entry_id)) is not None]] = True
        if query.exclude_sole_source_case:
            refused[list(self._having(_case_key(query.exclude_sole_source_case)))] = True
        return refused

    def _accepted(self, slots: list[int], where: Filter, verdicts: NDArray[np.int8]) -> list[int]:
        for slot in slots:
            if verdicts[slot] == _UNKNOWN:
                verdicts[slot] = _ACCEPTED if where.matches(self._entries[slot]) else _REFUSED
        return [slot for slot in slots if verdicts[slot] == _ACCEPTED]


def _case_key(case_id: str) -> str:
    """The key of entries whose only source is this case."""
    return f"case {case_id}"


def _sole_case(entry: Entry) -> str:
    cases = {source.case_id for source in entry.sources}
    return _case_key(cases.pop()) if len(cases) == 1 else ""
