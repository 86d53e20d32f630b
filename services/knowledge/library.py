"""What can be done with knowledge bases and their entries, over any store.

Writers of one base come one at a time, so that reading, deciding and committing are one step; a caller who goes away
does not stop a write half-way.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from services.common import context
from services.common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NesycdError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from services.knowledge import names, reasons
from services.knowledge.embedder import Embedder
from services.knowledge.entries import (
    CONTENT_FIELDS,
    MAX_COUNT,
    MAX_NOTE,
    Entry,
    EntryStatus,
    KnowledgeBase,
    Revision,
    Source,
    check_etag,
    check_line,
    check_text,
    derive_id,
    same_content,
    validate,
    with_sources,
)
from services.knowledge.exchange import Item
from services.knowledge.filters import Filter
from services.knowledge.search import Hit, Query, SearchMode, first_words
from services.knowledge.stores import Store, Vector, Write

IMPORT_BLOCK = 500  # entries a transaction of an import that is not atomic
MAX_ATOMIC = 200_000  # entries of an import that is
MAX_PROBLEMS = 1000
_EMBED_BLOCK = 32
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
    """

    entry: Entry
    entry_id: str = ""
    merge: bool = False
    author: str = ""
    reason: str = ""


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


@dataclass(slots=True)
class ImportReport:
    """What came of an import."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    merged: int = 0
    for_review: int = 0
    problems: list[Problem] = field(default_factory=list)


class _Batch:
    """Writes that are not committed yet, seen by the next decision as if they were."""

    def __init__(self, store: Store, kb: str) -> None:
        self._store = store
        self._kb = kb
        self._entries: dict[str, Entry] = {}
        self._facts: dict[str, str] = {}
        self.writes: list[Write] = []

    async def entry(self, entry_id: str) -> Entry | None:
        """An entry as it will be."""
        return self._entries.get(entry_id) or await self._store.entry(self._kb, entry_id)

    async def by_fact(self, key: str) -> Entry | None:
        """The entry that will say this fact."""
        entry_id = self._facts.get(key)
        if entry_id is not None:
            return self._entries[entry_id]
        found = await self._store.by_fact(self._kb, key)
        # Its text may be another one by now.
        return found if found is None or found.id not in self._entries else None

    def add(self, write: Write) -> None:
        """Adds a write."""
        self._entries[write.entry.id] = write.entry
        self._facts.setdefault(write.entry.fact_key, write.entry.id)
        self.writes.append(write)


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
        self._embedder = embedder
        self._now = now
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reindexing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Opens the store; returns when searches can be answered."""
        if self._embedder is not None:
            await self._embedder.load()
        await self._store.open()
        if self._embedder is not None:
            self._reindexing = asyncio.create_task(self._reindex(self._embedder))

    async def close(self) -> None:
        """Finishes writes that run, and closes the store."""
        if self._reindexing is not None:
            self._reindexing.cancel()
            await asyncio.gather(self._reindexing, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()

    async def _alone(self, kb: str, work: Callable[[], Awaitable[T]]) -> T:
        """Runs a write of a base when no other runs, to its end even where the caller goes away."""

        async def locked() -> T:
            async with self._locks.setdefault(kb, asyncio.Lock()):
                return await work()

        task = asyncio.create_task(locked())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    # -- bases

    async def create_base(self, kb: str, title: str, description: str, request_id: str = "") -> KnowledgeBase:
        """Makes a base; a repeated request with the same id is answered like the first."""
        base = KnowledgeBase(
            names.base_id(kb),
            check_line(title, "knowledge_base.title", MAX_NOTE),
            check_text(description, "knowledge_base.description", MAX_NOTE),
            revision=1,
            embedder=self._embedder.name if self._embedder else "",
            dimension=self._embedder.dimension if self._embedder else 0,
        )
        key = f"create:{kb}:{_request_id(request_id)}" if request_id else ""

        async def work() -> KnowledgeBase:
            if await self._store.has_base(kb):
                if await self._store.seen("", key):
                    return await self._store.base(kb)
                name = names.base_name(kb)
                raise AlreadyExists(
                    f"{name} exists already: use it, or choose another id",
                    resource_type="nesycd.knowledge/KnowledgeBase",
                    resource_name=name,
                )
            now = self._now()
            await self._store.put_base(dataclasses.replace(base, create_time=now, update_time=now), key)
            return await self._store.base(kb)

        return await self._alone(kb, work)

    async def base(self, kb: str) -> KnowledgeBase:
        """One base."""
        return await self._store.base(kb)

    async def bases(self) -> list[KnowledgeBase]:
        """All bases, by id."""
        return await self._store.bases()

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
            if changed == base:
                return base
            changed = dataclasses.replace(changed, revision=base.revision + 1, update_time=self._now())
            await self._store.put_base(changed)
            return await self._store.base(kb)

        return await self._alone(kb, work)

    async def delete_base(self, kb: str, etag: str, force: bool) -> None:
        """Removes a base; one that holds entries only with force."""

        async def work() -> None:
            base = await self._store.base(kb)
            check_etag(etag, base, names.base_name(kb))
            if base.entry_count and not force:
                raise FailedPrecondition(
                    f"{names.base_name(kb)} has {base.entry_count} entries: set force to remove it with them",
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
        return _found(await self._store.entry(kb, entry_id), kb, entry_id)

    async def entries(self, kb: str, after: str, limit: int, where: Filter | None) -> list[Entry]:
        """Entries that fit the filter, by id, after an id."""
        return await self._store.entries(kb, after, limit, where)

    async def create(self, kb: str, creation: Creation) -> tuple[Entry, bool]:
        """Adds an entry.

        Returns:
            The entry, and whether it existed and the sources were added to it.
        """
        (result,) = await self.create_many(kb, [creation])
        if isinstance(result, NesycdError):
            raise result
        return result

    async def create_many(
        self, kb: str, creations: Sequence[Creation | NesycdError]
    ) -> list[tuple[Entry, bool] | NesycdError]:
        """Adds entries in one transaction; what came of each, in their order. Errors that are given come back."""

        async def work() -> list[tuple[Entry, bool] | NesycdError]:
            await self._store.base(kb)
            batch = _Batch(self._store, kb)
            results: list[tuple[Entry, bool] | NesycdError] = []
            for creation in creations:
                try:
                    if isinstance(creation, NesycdError):
                        raise creation
                    results.append(await self._decide_create(batch, kb, creation))
                except NesycdError as error:
                    results.append(error)
            await self._commit(kb, batch.writes)
            return results

        return await self._alone(kb, work)

    async def _decide_create(self, batch: _Batch, kb: str, creation: Creation) -> tuple[Entry, bool]:
        entry_id = names.entry_id(creation.entry_id) if creation.entry_id else ""
        entry = validate(dataclasses.replace(creation.entry, kb=kb, id=entry_id))
        author, reason = _note(creation.author, "author"), _note(creation.reason, "reason")
        entry_id = entry_id or derive_id(entry.kind, entry.text)
        key = entry.fact_key
        existing = await batch.entry(entry_id)
        if existing is not None and creation.entry_id and existing.fact_key != key:
            raise _exists(existing, "an entry with this id says something else")
        existing = existing or await batch.by_fact(key)
        if existing is not None:
            if not creation.merge:
                raise _exists(
                    existing, "the same fact is there already: set merge to add the sources to it, or update it"
                )
            return await self._merge(batch, existing, entry.sources, author, reason), True
        now = self._now()
        await self._check_successor(batch, entry)
        entry = dataclasses.replace(
            entry, id=entry_id, revision=1, create_time=now, update_time=now,
            review_reason=(reason or "made as a draft") if entry.status is EntryStatus.DRAFT else "",
        )  # fmt: skip
        batch.add(Write(entry, author, reason))
        return entry, False

    async def _merge(
        self, batch: _Batch, existing: Entry, sources: tuple[Source, ...], author: str, reason: str
    ) -> Entry:
        merged = with_sources(existing, sources)
        if merged.sources == existing.sources:
            return existing
        merged = self._revised(merged)
        batch.add(Write(merged, author, reason or "the same fact said again", keep_vector=True))
        return merged

    async def _check_successor(self, batch: _Batch, entry: Entry) -> None:
        if entry.superseded_by and await batch.entry(entry.superseded_by) is None:
            name = names.entry_name(entry.kb, entry.superseded_by)
            raise InvalidArgument(f"entry.superseded_by: there is no {name}", field="entry.superseded_by")

    def _revised(self, entry: Entry) -> Entry:
        return dataclasses.replace(entry, revision=entry.revision + 1, update_time=self._now())

    async def update(
        self, kb: str, entry_id: str, etag: str, changes: dict[str, Any], author: str = "", reason: str = ""
    ) -> Entry:
        """Changes fields of an entry, as a new revision; nothing is written where nothing changes.

        Args:
            kb: The base.
            entry_id: The entry.
            etag: Guards, where given.
            changes: New values of CONTENT_FIELDS.
            author: Who.
            reason: Why.
        """
        author, reason = _note(author, "author"), _note(reason, "reason")

        async def work() -> Entry:
            batch = _Batch(self._store, kb)
            entry = _found(await batch.entry(entry_id), kb, entry_id)
            check_etag(etag, entry, names.entry_name(kb, entry_id))
            changed = await self._change(batch, entry, changes, author, reason)
            await self._commit(kb, batch.writes)
            return changed

        return await self._alone(kb, work)

    async def _change(self, batch: _Batch, entry: Entry, changes: dict[str, Any], author: str, reason: str) -> Entry:
        changes = dict(changes)
        status = changes.get("status", entry.status)
        if status is not EntryStatus.SUPERSEDED and "superseded_by" not in changes:
            changes["superseded_by"] = ""
        if status is EntryStatus.DRAFT and entry.status is not EntryStatus.DRAFT:
            changes["review_reason"] = reason or "made a draft again"
        changed = validate(dataclasses.replace(entry, **changes))
        if same_content(changed, entry):
            return entry
        if changed.superseded_by != entry.superseded_by:
            await self._check_successor(batch, changed)
        if changed.fact_key != entry.fact_key:
            other = await batch.by_fact(changed.fact_key)
            if other is not None and other.id != entry.id and other.status in (EntryStatus.ACTIVE, EntryStatus.DRAFT):
                raise _exists(other, "another entry says that already: retire one of the two")
        changed = self._revised(changed)
        batch.add(Write(changed, author, reason, keep_vector=changed.indexed == entry.indexed))
        return changed

    async def retire(self, kb: str, entry_id: str, etag: str, author: str = "", reason: str = "") -> Entry:
        """Retires an entry; its revisions stay."""
        changes = {"status": EntryStatus.RETIRED}
        return await self.update(kb, entry_id, etag, changes, author, reason or "retired")

    async def revisions(self, kb: str, entry_id: str, before: int, limit: int) -> list[Revision]:
        """Revisions below a number, newest first."""
        await self.entry(kb, entry_id)
        return await self._store.revisions(kb, entry_id, before, limit)

    async def roll_back(
        self, kb: str, entry_id: str, revision: int, etag: str, author: str = "", reason: str = ""
    ) -> Entry:
        """Makes an earlier revision the current one, as a new revision."""
        await self.entry(kb, entry_id)
        found = await self._store.revisions(kb, entry_id, revision + 1, 1) if revision > 0 else []
        if not found or found[0].entry.revision != revision:
            name = names.revision_name(kb, entry_id, revision)
            raise NotFound(
                f"there is no {name}: look at ListEntryRevisions",
                resource_type="nesycd.knowledge/EntryRevision",
                resource_name=name,
            )
        changes = {part: getattr(found[0].entry, part) for part in (*CONTENT_FIELDS, "review_reason")}
        return await self.update(kb, entry_id, etag, changes, author, reason or f"back to revision {revision}")

    async def feedback(self, kb: str, items: Sequence[Feedback], request_id: str = "") -> None:
        """Adds to counters, all or none; a repeated request with the same id counts once."""
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
            changed: dict[str, Entry] = {}
            for item in items:
                entry = changed.get(item.entry_id) or await self.entry(kb, item.entry_id)
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

    async def _commit(self, kb: str, writes: Sequence[Write]) -> None:
        if not writes:
            return
        base = await self._store.base(kb)
        if self._embedder is not None and base.embedder == self._embedder.name:
            texts = {write.entry.indexed: None for write in writes if not write.keep_vector}
            vectors = dict(zip(texts, await self._embedder.embed(list(texts)), strict=True)) if texts else {}
            writes = [w if w.keep_vector else dataclasses.replace(w, vector=vectors[w.entry.indexed]) for w in writes]
        # Of several writes of one entry the last one counts, so it has the vector of those before.
        carried: dict[str, Write] = {}
        settled = []
        for write in writes:
            before = carried.get(write.entry.id)
            if before is not None and write.keep_vector:
                write = dataclasses.replace(write, vector=before.vector, keep_vector=before.keep_vector)
            carried[write.entry.id] = write
            settled.append(write)
        await self._store.commit(kb, settled)

    # -- search

    async def search(self, kb: str, query: Query) -> tuple[list[Hit], int]:
        """The entries that fit best, and the version of the base that was searched."""
        base = await self._store.base(kb)
        embedder = self._embedder if self._embedder is not None and base.embedder == self._embedder.name else None
        mode = query.mode
        if mode is SearchMode.AUTO:
            mode = SearchMode.HYBRID if embedder is not None else SearchMode.BM25
        vector: Vector | None = None
        if mode is not SearchMode.BM25:
            if embedder is None:
                raise FailedPrecondition(
                    f"{names.base_name(kb)} has no vectors: search with BM25, or start the service with an embedder",
                    reason=reasons.NO_EMBEDDER,
                    subject=names.base_name(kb),
                )
            vector = await embedder.embed_query(first_words(query.text))
        return await self._store.search(kb, dataclasses.replace(query, mode=mode), vector)

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
                await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not waiting.cancel():
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
        author: str = "",
        reason: str = "",
    ) -> ImportReport:
        """Brings the entries of a file in.

        An item with an id that exists changes that entry in the fields that it gives, guarded by its etag if any. A
        fact that is there already gets the item's sources. All else becomes an entry.

        Args:
            kb: The base.
            items: What exchange.py read.
            atomic: All or nothing: with a problem, nothing is written and nothing is counted.
            dry_run: Only say what would happen.
            author: Who imports.
            reason: Why.
        """
        author, reason = _note(author, "options.author"), _note(reason, "options.reason") or "imported"
        await self._store.base(kb)
        report = ImportReport()
        block: list[Item] = []
        together = atomic or dry_run
        async for item in items:
            block.append(item)
            if together and len(block) > MAX_ATOMIC:
                raise ResourceExhausted(
                    f"the file has more than {MAX_ATOMIC} entries: split it, or import without atomic",
                    reason=reasons.IMPORT_TOO_LARGE,
                    subject="import",
                )
            if not together and len(block) == IMPORT_BLOCK:
                await self._import_block(kb, block, report, False, False, author, reason)
                block = []
        await self._import_block(kb, block, report, atomic, dry_run, author, reason)
        if atomic and report.problems:
            return ImportReport(problems=report.problems)
        return report

    async def _import_block(
        self, kb: str, block: list[Item], report: ImportReport, atomic: bool, dry_run: bool, author: str, reason: str
    ) -> None:
        async def work() -> None:
            await self._store.base(kb)
            batch = _Batch(self._store, kb)
            for item in block:
                try:
                    if item.error is not None:
                        raise item.error
                    await self._decide_import(batch, kb, item, report, author, reason)
                except NesycdError as error:
                    if len(report.problems) < MAX_PROBLEMS:
                        report.problems.append(Problem(item.line, error))
                    elif len(report.problems) == MAX_PROBLEMS:
                        text = f"there are more than {MAX_PROBLEMS} problems: the others are not listed"
                        report.problems.append(Problem(item.line, InvalidArgument(text)))
            if not dry_run and not (atomic and report.problems):
                await self._commit(kb, batch.writes)

        await self._alone(kb, work)

    async def _decide_import(
        self, batch: _Batch, kb: str, item: Item, report: ImportReport, author: str, reason: str
    ) -> None:
        assert item.entry is not None
        entry = dataclasses.replace(item.entry, kb=kb)
        existing = await batch.entry(entry.id) if entry.id else None
        if existing is not None:
            check_etag(item.etag, existing, names.entry_name(kb, existing.id))
            changes = {part: getattr(entry, part) for part in CONTENT_FIELDS if part in item.given}
            changed = await self._change(batch, existing, changes, author, reason)
            report.updated += changed is not existing
            report.unchanged += changed is existing
            report.for_review += changed.status is EntryStatus.DRAFT and existing.status is not EntryStatus.DRAFT
            return
        entry = validate(entry)
        derived = derive_id(entry.kind, entry.text)
        existing = await batch.by_fact(entry.fact_key) or (None if entry.id else await batch.entry(derived))
        if existing is not None:
            merged = await self._merge(batch, existing, entry.sources, author, reason)
            report.merged += merged is not existing
            report.unchanged += merged is existing
            return
        now = self._now()
        entry = dataclasses.replace(
            entry, id=entry.id or derived, revision=1, create_time=now, update_time=now,
            review_reason=(entry.review_reason or reason) if entry.status is EntryStatus.DRAFT else "",
        )  # fmt: skip
        batch.add(Write(entry, author, reason))
        report.created += 1
        report.for_review += entry.status is EntryStatus.DRAFT

    # -- vectors

    async def _reindex(self, embedder: Embedder) -> None:
        """Makes the vectors that are missing, in the background; a base changes to a new embedder at once, at the end."""
        for base in await self._store.bases():
            try:
                while missing := await self._store.without_vector(base.id, embedder.name, _EMBED_BLOCK):
                    vectors = await embedder.embed([entry.indexed for entry in missing])
                    pairs = list(zip(missing, vectors, strict=True))
                    await self._alone(base.id, partial(self._store.put_vectors, base.id, embedder.name, pairs))
                if base.embedder != embedder.name:
                    switch = partial(self._store.use_embedder, base.id, embedder.name, embedder.dimension)
                    await self._alone(base.id, switch)
            except NotFound:  # removed meanwhile
                continue


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
