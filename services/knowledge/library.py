"""What can be done with knowledge bases and their entries, over any store.

Writers of one base come one at a time, so that reading, deciding and committing are one step; a caller who goes away
does not stop a write half-way. What nearly repeats or contradicts another entry waits for a person as a DRAFT, unless
the caller says that a person has looked at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Any, TypeVar

from services.common import context
from services.common.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NesycdError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from services.knowledge import names, reasons
from services.knowledge.batch import Batch
from services.knowledge.convert import edit_conflict_message
from services.knowledge.embedders import Embedder
from services.knowledge.entries import (
    CONTENT_FIELDS,
    IN_USE,
    MAX_COUNT,
    MAX_NOTE,
    Entry,
    EntryStatus,
    KnowledgeBase,
    ReviewCause,
    Revision,
    check_etag,
    check_line,
    check_text,
    derive_id,
    same_content,
    to_json,
    validate,
    with_sources,
)
from services.knowledge.exchange import Item
from services.knowledge.filters import Compare, Filter
from services.knowledge.hygiene import claim_keys
from services.knowledge.reviews import Decision, Review, resolve, waiting
from services.knowledge.search import MAX_TOP_K, Hit, Query, weighted
from services.knowledge.stores import Statistics, Store, Vector, Write
from services.knowledge.vectors import Vectors

IMPORT_BLOCK = 500  # entries a transaction of an import that is not atomic
MAX_ATOMIC = 200_000  # entries of an import that is
MAX_PROBLEMS = 1000
MAX_CHANGES_BYTES = 2 * 1024 * 1024  # of the changes that an import lists
_AUDIT_PAGE = 100  # entries
_TURN = 64  # decisions, after which it is the turn of other calls
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Creation:
    """An entry to be made.

    Attributes:
        entry: The entry; its kb and id are filled in.
        entry_id: The wished id; empty: derived.
        merge: The same fact said again becomes another source.
        author: Who.
        reason: Why.
        reviewed: A person has looked at it.
    """

    entry: Entry
    entry_id: str = ""
    merge: bool = False
    author: str = ""
    reason: str = ""
    reviewed: bool = False


@dataclass(frozen=True, slots=True)
class Feedback:
    """What an answer says of an entry."""

    entry_id: str
    used: int
    helpful: int
    harmful: int


@dataclass(frozen=True, slots=True)
class Problem:
    """An item of a file that was refused."""

    line: int
    error: NesycdError


class ImportOutcome(IntEnum):
    """What happens to an item of a file. The numbers are the contract's."""

    CREATED = 1
    UPDATED = 2
    MERGED = 3
    FOR_REVIEW = 4


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to an item of a file: the entry as it is afterwards, and as it was."""

    line: int
    outcome: ImportOutcome
    entry: Entry
    before: Entry | None


@dataclass(slots=True)
class ImportReport:
    """What came of an import."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    merged: int = 0
    for_review: int = 0
    problems: list[Problem] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    changes_left_out: int = 0


@dataclass(slots=True)
class _Block:
    """Items that are decided about together, each beside its entry where it is one."""

    items: list[Item] = field(default_factory=list)
    valid: list[Entry | None] = field(default_factory=list)

    def add(self, kb: str, item: Item) -> None:
        """Takes an item."""
        entry = None
        if item.entry is not None:
            with contextlib.suppress(NesycdError):  # told when it is decided about
                entry = validate(dataclasses.replace(item.entry, kb=kb))
                claim_keys(entry.text)  # the look-ups need them, and they are remembered
        self.items.append(item)
        self.valid.append(entry)


@dataclass(slots=True)
class _Import:
    """An import that runs.

    Attributes:
        own: Ids of entries that came from items with an id: those are not compared with each other.
        pending: Changes of this block: line, outcome, id, and the entry before.
    """

    author: str
    reason: str
    reviewed: bool
    lists: bool
    report: ImportReport = field(default_factory=ImportReport)
    own: set[str] = field(default_factory=set)
    pending: list[tuple[int, ImportOutcome, str, Entry | None]] = field(default_factory=list)
    room: int = MAX_CHANGES_BYTES

    def note(self, item: Item, outcome: ImportOutcome, entry_id: str, before: Entry | None) -> None:
        """Counts a change."""
        if self.lists:
            self.pending.append((item.line, outcome, entry_id, before))

    def settle(self, batch: Batch) -> None:
        """Lists the changes of a block, as its entries are at its end."""
        for line, outcome, entry_id, before in self.pending:
            entry = batch.entry(entry_id)
            assert entry is not None
            if self.room > 0:
                self.room -= sum(len(to_json(one).encode()) + 64 for one in (entry, before) if one is not None)
            if self.room > 0:
                self.report.changes.append(Change(line, outcome, entry, before))
            else:
                self.report.changes_left_out += 1
        self.pending.clear()


