"""What an entry is: its fields, what they may hold, its id, its etag."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

from method.normalise import normalise_fact
from services.common.errors import Aborted, FailedPrecondition, InvalidArgument
from services.knowledge import names
from services.knowledge.hygiene import claim_keys

MAX_TEXT = 8192  # characters
MAX_TITLE = 512
MAX_LINE = 1024  # of a source's field
MAX_TAGS = 32
MAX_TAG = 64
MAX_SOURCES = 10_000
MAX_CONFLICTS = 10  # of an entry that waits; a person need not see them all
MAX_NOTE = 4096  # author, reason, description
MAX_COUNT = 2**62

# Ids of entries are made in this namespace; changing it changes every derived id.
_NAMESPACE = uuid.UUID("6f1d3a52-6c1b-5b0e-9d0a-6e65737963d0")
# Control characters but line feed and tab, and halves of surrogate pairs.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class EntryKind(IntEnum):
    """What an entry says. The numbers are the contract's."""

    SUMMARY = 1
    FACT = 2
    CASE = 3


class EntryStatus(IntEnum):
    """Where an entry is in its life. The numbers are the contract's."""

    DRAFT = 1
    ACTIVE = 2
    SUPERSEDED = 3
    RETIRED = 4


IN_USE = (EntryStatus.ACTIVE, EntryStatus.DRAFT)
"""The statuses of entries that count for what is written: the others were set aside by a person."""


class ReviewCause(IntEnum):
    """What kind of reason an entry waits for a person for. The numbers are the contract's."""

    NONE = 0
    NEAR_DUPLICATE = 1
    CONTRADICTION = 2


@dataclass(frozen=True, slots=True)
class Source:
    """Where an entry came from: a hard case, or a person."""

    case_id: str = ""
    run: str = ""
    teacher_call: str = ""
    author: str = ""
    citation: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A piece of knowledge as it is at one revision. Times are microseconds since 1970, UTC."""

    kb: str
    id: str
    text: str
    kind: EntryKind = EntryKind.FACT
    title: str = ""
    index_text: str = ""
    tags: tuple[str, ...] = ()
    status: EntryStatus = EntryStatus.ACTIVE
    sources: tuple[Source, ...] = ()
    superseded_by: str = ""
    review_reason: str = ""
    review_cause: ReviewCause = ReviewCause.NONE
    conflicts: tuple[str, ...] = ()  # ids of entries that it repeats or contradicts, while it waits
    used: int = 0
    helpful: int = 0
    harmful: int = 0
    revision: int = 0
    create_time: int = 0
    update_time: int = 0

    @property
    def indexed(self) -> str:
        """What the index reads."""
        return self.index_text or self.text

    @property
    def etag(self) -> str:
        """Changes with every revision, not with the counters: feedback must not block an edit."""
        return f"{self.revision}-{_digest(_content(self))[:12]}"

    @property
    def fact_key(self) -> str:
        """The same for the same fact of the same kind, however it is spelt."""
        return fact_key(self.kind, self.text)

    @property
    def claim_keys(self) -> tuple[str, ...]:
        """Keys that it shares with entries that may repeat or contradict it."""
        return claim_keys(self.text)


@dataclass(frozen=True, slots=True)
class Revision:
    """What an entry was, who made it so, and why."""

    entry: Entry
    author: str
    reason: str
    time: int


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Vectors that are being made for a new embedder."""

    embedder: str
    done: int
    entry_count: int


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """A set of entries that is searched together. Times are microseconds since 1970, UTC."""

    id: str
    title: str = ""
    description: str = ""
    embedder: str = ""
    dimension: int = 0
    revision: int = 0
    version: int = 0
    entry_count: int = 0
    active_count: int = 0
    create_time: int = 0
    update_time: int = 0
    rebuild: Rebuild | None = None

    @property
    def etag(self) -> str:
        """Changes with title and description."""
        return f"{self.revision}-{_digest([self.id, self.title, self.description])[:12]}"


