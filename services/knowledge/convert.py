"""Between the contract's messages and the core's types."""

from __future__ import annotations

from enum import IntEnum

from google.protobuf.timestamp_pb2 import Timestamp
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from services.common.errors import MAX_ATTACHED_BYTES, InvalidArgument
from services.knowledge import names
from services.knowledge.entries import Entry, EntryKind, EntryStatus, KnowledgeBase, ReviewCause, Revision, Source
from services.knowledge.search import Hit


def _time(microseconds: int) -> Timestamp:
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def base_message(base: KnowledgeBase) -> pb.KnowledgeBase:
    """The message of a knowledge base."""
    message = pb.KnowledgeBase(
        name=names.base_name(base.id),
        title=base.title,
        description=base.description,
        entry_count=base.entry_count,
        active_entry_count=base.active_count,
        version=base.version,
        embedder=base.embedder,
        embedding_dimension=base.dimension,
        etag=base.etag,
        create_time=_time(base.create_time),
        update_time=_time(base.update_time),
    )
    if base.rebuild is not None:
        message.embedder_rebuild.embedder = base.rebuild.embedder
        message.embedder_rebuild.done_count = base.rebuild.done
        message.embedder_rebuild.entry_count = base.rebuild.entry_count
    return message


def content_message(entry: Entry) -> pb.Entry:
    """The message of an entry without what the store adds by itself: revision, etag and times."""
    message = pb.Entry(
        name=names.entry_name(entry.kb, entry.id),
        kind=int(entry.kind),  # type: ignore[arg-type]
        title=entry.title,
        text=entry.text,
        index_text=entry.index_text,
        tags=entry.tags,
        status=int(entry.status),  # type: ignore[arg-type]
        review_reason=entry.review_reason,
        review_cause=int(entry.review_cause),  # type: ignore[arg-type]
        conflicting_entries=[names.entry_name(entry.kb, other) for other in entry.conflicts],
    )
    for source in entry.sources:
        message.sources.add(
            case_id=source.case_id,
            run=source.run,
            teacher_call=source.teacher_call,
            author=source.author,
            citation=source.citation,
        )
    if entry.used or entry.helpful or entry.harmful:
        message.counters.used = entry.used
        message.counters.helpful = entry.helpful
        message.counters.harmful = entry.harmful
    if entry.superseded_by:
        message.superseded_by = names.entry_name(entry.kb, entry.superseded_by)
    return message


# The entries that searches find again and again, by identity: entries never change, and to compare them would take longer
# than to make the message. The entry is kept with it, so that no other one gets its identity.
_found: dict[int, tuple[Entry, pb.Entry]] = {}
_MOST_FOUND = 4096


def _found_message(entry: Entry) -> pb.Entry:
    known = _found.get(id(entry))
    if known is None or known[0] is not entry:
        if len(_found) >= _MOST_FOUND:
            _found.clear()
        known = _found[id(entry)] = (entry, entry_message(entry))
    return known[1]


def entry_message(entry: Entry) -> pb.Entry:
    """The message of an entry."""
    message = content_message(entry)
    message.revision = entry.revision
    message.etag = entry.etag
    message.create_time.CopyFrom(_time(entry.create_time))
    message.update_time.CopyFrom(_time(entry.update_time))
    return message


def revision_message(revision: Revision) -> pb.EntryRevision:
    """The message of a revision. Counters are no part of it: feedback makes none, and no rollback undoes it."""
    entry = revision.entry
    message = entry_message(entry)
    message.ClearField("counters")
    return pb.EntryRevision(
        name=names.revision_name(entry.kb, entry.id, entry.revision),
        entry=message,
        author=revision.author,
        reason=revision.reason,
        create_time=_time(revision.time),
    )