def _now() -> int:
    return time.time_ns() // 1000


class Library:
    """The operations of the service. Arguments are core types; errors are NesycdErrors.

    Args:
        store: Where knowledge is kept.
        embedder: Makes vectors; None: there are none, and searches go by words.
        now: The time in microseconds since 1970.
    """

    def __init__(self, store: Store, embedder: Embedder | None = None, now: Callable[[], int] = _now) -> None:
        self._store = store
        self._vectors = Vectors(store, embedder, self._alone)
        self._now = now
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Opens the store; returns when searches can be answered."""
        await self._vectors.load()
        await self._store.open()
        self._vectors.start()

    async def close(self) -> None:
        """Finishes writes that run, and closes the store."""
        await self._vectors.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._vectors.close()
        await self._store.close()

    async def _alone(self, kb: str, work: Callable[[], Awaitable[T]]) -> T:
        """Runs a write of a base when no other runs, to its end even where the caller goes away."""

        async def locked() -> T:
            async with self._store.writing(kb):
                return await work()

        task = asyncio.create_task(locked())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    # -- bases

    async def create_base(self, kb: str, title: str, description: str, request_id: str = "") -> KnowledgeBase:
        """Makes a base; a repeated request with the same id is answered like the first.

        Raises:
            AlreadyExists: There is one with this id.
            InvalidArgument: The id, title or description is not allowed.
        """
        base = KnowledgeBase(
            names.base_id(kb),
            check_line(title, "knowledge_base.title", MAX_NOTE),
            check_text(description, "knowledge_base.description", MAX_NOTE),
            revision=1,
        )
        key = f"create:{kb}:{_request_id(request_id)}" if request_id else ""

        async def work() -> KnowledgeBase:
            if await self._store.has_base(kb):
                if await self._store.seen("", key):
                    return await self.base(kb)
                name = names.base_name(kb)
                raise AlreadyExists(
                    f"{name} exists already: use it, or choose another id",
                    resource_type="nesycd.knowledge/KnowledgeBase",
                    resource_name=name,
                )
            now = self._now()
            embedder, dimension = self._vectors.new_base
            made = dataclasses.replace(base, embedder=embedder, dimension=dimension, create_time=now, update_time=now)
            await self._store.put_base(made, key)
            self._vectors.base_made(made)
            return await self.base(kb)

        return await self._alone(kb, work)

    async def base(self, kb: str) -> KnowledgeBase:
        """One base, with its counts and what is still to be done for a new embedder."""
        return await self._with_counts(await self._store.base(kb))

    async def bases(self, after: str = "", limit: int | None = None) -> list[KnowledgeBase]:
        """Bases by id, after an id, with their counts."""
        found = [base for base in await self._store.bases() if base.id > after]
        return [await self._with_counts(base) for base in found[:limit]]

    async def _with_counts(self, base: KnowledgeBase) -> KnowledgeBase:
        entry_count, active_count = await self._store.counts(base.id)
        rebuild = await self._vectors.rebuild(base, entry_count)
        return dataclasses.replace(base, entry_count=entry_count, active_count=active_count, rebuild=rebuild)

    async def statistics(self, kb: str, top: int) -> tuple[KnowledgeBase, Statistics]:
        """A base with its counts, and its figures; lists have at most `top` items."""
        return await self.base(kb), await self._store.statistics(kb, top)

    async def update_base(self, kb: str, etag: str, changes: dict[str, str]) -> KnowledgeBase:
        """Changes title and description."""
        checked: dict[str, Any] = {}
        for key, value in changes.items():
            check = check_line if key == "title" else check_text
            checked[key] = check(value, f"knowledge_base.{key}", MAX_NOTE)

        async def work() -> KnowledgeBase:
            base = await self._store.base(kb)
            check_etag(etag, base, names.base_name(kb))
            changed = dataclasses.replace(base, **checked)
            if changed != base:
                changed = dataclasses.replace(changed, revision=base.revision + 1, update_time=self._now())
                await self._store.put_base(changed)
            return await self.base(kb)

        return await self._alone(kb, work)

    async def delete_base(self, kb: str, etag: str, force: bool) -> None:
        """Removes a base; one that holds entries only with force.

        Raises:
            NotFound: There is no such base.
            Aborted: Somebody else changed it.
            FailedPrecondition: It holds entries.
        """

        async def work() -> None:
            base = await self._store.base(kb)
            check_etag(etag, base, names.base_name(kb))
            entry_count, _ = (0, 0) if force else await self._store.counts(kb)
            if entry_count:
                raise FailedPrecondition(
                    f"{names.base_name(kb)} has {entry_count} entries: set force to remove it with them",
                    reason=reasons.KNOWLEDGE_BASE_NOT_EMPTY,
                    subject=names.base_name(kb),
                )
            await self._store.delete_base(kb)

        await self._alone(kb, work)

    # -- entries

    async def entry(self, kb: str, entry_id: str) -> Entry:
        """One entry.

        Raises:
            NotFound: There is none.
        """
        return _found((await self._store.get(kb, [entry_id])).get(entry_id), kb, entry_id)

    async def entries(self, kb: str, after: str, limit: int, where: Filter | None) -> list[Entry]:
        """Entries that fit the filter, by id, after an id."""
        return await self._store.entries(kb, after, limit, where)

    async def create(self, kb: str, creation: Creation) -> tuple[Entry, bool]:
        """Adds an entry.

        Returns:
            The entry, and whether it existed and the sources were added to it.

        Raises:
            NotFound: There is no such base.
            InvalidArgument: A field holds what it must not hold.
            AlreadyExists: The fact is there and is not to be merged, or the wished id says something else.
        """
        (result,) = await self.create_many(kb, [creation])
        if isinstance(result, NesycdError):
            raise result
        return result

    async def create_many(
        self, kb: str, creations: Sequence[Creation | NesycdError]
    ) -> list[tuple[Entry, bool] | NesycdError]:
        """Adds entries; what came of each, in their order, as for `create`. Errors that are given come back.

        Raises:
            NotFound: There is no such base.
        """
        checked = [_checked(kb, creation) for creation in creations]
        good = [creation for creation in checked if isinstance(creation, Creation)]
        entries = [creation.entry for creation in good]
        ids = [entry_id for one in good for entry_id in (one.entry_id, one.entry.superseded_by)]
        fresh = [one.entry for one in good if not one.reviewed]
        vectors = await self._vectors_ahead(kb, entries)

        async def work() -> list[tuple[Entry, bool] | NesycdError]:
            batch = await self._batch(kb, vectors)
            await batch.load(entries, ids)
            await batch.look_around(entry for entry in fresh if batch.by_fact(entry.fact_key) is None)
            results: list[tuple[str, bool] | NesycdError] = []
            for place, creation in enumerate(checked):
                if place % _TURN == 0:
                    await asyncio.sleep(0)
                try:
                    if isinstance(creation, NesycdError):
                        raise creation
                    results.append(self._decide_create(batch, creation))
                except NesycdError as error:
                    results.append(error)
            await batch.commit(atomic=False)
            return [
                one if isinstance(one, NesycdError) else (_found(batch.entry(one[0]), kb, one[0]), one[1])
                for one in results
            ]

        return await self._alone(kb, work)

    async def _batch(self, kb: str, vectors: dict[str, Vector] | None = None) -> Batch:
        base = await self._store.base(kb)
        return Batch(self._store, kb, self._now, partial(self._vectors.make, base), vectors)

    async def _vectors_ahead(self, kb: str, entries: Sequence[Entry]) -> dict[str, Vector]:
        """Vectors of what is probably new, made while other writers may go on."""
        if not self._vectors.are_made:
            return {}
        batch = await self._batch(kb)
        await batch.load(entries)
        await batch.embed(entry.indexed for entry in entries if batch.by_fact(entry.fact_key) is None)
        return batch.vectors

    def _decide_create(self, batch: Batch, creation: Creation) -> tuple[str, bool]:
        """Puts an entry, or adds the sources to the one that says it; the id, and whether that one existed."""
        entry, author, reason = creation.entry, creation.author, creation.reason
        existing = batch.entry(entry.id)
        if existing is not None and creation.entry_id and existing.fact_key != entry.fact_key:
            raise _exists(existing, "an entry with this id says something else")
        existing = existing or batch.by_fact(entry.fact_key)
        if existing is not None:
            if not creation.merge:
                raise _exists(
                    existing, "the same fact is there already: set merge to add the sources to it, or update it"
                )
            return self._merge(batch, existing, entry, author, reason, creation.reviewed).id, True
        _check_successor(batch, entry)
        return self._put_new(batch, entry, author, reason, creation.reviewed).id, False

    def _put_new(
        self, batch: Batch, entry: Entry, author: str, reason: str, reviewed: bool, ignored: Collection[str] = ()
    ) -> Entry:
        if entry.status is EntryStatus.DRAFT and not entry.review_reason:
            entry = dataclasses.replace(entry, review_reason=reason or "made as a draft")
        return batch.put(_screened(batch, entry, reviewed, ignored), author, reason)

    def _merge(self, batch: Batch, existing: Entry, said: Entry, author: str, reason: str, reviewed: bool) -> Entry:
        """Adds the sources of who says the same; where a person has looked at it, it waits no longer."""
        merged = with_sources(existing, said.sources)
        if reviewed and existing.status is EntryStatus.DRAFT and said.status is EntryStatus.ACTIVE:
            merged, _ = resolve(merged, Decision.APPROVE, ())
        if same_content(merged, existing):
            return existing
        return batch.put(merged, author, reason or "the same fact said again")

    async def update(
        self,
        kb: str,
        entry_id: str,
        etag: str,
        changes: dict[str, Any],
        author: str = "",
        reason: str = "",
        reviewed: bool = False,
    ) -> Entry:
        """Changes fields of an entry, as a new revision; nothing is written where nothing changes.

        Args:
            kb: The base.
            entry_id: The entry.
            etag: Guards, where given.
            changes: New values of CONTENT_FIELDS, and of review fields where an earlier revision comes back.
            author: Who.
            reason: Why.
            reviewed: A person has looked at it. Asked where kind or text change.

        Raises:
            NotFound: There is no such entry.
            Aborted: Somebody else changed it; an EditConflict is attached.
        """
        author, reason = _note(author, "author"), _note(reason, "reason")

        async def work() -> Entry:
            batch = await self._batch(kb)
            await batch.load(ids=[entry_id])
            entry = _found(batch.entry(entry_id), kb, entry_id)
            await self._guard(etag, entry)
            changed = _changed(entry, changes, reason)
            await batch.load([changed], [changed.superseded_by])
            if not reviewed and _says_other(changed, entry):
                await batch.look_around([changed])
            changed = self._decide_change(batch, entry, changed, author, reason, reviewed)
            await batch.commit(atomic=True)
            return changed

        return await self._alone(kb, work)

    async def _guard(self, etag: str, entry: Entry) -> None:
        """check_etag, with both versions attached."""
        try:
            check_etag(etag, entry, names.entry_name(entry.kb, entry.id))
        except Aborted as error:
            seen = int(error.metadata["given_revision"] or 0) if error.metadata["given_revision"].isdecimal() else 0
            current = await self._store.revisions(entry.kb, entry.id, entry.revision + 1, 1)
            read = await self._store.revisions(entry.kb, entry.id, seen + 1, 1) if 0 < seen < entry.revision else []
            if current:
                is_read = bool(read) and read[0].entry.revision == seen
                error.attach(edit_conflict_message(current[0], read[0] if is_read else None))
            raise

    def _decide_change(
        self,
        batch: Batch,
        entry: Entry,
        changed: Entry,
        author: str,
        reason: str,
        reviewed: bool,
        ignored: Collection[str] = (),
    ) -> Entry:
        """Puts a changed entry, unless nothing changed."""
        if same_content(changed, entry):
            return entry
        if changed.superseded_by != entry.superseded_by:
            _check_successor(batch, changed)
        if changed.fact_key != entry.fact_key:
            other = batch.by_fact(changed.fact_key)
            if other is not None and other.id != entry.id and other.status in IN_USE:
                raise _exists(other, "another entry says that already: retire one of the two")
        if _says_other(changed, entry):
            changed = _screened(batch, changed, reviewed, ignored)
        return batch.put(changed, author, reason)

    async def retire(self, kb: str, entry_id: str, etag: str, author: str = "", reason: str = "") -> Entry:
        """Retires an entry; its revisions stay."""
        changes = {"status": EntryStatus.RETIRED}
        return await self.update(kb, entry_id, etag, changes, author, reason or "retired")

    async def revisions(self, kb: str, entry_id: str, before: int, limit: int) -> list[Revision]:
        """Revisions below a number, newest first."""
        await self.entry(kb, entry_id)
        return await self._store.revisions(kb, entry_id, before, limit)

    async def revision(self, kb: str, entry_id: str, number: int) -> Revision:
        """One revision.

        Raises:
            NotFound: There is none of this number.
        """
        await self.entry(kb, entry_id)
        found = await self._store.revisions(kb, entry_id, number + 1, 1) if number > 0 else []
        if not found or found[0].entry.revision != number:
            name = names.revision_name(kb, entry_id, number)
            raise NotFound(
                f"there is no {name}: look at ListEntryRevisions",
                resource_type="nesycd.knowledge/EntryRevision",
                resource_name=name,
            )
        return found[0]

    async def roll_back(
        self, kb: str, entry_id: str, revision: int, etag: str, author: str = "", reason: str = ""
    ) -> Entry:
        """Makes an earlier revision the current one, as a new revision; that a person asks for it is its review."""
        was = (await self.revision(kb, entry_id, revision)).entry
        changes = {part: getattr(was, part) for part in (*CONTENT_FIELDS, *_REVIEW_FIELDS)}
        reason = reason or f"back to revision {revision}"
        return await self.update(kb, entry_id, etag, changes, author, reason, reviewed=True)

    async def audit(self, kb: str, since: int = 0) -> AsyncIterator[list[Revision]]:
        """All revisions made at a time or later: by entry, then oldest first."""
        await self._store.base(kb)
        after = ""
        while entries := await self._store.entries(kb, after, _AUDIT_PAGE):
            changed = [entry.id for entry in entries if entry.update_time >= since]
            if changed:
                yield await self._store.audit(kb, changed, since)
            after = entries[-1].id

    # -- reviews

    async def reviews(self, kb: str, after: str, limit: int) -> list[Review]:
        """What waits for a person, by id, after an id."""
        drafts = await self._store.entries(kb, after, limit, Compare("status", "=", EntryStatus.DRAFT))
        others = {entry_id for draft in drafts for entry_id in draft.conflicts}
        found = await self._store.get(kb, others) if others else {}
        return [Review(draft, tuple(found[other] for other in draft.conflicts if other in found)) for draft in drafts]

    async def resolve(
        self,
        kb: str,
        entry_id: str,
        decision: Decision,
        others: Sequence[str] = (),
        etag: str = "",
        author: str = "",
        reason: str = "",
    ) -> tuple[Entry, list[Entry]]:
        """Carries out a person's decision about an entry that waits, all of it or nothing.

        Args:
            kb: The base.
            entry_id: The entry.
            decision: What to do.
            others: MERGE and REPLACE: ids of the other entries; none: those that it conflicts with.
            etag: Guards, where given.
            author: Who decides.
            reason: Why.

        Returns:
            The entry, and the others that were changed.

        Raises:
            FailedPrecondition: The entry does not wait.
            InvalidArgument: The others do not fit the decision.
        """
        author, reason = _note(author, "author"), _note(reason, "reason") or f"review: {decision.name.lower()}"
        if others and decision not in (Decision.MERGE, Decision.REPLACE):
            raise InvalidArgument(f"others is only for MERGE and REPLACE, not for {decision.name}", field="others")
        if entry_id in others:
            raise InvalidArgument("others names the entry itself", field="others")

        async def work() -> tuple[Entry, list[Entry]]:
            batch = await self._batch(kb)
            await batch.load(ids=[entry_id, *others])
            entry = _found(batch.entry(entry_id), kb, entry_id)
            await self._guard(etag, entry)
            wanted = list(dict.fromkeys(others or entry.conflicts)) if decision in _WITH_OTHERS else []
            await batch.load(ids=wanted)
            befores = [_found(batch.entry(other), kb, other) for other in wanted]
            settled, afters = resolve(entry, decision, befores)
            changed = [
                batch.put(validate(after, "others"), author, reason)
                for before, after in zip(befores, afters, strict=True)
                if not same_content(before, after)
            ]
            settled = batch.put(validate(settled), author, reason)
            await batch.commit(atomic=True)
            return settled, changed

        return await self._alone(kb, work)

    # -- feedback

    async def feedback(self, kb: str, items: Sequence[Feedback], request_id: str = "") -> None:
        """Adds to counters, all or none; a repeated request with the same id counts once.

        Raises:
            NotFound: There is no such base, or not all of the entries.
            InvalidArgument: A number is negative or too large.
        """
        key = f"feedback:{_request_id(request_id)}" if request_id else ""
        for i, item in enumerate(items):
            for part in ("used", "helpful", "harmful"):
                if not 0 <= getattr(item, part) <= 2**31:
                    where = f"feedback[{i}].{part}"
                    raise InvalidArgument(f"{where} is {getattr(item, part)}: give 0 to {2**31}", field=where)

        async def work() -> None:
            await self._store.base(kb)
            if await self._store.seen(kb, key):
                return
            found = await self._store.get(kb, {item.entry_id for item in items})
            changed: dict[str, Entry] = {}
            for item in items:
                entry = changed.get(item.entry_id) or _found(found.get(item.entry_id), kb, item.entry_id)
                changed[item.entry_id] = dataclasses.replace(
                    entry,
                    used=min(entry.used + item.used, MAX_COUNT),
                    helpful=min(entry.helpful + item.helpful, MAX_COUNT),
                    harmful=min(entry.harmful + item.harmful, MAX_COUNT),
                )
            writes = [Write(entry, is_revision=False, keep_vector=True) for entry in changed.values()]
            if writes or key:
                await self._store.commit(kb, writes, key)

        await self._alone(kb, work)

    # -- search

    async def search(self, kb: str, query: Query) -> tuple[list[Hit], int]:
        """The entries that fit best, and the version of the base that was searched."""
        base = await self._store.base(kb)
        mode, vector = await self._vectors.for_search(base, query.mode, query.text)
        query = dataclasses.replace(query, mode=mode)
        if not query.feedback_weight:
            return await self._store.search(kb, query, vector)
        candidates = dataclasses.replace(query, top_k=MAX_TOP_K, minimum_score=None)
        hits, version = await self._store.search(kb, candidates, vector)
        return weighted(hits, query), version

    async def changes(self, kb: str, since: int | None) -> AsyncIterator[tuple[int, Entry]]:
        """Changes after a version (None: from now on), and those to come.

        Raises:
            NotFound: The base was removed.
            Unavailable: The server stops; go on with the last version at the next one.
        """
        version = (await self._store.base(kb)).version if since is None else since
        stopping = asyncio.create_task(context.wait_stopping())
        try:
            while True:
                # Read before the changes: a version that rose without an entry (a title was changed) is passed over.
                current = (await self._store.base(kb)).version
                found = await self._store.changes(kb, version, 1000)
                for version, entry in found:
                    yield version, entry
                version = version if found else max(version, current)
                if version < current:
                    continue
                waiting = asyncio.create_task(self._store.wait_for_change(kb, version))
                try:
                    over, _ = await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()  # a watcher that goes away ends here
                if waiting in over:
                    waiting.result()
                if stopping.done():
                    raise Unavailable("the server stops: watch again with the last watch_token", retry_after=1.0)
        finally:
            stopping.cancel()

    # -- import

    async def import_items(
        self,
        kb: str,
        items: AsyncIterator[Item],
        *,
        atomic: bool = False,
        dry_run: bool = False,
        reviewed: bool = False,
        list_changes: bool = False,
        author: str = "",
        reason: str = "",
    ) -> ImportReport:
        """Brings the entries of a file in.

        An item with an id that exists changes that entry in the fields that it gives, guarded by its etag if any. A
        fact that is there already gets the item's sources. All else becomes an entry. Items with an id are compared
        with what was there before, not with each other, so that an export comes back as it was. In a reviewed file the
        file's status decides: what waits becomes ACTIVE, unless the file says that it is to go on waiting.

        Args:
            kb: The base.
            items: What exchange.py read.
            atomic: All or nothing: with a problem, nothing is written and nothing is counted.
            dry_run: Only say what would happen.
            reviewed: A person has looked at the file.
            list_changes: Say what happens to each item; a dry run always does.
            author: Who imports.
            reason: Why.

        Raises:
            NotFound: There is no such base.
            ResourceExhausted: The file is too large to be imported, or tried, as a whole.
        """
        author, reason = _note(author, "options.author"), _note(reason, "options.reason") or "imported"
        await self._store.base(kb)
        run = _Import(author, reason, reviewed, list_changes or dry_run)
        block = _Block()
        together = atomic or dry_run
        # A block is read while the one before it is written.
        writing = asyncio.create_task(asyncio.sleep(0))
        try:
            async for item in items:
                block.add(kb, item)
                if together and len(block.items) > MAX_ATOMIC:
                    raise ResourceExhausted(
                        f"the file has more than {MAX_ATOMIC} entries: split it, or import without atomic",
                        reason=reasons.IMPORT_TOO_LARGE,
                        subject="import",
                    )
                if not together and len(block.items) == IMPORT_BLOCK:
                    vectors = await self._block_vectors(kb, block)
                    await writing
                    writing = asyncio.create_task(self._import_block(kb, block, vectors, run, False, False))
                    block = _Block()
            vectors = await self._block_vectors(kb, block)
            await writing
            await self._import_block(kb, block, vectors, run, atomic, dry_run)
        finally:
            writing.cancel()  # a write that has begun goes on to its end
            await asyncio.gather(writing, return_exceptions=True)
        if atomic and run.report.problems:
            return ImportReport(problems=run.report.problems)
        return run.report

    async def _block_vectors(self, kb: str, block: _Block) -> dict[str, Vector]:
        entries = [entry for entry in block.valid if entry is not None]
        vectors: dict[str, Vector] = {}
        for start in range(0, len(entries), IMPORT_BLOCK):
            vectors.update(await self._vectors_ahead(kb, entries[start : start + IMPORT_BLOCK]))
        return vectors

    async def _import_block(
        self, kb: str, block: _Block, vectors: dict[str, Vector], run: _Import, atomic: bool, dry_run: bool
    ) -> None:
        report = run.report

        async def work() -> None:
            batch = await self._batch(kb, vectors)
            for start in range(0, len(block.items), IMPORT_BLOCK):
                part = block.items[start : start + IMPORT_BLOCK]
                checked = block.valid[start : start + IMPORT_BLOCK]
                await self._load_items(batch, part, checked, run.reviewed)
                for place, item in enumerate(part):
                    if place % _TURN == 0:
                        await asyncio.sleep(0)
                    try:
                        if item.error is not None:
                            raise item.error
                        await self._decide_import(batch, kb, item, checked[place], run)
                    except NesycdError as error:
                        if len(report.problems) < MAX_PROBLEMS:
                            report.problems.append(Problem(item.line, error))
                        elif len(report.problems) == MAX_PROBLEMS:
                            text = f"there are more than {MAX_PROBLEMS} problems: the others are not listed"
                            report.problems.append(Problem(item.line, InvalidArgument(text)))
            if not dry_run and not (atomic and report.problems):
                await batch.commit(atomic=atomic)
            run.settle(batch)

        # Nothing is written by a dry run, so it keeps nobody waiting.
        await (work() if dry_run else self._alone(kb, work))

    async def _load_items(self, batch: Batch, items: list[Item], checked: list[Entry | None], reviewed: bool) -> None:
        """Looks up what the decisions about a block need."""
        entries = [entry for entry in checked if entry is not None]
        ids = [item.entry.id for item in items if item.entry is not None]
        derived = [derive_id(entry.kind, entry.text) for entry in entries if not entry.id]
        await batch.load(entries, [*ids, *derived, *(entry.superseded_by for entry in entries)])
        if not reviewed:
            known = {entry.id for entry in entries if (old := batch.entry(entry.id)) and old.text == entry.text}
            await batch.look_around(
                entry for entry in entries if entry.id not in known and batch.by_fact(entry.fact_key) is None
            )

    async def _decide_import(self, batch: Batch, kb: str, item: Item, checked: Entry | None, run: _Import) -> None:
        assert item.entry is not None
        report = run.report
        entry = checked or dataclasses.replace(item.entry, kb=kb)
        ignored: Collection[str] = run.own if entry.id else ()
        existing = batch.entry(entry.id) if entry.id else None
        if existing is not None:
            check_etag(item.etag, existing, names.entry_name(kb, existing.id))
            changes = {part: getattr(entry, part) for part in CONTENT_FIELDS if part in item.given}
            if run.reviewed and existing.status is EntryStatus.DRAFT:
                changes.setdefault("status", EntryStatus.ACTIVE)
            changed = _changed(existing, changes, run.reason)
            await batch.load([changed])  # asks for nothing but what an item of the same entry changed before
            changed = self._decide_change(batch, existing, changed, run.author, run.reason, run.reviewed, ignored)
            run.own.add(changed.id)
            if changed is existing:
                report.unchanged += 1
                return
            report.updated += 1
            waits = changed.status is EntryStatus.DRAFT and existing.status is not EntryStatus.DRAFT
            report.for_review += waits
            run.note(item, ImportOutcome.FOR_REVIEW if waits else ImportOutcome.UPDATED, changed.id, existing)
            return
        entry = checked or validate(entry)
        derived = derive_id(entry.kind, entry.text)
        existing = batch.by_fact(entry.fact_key)
        if existing is not None and existing.id in ignored:
            existing = None  # an export may hold a retired entry beside the one that says the same today
        existing = existing or (None if entry.id else batch.entry(derived))
        if existing is not None:
            merged = self._merge(batch, existing, entry, run.author, run.reason, run.reviewed)
            if merged is existing:
                report.unchanged += 1
                return
            has_more = merged.sources != existing.sources
            report.merged += has_more
            report.updated += not has_more
            run.note(item, ImportOutcome.MERGED if has_more else ImportOutcome.UPDATED, merged.id, existing)
            return
        new = dataclasses.replace(entry, id=entry.id or derived)
        new = self._put_new(batch, new, run.author, run.reason, run.reviewed, ignored)
        if entry.id:
            run.own.add(new.id)
        report.created += 1
        waits = new.status is EntryStatus.DRAFT
        report.for_review += waits
        run.note(item, ImportOutcome.FOR_REVIEW if waits else ImportOutcome.CREATED, new.id, None)


_REVIEW_FIELDS = ("review_reason", "review_cause", "conflicts")
_WITH_OTHERS = (Decision.MERGE, Decision.REPLACE)


def _checked(kb: str, creation: Creation | NesycdError) -> Creation | NesycdError:
    """A creation with a valid entry that has its id, or what is wrong with it."""
    if isinstance(creation, NesycdError):
        return creation
    try:
        wished = names.entry_id(creation.entry_id) if creation.entry_id else ""
        entry = validate(dataclasses.replace(creation.entry, kb=kb, id=wished))
        return dataclasses.replace(
            creation,
            entry=dataclasses.replace(entry, id=wished or derive_id(entry.kind, entry.text)),
            entry_id=wished,
            author=_note(creation.author, "author"),
            reason=_note(creation.reason, "reason"),
        )
    except NesycdError as error:
        return error


def _changed(entry: Entry, changes: dict[str, Any], reason: str) -> Entry:
    """The entry as it shall be."""
    changes = dict(changes)
    status = changes.get("status", entry.status)
    if status is not EntryStatus.SUPERSEDED and "superseded_by" not in changes:
        changes["superseded_by"] = ""
    if status is EntryStatus.DRAFT and entry.status is not EntryStatus.DRAFT:
        changes.setdefault("review_reason", reason or "made a draft again")
    changed = validate(dataclasses.replace(entry, **changes))
    if _says_other(changed, entry) and not changes.keys() & set(_REVIEW_FIELDS) and status is EntryStatus.DRAFT:
        # What it waited for was the old text.
        review_reason = reason or "changed while it waited"
        changed = dataclasses.replace(changed, review_reason=review_reason, review_cause=ReviewCause.NONE, conflicts=())
    return changed


def _says_other(changed: Entry, entry: Entry) -> bool:
    return (changed.kind, changed.text) != (entry.kind, entry.text)


def _screened(batch: Batch, entry: Entry, reviewed: bool, ignored: Collection[str]) -> Entry:
    """The entry; as a DRAFT where it repeats or contradicts another one, and nobody has looked at it."""
    if reviewed or entry.status not in IN_USE:
        return entry
    if entry.review_cause is not ReviewCause.NONE or entry.conflicts:
        return entry  # an export says what it waits for
    alike = (other for other in batch.alike(entry) if other.id not in ignored)
    near = (other for other in batch.near(entry) if other.id not in ignored)
    return waiting(entry, alike, near) or entry


def _check_successor(batch: Batch, entry: Entry) -> None:
    if entry.superseded_by and batch.entry(entry.superseded_by) is None:
        name = names.entry_name(entry.kb, entry.superseded_by)
        raise InvalidArgument(f"entry.superseded_by: there is no {name}", field="entry.superseded_by")


def _found(entry: Entry | None, kb: str, entry_id: str) -> Entry:
    if entry is None:
        name = names.entry_name(kb, entry_id)
        raise NotFound(
            f"there is no {name}: look at ListEntries",
            resource_type="nesycd.knowledge/Entry",
            resource_name=name,
        )
    return entry


def _exists(entry: Entry, why: str) -> AlreadyExists:
    name = names.entry_name(entry.kb, entry.id)
    return AlreadyExists(
        f"{name} exists: {why}",
        resource_type="nesycd.knowledge/Entry",
        resource_name=name,
        metadata={"status": entry.status.name},
    )


def _note(value: str, where: str) -> str:
    return check_text(value, where, MAX_NOTE)


def _request_id(value: str) -> str:
    return check_line(value, "request_id", 128, required=True)