_FIELDS = tuple(part.name for part in dataclasses.fields(Entry))
_SOURCE_FIELDS = tuple(part.name for part in dataclasses.fields(Source))
# The fields that a caller writes; the others are the store's.
CONTENT_FIELDS = ("kind", "title", "text", "index_text", "tags", "status", "sources", "superseded_by")


def _content(entry: Entry) -> list[Any]:
    sources = [[getattr(source, name) for name in _SOURCE_FIELDS] for source in entry.sources]
    values = (entry.kind, entry.title, entry.text, entry.index_text, entry.tags, entry.status, sources)
    return [*values, entry.superseded_by, entry.review_reason, entry.review_cause, entry.conflicts]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode()).hexdigest()


def preference(entry: Entry) -> tuple[int, str]:
    """Sorts entries that say the same: those in use first, then by id (Store.by_facts)."""
    order = (*IN_USE, EntryStatus.SUPERSEDED, EntryStatus.RETIRED)
    return order.index(entry.status), entry.id


def same_content(one: Entry, other: Entry) -> bool:
    """Whether two entries are the same but for counters, revision and times."""
    return _content(one) == _content(other)


@lru_cache(maxsize=2048)  # id, key and index ask for the same text one after the other
def _normalised(text: str) -> str:
    return normalise_fact(text) or text  # a text of punctuation alone is its own fact


def fact_key(kind: EntryKind, text: str) -> str:
    """A digest of the kind and the normalised text."""
    return hashlib.sha256(f"{int(kind)}\n{_normalised(text)}".encode()).hexdigest()[:32]