def edit_conflict_message(current: Revision, read: Revision | None) -> pb.EditConflict:
    """Both versions of an entry that two people changed; texts are cut so that it fits into a status."""
    message = pb.EditConflict(current=revision_message(current))
    if read is not None:
        message.read.CopyFrom(revision_message(read))
    sides = [side for side in (message.current, message.read) if side.name]
    for limit in (600, 400, 250, 150, 80, 40):
        for side in sides:
            for holder, field in (
                (side.entry, "text"), (side.entry, "title"), (side.entry, "index_text"),
                (side.entry, "review_reason"), (side, "author"), (side, "reason"),
            ):  # fmt: skip
                setattr(holder, field, _cut(getattr(holder, field), limit if field == "text" else limit // 2))
        if message.ByteSize() <= MAX_ATTACHED_BYTES:
            return message
        for side in sides:
            del side.entry.sources[1:]
            del side.entry.conflicting_entries[:]
    for side in sides:
        del side.entry.sources[:], side.entry.tags[3:]
    return message


def _cut(text: str, limit: int) -> str:
    raw = text.encode()
    return text if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "…"


def hit_message(hit: Hit) -> pb.SearchResult:
    """The message of an entry that was found."""
    return pb.SearchResult(entry=_found_message(hit.entry), score=hit.score, explanation=hit.explanation)


def kind_of(value: int, field: str = "entry.kind") -> EntryKind:
    """The kind of a message; not said: FACT.

    Raises:
        InvalidArgument: The number is not in the contract.
    """
    return EntryKind(_member(EntryKind, value, EntryKind.FACT, field))


def status_of(value: int, field: str = "entry.status") -> EntryStatus:
    """The status of a message; not said: ACTIVE.

    Raises:
        InvalidArgument: The number is not in the contract.
    """
    return EntryStatus(_member(EntryStatus, value, EntryStatus.ACTIVE, field))


def cause_of(value: int, field: str = "review_cause") -> ReviewCause:
    """The review cause of a message.

    Raises:
        InvalidArgument: The number is not in the contract.
    """
    return ReviewCause(_member(ReviewCause, value, ReviewCause.NONE, field))


def time_of(stamp: Timestamp, field: str) -> int:
    """Microseconds since 1970.

    Raises:
        InvalidArgument: It is before the year 1 or after 9999.
    """
    if not -62_135_596_800 <= stamp.seconds < 253_402_300_800 or not 0 <= stamp.nanos < 1_000_000_000:
        raise InvalidArgument(f"{field} is no time between the years 1 and 9999", field=field)
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000


def _member(enum: type[IntEnum], value: int, default: IntEnum, field: str) -> IntEnum:
    if value == 0:
        return default
    try:
        return enum(value)
    except ValueError:
        known = ", ".join(f"{member.value} {member.name}" for member in enum)
        raise InvalidArgument(f"{field} is {value}, which is none of: {known}", field=field) from None


def successor_of(name: str, kb: str, field: str = "entry.superseded_by") -> str:
    """The id in superseded_by; it must be of the same base.

    Raises:
        InvalidArgument: It is not.
    """
    if not name:
        return ""
    other, entry_id = names.parse_entry(name, field)
    if other != kb:
        raise InvalidArgument(f"{field} names an entry of {names.base_name(other)}, not of this one", field=field)
    return entry_id


def sources_of(message: pb.Entry) -> tuple[Source, ...]:
    """The sources of a message."""
    return tuple(
        Source(source.case_id, source.run, source.teacher_call, source.author, source.citation)
        for source in message.sources
    )


def entry_of(message: pb.Entry, kb: str, field: str = "entry") -> Entry:
    """What a caller wrote in an entry; name, counters, revision, etag and times are left to others."""
    return Entry(
        kb=kb,
        id="",
        text=message.text,
        kind=kind_of(message.kind, f"{field}.kind"),
        title=message.title,
        index_text=message.index_text,
        tags=tuple(message.tags),
        status=status_of(message.status, f"{field}.status"),
        sources=sources_of(message),
        superseded_by=successor_of(message.superseded_by, kb, f"{field}.superseded_by"),
    )