def derive_id(kind: EntryKind, text: str) -> str:
    """The id of an entry that was given none: the same fact has the same id, in any process and any knowledge base.

    Ties of a search are broken by id, so two knowledge bases with the same entries also rank them the same.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{int(kind)}\n{_normalised(text)}"))


def check_text(value: str, field: str, limit: int, *, required: bool = False) -> str:
    """Checks text of several lines; line ends become LF, blanks at both ends go.

    Args:
        value: The text.
        field: Its place in the request, for the error.
        limit: The most characters it may have.
        required: Whether it must hold something.

    Returns:
        The text as it is kept.

    Raises:
        InvalidArgument: It is too long, blank, or holds control characters.
    """
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return _checked(value, field, limit, required, _FORBIDDEN)


def check_line(value: str, field: str, limit: int, *, required: bool = False) -> str:
    """Checks text of one line. See check_text."""
    return _checked(value, field, limit, required, _LINE_FORBIDDEN)


def _checked(value: str, field: str, limit: int, required: bool, forbidden: re.Pattern[str]) -> str:
    bad = forbidden.search(value)
    if bad:
        raise InvalidArgument(
            f"{field} has the character U+{ord(bad.group()):04X} at {bad.start()}, which is not allowed there",
            field=field,
        )
    value = value.strip()
    if required and not value:
        raise InvalidArgument(f"{field} is empty: give it 1 to {limit} characters", field=field)
    if len(value) > limit:
        raise InvalidArgument(f"{field} has {len(value)} characters; at most {limit} are allowed", field=field)
    return value


def validate(entry: Entry, field: str = "entry") -> Entry:
    """Checks every field that a caller writes, and brings it into the form that is kept.

    Args:
        entry: The entry as the caller gave it.
        field: Its place in the request, for the error.

    Returns:
        The entry as it is kept: LF line ends, no blanks at the ends, no tag or source twice.

    Raises:
        InvalidArgument: A field holds what it must not hold.
    """
    tags = tuple(
        dict.fromkeys(check_line(t, f"{field}.tags[{i}]", MAX_TAG, required=True) for i, t in enumerate(entry.tags))
    )
    if len(tags) > MAX_TAGS:
        raise InvalidArgument(
            f"{field}.tags has {len(tags)} tags; at most {MAX_TAGS} are allowed", field=f"{field}.tags"
        )
    sources = tuple(
        dict.fromkeys(_check_source(source, f"{field}.sources[{i}]") for i, source in enumerate(entry.sources))
    )
    if len(sources) > MAX_SOURCES:
        raise InvalidArgument(
            f"{field}.sources has {len(sources)} sources; at most {MAX_SOURCES} are allowed", field=f"{field}.sources"
        )
    if entry.superseded_by and entry.status is not EntryStatus.SUPERSEDED:
        raise InvalidArgument(
            f"{field}.superseded_by is set, but the status is {entry.status.name}: only a SUPERSEDED entry has it",
            field=f"{field}.superseded_by",
        )
    if entry.superseded_by and entry.superseded_by == entry.id:
        raise InvalidArgument(f"{field}.superseded_by names the entry itself", field=f"{field}.superseded_by")
    is_draft = entry.status is EntryStatus.DRAFT
    return dataclasses.replace(
        entry,
        text=check_text(entry.text, f"{field}.text", MAX_TEXT, required=True),
        title=check_line(entry.title, f"{field}.title", MAX_TITLE),
        index_text=check_text(entry.index_text, f"{field}.index_text", MAX_TEXT),
        tags=tags,
        sources=sources,
        review_reason=check_text(entry.review_reason, f"{field}.review_reason", MAX_NOTE) if is_draft else "",
        review_cause=entry.review_cause if is_draft else ReviewCause.NONE,
        conflicts=tuple(dict.fromkeys(entry.conflicts))[:MAX_CONFLICTS] if is_draft else (),
    )


def _check_source(source: Source, field: str) -> Source:
    checked = Source(
        **{
            part.name: check_line(getattr(source, part.name), f"{field}.{part.name}", MAX_LINE)
            for part in dataclasses.fields(Source)
        }
    )
    if checked == Source():
        raise InvalidArgument(f"{field} is empty: say where the entry came from, or leave it out", field=field)
    return checked


def check_etag(given: str, entry: Entry | KnowledgeBase, name: str) -> None:
    """Guards against lost updates (AIP-154); an empty etag guards nothing.

    Raises:
        Aborted: Somebody else wrote in between; names both revisions.
    """
    if not given or given == entry.etag:
        return
    seen = given.partition("-")[0]
    was = f"revision {seen}" if seen.isascii() and seen.isdigit() and len(seen) < 20 else "an unknown revision"
    raise Aborted(
        f"{name} is at revision {entry.revision}, but the etag is that of {was}: "
        "read it again, bring both changes together, and write with the new etag",
        reason="ETAG_MISMATCH",
        metadata={"current_revision": str(entry.revision), "given_revision": seen[:20], "current_etag": entry.etag},
    )


def with_sources(entry: Entry, sources: tuple[Source, ...]) -> Entry:
    """The entry with more sources; those that it has already are not added again.

    Raises:
        FailedPrecondition: It would have too many.
    """
    merged = tuple(dict.fromkeys((*entry.sources, *sources)))
    if len(merged) > MAX_SOURCES:
        raise FailedPrecondition(
            f"{names.entry_name(entry.kb, entry.id)} has {len(entry.sources)} sources; "
            f"at most {MAX_SOURCES} are allowed",
            reason="TOO_MANY_SOURCES",
        )
    return dataclasses.replace(entry, sources=merged)


def is_sole_source(entry: Entry, case_id: str) -> bool:
    """Whether the entry exists because of this case alone."""
    return bool(entry.sources) and all(source.case_id == case_id for source in entry.sources)


def to_json(entry: Entry) -> str:
    """The entry as the text that a store keeps; from_json reads it."""
    # Not dataclasses.asdict: it copies deeply, which took half of the time of an import.
    fields = {name: getattr(entry, name) for name in _FIELDS}
    fields["sources"] = [{name: getattr(source, name) for name in _SOURCE_FIELDS} for source in entry.sources]
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> Entry:
    """The entry that to_json wrote."""
    fields = json.loads(text)
    fields["kind"] = EntryKind(fields["kind"])
    fields["status"] = EntryStatus(fields["status"])
    fields["tags"] = tuple(fields["tags"])
    fields["sources"] = tuple(Source(**source) for source in fields["sources"])
    fields["review_cause"] = ReviewCause(fields.get("review_cause", 0))
    fields["conflicts"] = tuple(fields.get("conflicts", ()))
    return Entry(**fields)
