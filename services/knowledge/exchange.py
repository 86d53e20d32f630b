"""Files of entries: JSONL for programs, Markdown for people. What is written here is read here without loss.

Neither format carries revision, etag and times: they are the store's. A reader takes a file in pieces, and tells what
is wrong with an item by the line where it begins; the other items are read all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from google.protobuf import json_format
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from services.common.errors import InvalidArgument, NesycdError
from services.knowledge import names
from services.knowledge.convert import cause_of, content_message, kind_of, sources_of, status_of
from services.knowledge.entries import CONTENT_FIELDS, MAX_COUNT, Entry, EntryKind, EntryStatus, ReviewCause, Source

MAX_ITEM = 1024 * 1024  # bytes
_ALL_FIELDS = frozenset(CONTENT_FIELDS)
_JSON_NAMES = {part: pb.Entry.DESCRIPTOR.fields_by_name[part].json_name for part in CONTENT_FIELDS}


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a file, or why it is none.

    Attributes:
        line: Where it begins, from 1.
        entry: The entry; its id is empty where the file names none.
        error: What is wrong with it.
        etag: Guards, where the file has one.
        given: Fields that the file says something about.
    """

    line: int
    entry: Entry | None = None
    error: NesycdError | None = None
    etag: str = ""
    given: frozenset[str] = _ALL_FIELDS


class Reader(Protocol):
    """Reads a file that comes in pieces."""

    def feed(self, data: bytes) -> Iterator[Item]:
        """The items that are complete with these bytes."""

    def finish(self) -> Iterator[Item]:
        """The items that were left."""


class _Lines:
    """Splits bytes into lines of text."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._number = 0
        self._skips = False

    def feed(self, data: bytes) -> Iterator[tuple[int, str | NesycdError]]:
        """The complete lines: number, and text or what is wrong with it."""
        self._rest += data
        if not self._number and self._rest[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InvalidArgument("the file is UTF-16: save it as UTF-8", field="data")
        if b"\n" not in data:
            self._bound()
            return
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        for line in lines:
            yield self._line(line)
        self._bound()

    def finish(self) -> Iterator[tuple[int, str | NesycdError]]:
        """The last line, where it does not end."""
        if self._rest or self._skips:
            yield self._line(bytes(self._rest))
        self._rest = bytearray()

    def _bound(self) -> None:
        if len(self._rest) > MAX_ITEM:
            self._skips = True
            self._rest.clear()

    def _line(self, line: bytes) -> tuple[int, str | NesycdError]:
        self._number += 1
        if self._skips or len(line) > MAX_ITEM:
            self._skips = False
            return self._number, InvalidArgument(f"the line has more than {MAX_ITEM} bytes", field="data")
        if self._number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            return self._number, line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            return self._number, InvalidArgument(
                f"the line is not UTF-8: byte 0x{line[error.start]:02x} at {error.start}", field="data"
            )


# -- JSONL


def write_jsonl(entry: Entry) -> str:
    """The line of an entry."""
    fields = json_format.MessageToDict(content_message(entry))
    # Said even where empty: a field that a line leaves out is left as it is.
    for name, nothing in (("title", ""), ("indexText", ""), ("tags", []), ("sources", []), ("supersededBy", "")):
        fields.setdefault(name, nothing)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"


class JsonlReader:
    """One JSON object a line: the Entry message in proto3 JSON; fields that are left out are left as they are.

    Blank lines are skipped.
    """

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, data: bytes) -> Iterator[Item]:
        """See Reader."""
        return self._items(self._lines.feed(data))

    def finish(self) -> Iterator[Item]:
        """See Reader."""
        return self._items(self._lines.finish())

    def _items(self, lines: Iterator[tuple[int, str | NesycdError]]) -> Iterator[Item]:
        for number, line in lines:
            try:
                if isinstance(line, NesycdError):
                    raise line
                if line.strip():
                    yield self._item(number, line)
            except NesycdError as error:
                yield Item(number, error=error)

    def _item(self, number: int, line: str) -> Item:
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise InvalidArgument("the line is JSON, but no object: one entry a line", field="data")
            message = json_format.ParseDict(fields, pb.Entry(), max_recursion_depth=16)
        except json.JSONDecodeError as error:
            raise InvalidArgument(f"the line is not JSON: {error.msg} at {error.pos}", field="data") from None
        except json_format.ParseError as error:
            raise InvalidArgument(f"the line is not an entry: {str(error)[:200]}", field="data") from None
        except (RecursionError, ValueError, TypeError, AttributeError) as error:
            raise InvalidArgument(f"the line is not an entry: {type(error).__name__}", field="data") from None
        given = frozenset(part for part in _ALL_FIELDS if part in fields or _JSON_NAMES[part] in fields)
        return Item(number, _entry(message), etag=message.etag, given=given)


def _entry(message: pb.Entry) -> Entry:
    """What a file says of an entry. Its base is not looked at: a file goes from one base to another."""
    counters = message.counters
    for part in ("used", "helpful", "harmful"):
        if not 0 <= getattr(counters, part) <= MAX_COUNT:
            raise InvalidArgument(f"counters.{part} is {getattr(counters, part)}", field=f"counters.{part}")
    return Entry(
        kb="",
        id=_entry_id(message.name, "name"),
        text=message.text,
        kind=kind_of(message.kind, "kind"),
        title=message.title,
        index_text=message.index_text,
        tags=tuple(message.tags),
        status=status_of(message.status, "status"),
        sources=sources_of(message),
        superseded_by=_entry_id(message.superseded_by, "superseded_by"),
        review_reason=message.review_reason,
        review_cause=cause_of(message.review_cause),
        conflicts=tuple(_entry_id(name, "conflicting_entries") for name in message.conflicting_entries),
        used=counters.used,
        helpful=counters.helpful,
        harmful=counters.harmful,
    )


def _entry_id(value: str, field: str) -> str:
    """The id in a full name, or an id alone."""
    if not value:
        return ""
    return names.parse_entry(value, field)[1] if "/" in value else names.entry_id(value, field)


# -- Markdown

_HEADING = "## "
_INDEX_HEADING = "### Index text"
_UNTITLED = "—"
_KEYS = (
    "id", "title", "kind", "status", "tags", "review", "cause", "conflicts", "superseded by", "counters", "etag", "source",
)  # fmt: skip
_SOURCE_KEYS = {
    "case": "case_id", "run": "run", "teacher call": "teacher_call", "author": "author", "citation": "citation",
}  # fmt: skip
_BULLET = re.compile(r"- ([a-z ]+):(?: (.*))?$", re.S)
_INNER = re.compile(r" {2,}- ([a-z ]+): (.*)$", re.S)
_ESCAPED = re.compile(r"^\\*(?:## |##$|### Index text[ \t]*$)")
_PLAIN_TAG = re.compile(r'[^\s",\\\[\]][^",\\]*')
MARKDOWN_HEADER = (
    "# Knowledge\n\n"
    "One section an entry: its title, what is said about it, a blank line, and the text that the student reads.\n"
    "A new section needs no list: a title and a text are enough. A line of text that would begin with `## ` begins\n"
    "with `\\## `.\n\n"
)


def write_markdown(entry: Entry) -> str:
    """The section of an entry."""
    lines = [_HEADING + (entry.title or _UNTITLED), "", f"- id: {entry.id}"]
    if entry.title == _UNTITLED:
        lines.append(f"- title: {entry.title}")
    lines += [f"- kind: {entry.kind.name}", f"- status: {entry.status.name}"]
    if entry.tags:
        lines.append("- tags: " + ", ".join(map(_write_tag, entry.tags)))
    if entry.review_reason:
        lines.append("- review: " + json.dumps(entry.review_reason, ensure_ascii=False))
    if entry.review_cause:
        lines.append(f"- cause: {entry.review_cause.name}")
    if entry.conflicts:
        lines.append("- conflicts: " + ", ".join(entry.conflicts))
    if entry.superseded_by:
        lines.append(f"- superseded by: {entry.superseded_by}")
    if entry.used or entry.helpful or entry.harmful:
        lines.append(f"- counters: used {entry.used}, helpful {entry.helpful}, harmful {entry.harmful}")
    for source in entry.sources:
        lines.append("- source:")
        lines += [f"  - {key}: {value}" for key, part in _SOURCE_KEYS.items() if (value := getattr(source, part))]
    lines += ["", _escape(entry.text)]
    if entry.index_text:
        lines += ["", _INDEX_HEADING, "", _escape(entry.index_text)]
    return "\n".join(lines) + "\n\n"


def _escape(text: str) -> str:
    return "\n".join("\\" + line if _ESCAPED.match(line) else line for line in text.split("\n"))


def _unescape(line: str) -> str:
    return line[1:] if line.startswith("\\") and _ESCAPED.match(line) else line


def _write_tag(tag: str) -> str:
    plain = _PLAIN_TAG.fullmatch(tag) and tag == tag.strip()
    return tag if plain else json.dumps(tag, ensure_ascii=False)


def _read_tags(value: str) -> tuple[str, ...]:
    tags = []
    decoder = json.JSONDecoder()
    at = 0
    while at < len(value):
        if value[at] in " \t,":
            at += 1
        elif value[at] == '"':
            try:
                tag, at = decoder.raw_decode(value, at)
            except ValueError:
                raise InvalidArgument("tags has a quotation mark that is not closed", field="tags") from None
            tags.append(str(tag))
        else:
            end = value.find(",", at)
            end = len(value) if end < 0 else end
            tags.append(value[at:end].strip())
            at = end
    return tuple(tags)


class MarkdownReader:
    """One section an entry; see MARKDOWN_HEADER. What stands before the first section is for people."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._section: list[str] | None = None
        self._start = 0
        self._size = 0
        self._error: NesycdError | None = None

    def feed(self, data: bytes) -> Iterator[Item]:
        """See Reader."""
        for number, line in self._lines.feed(data):
            yield from self._take(number, line)

    def finish(self) -> Iterator[Item]:
        """See Reader."""
        for number, line in self._lines.finish():
            yield from self._take(number, line)
        yield from self._flush()

    def _take(self, number: int, line: str | NesycdError) -> Iterator[Item]:
        if isinstance(line, NesycdError):
            if self._section is None:
                self._section, self._start = [], number
            self._error = self._error or InvalidArgument(f"in line {number}: {line.message}", field="data")
            return
        if line.startswith(_HEADING) or line == "##":
            yield from self._flush()
            self._section, self._start = [], number
        if self._section is None:
            return
        self._size += len(line)
        if self._size > MAX_ITEM:
            self._error = self._error or InvalidArgument(
                f"the section has more than {MAX_ITEM} characters", field="data"
            )
            return
        self._section.append(line)

    def _flush(self) -> Iterator[Item]:
        section, error, start = self._section, self._error, self._start
        self._section, self._error, self._size = None, None, 0
        if section is None:
            return
        if error is None:
            try:
                yield self._read(start, section)
                return
            except NesycdError as problem:
                error = problem
        yield Item(start, error=error)

    def _read(self, start: int, section: list[str]) -> Item:
        title = section[0].removeprefix("##").strip()
        fields: dict[str, Any] = {"title": "" if title == _UNTITLED else title}
        body = section[1:]
        while body and not body[0].strip():
            body.pop(0)
        etag = ""
        match = _BULLET.match(body[0]) if body else None
        if match and match.group(1) in _KEYS:
            etag = self._read_list(body, fields)
        text, index_text = body, []
        for at, line in enumerate(body):
            if line.rstrip() == _INDEX_HEADING:
                text, index_text = body[:at], body[at + 1 :]
                break
        entry = Entry(
            kb="",
            id="",
            text="\n".join(map(_unescape, text)).strip(),
            index_text="\n".join(map(_unescape, index_text)).strip(),
        )
        # An edited file says all there is about an entry: a list that lost its tags has none.
        return Item(start, replace(entry, **fields), etag=etag)

    def _read_list(self, body: list[str], fields: dict[str, Any]) -> str:
        """Takes the list off the body, and puts it into the fields; returns the etag."""
        sources: list[dict[str, str]] = []
        etag = ""
        while body and body[0].strip():
            line = body.pop(0)
            inner = _INNER.match(line)
            if inner:
                part = _SOURCE_KEYS.get(inner.group(1))
                if part is None or not sources:
                    raise InvalidArgument(
                        f"the list has {names.shown(line.strip(), 40)}: under `- source:` go {', '.join(_SOURCE_KEYS)}",
                        field="source",
                    )
                sources[-1][part] = inner.group(2).strip()
                continue
            match = _BULLET.match(line)
            if not match or match.group(1) not in _KEYS:
                raise InvalidArgument(
                    f"the list has {names.shown(line, 40)}: its points are {', '.join(_KEYS)}; "
                    "the text begins after a blank line",
                    field="data",
                )
            key, value = match.group(1), (match.group(2) or "").strip()
            if key == "source":
                sources.append({"citation": value} if value else {})
            elif key == "etag":
                etag = value
            else:
                fields.update(_read_point(key, value))
        fields["sources"] = tuple(Source(**source) for source in sources)
        return etag


def _read_point(key: str, value: str) -> dict[str, Any]:
    if key == "id":
        return {"id": _entry_id(value, "id")}
    if key == "title":
        return {"title": value}
    if key in ("kind", "status"):
        enum = EntryKind if key == "kind" else EntryStatus
        if value.upper() not in enum.__members__:
            raise InvalidArgument(
                f"{key} is {names.shown(value, 40)}: use one of {', '.join(enum.__members__)}", field=key
            )
        return {key: enum[value.upper()]}
    if key == "tags":
        return {"tags": _read_tags(value)}
    if key == "review":
        try:
            reason = json.loads(value) if value.startswith('"') else value
        except ValueError:
            reason = value
        return {"review_reason": str(reason)}
    if key == "cause":
        if value.upper() not in ReviewCause.__members__:
            raise InvalidArgument(
                f"cause is {names.shown(value, 40)}: use one of {', '.join(ReviewCause.__members__)}", field=key
            )
        return {"review_cause": ReviewCause[value.upper()]}
    if key == "conflicts":
        return {"conflicts": tuple(_entry_id(part.strip(), "conflicts") for part in value.split(",") if part.strip())}
    if key == "superseded by":
        return {"superseded_by": _entry_id(value, "superseded by")}
    counters = re.fullmatch(r"used (\d{1,18}), helpful (\d{1,18}), harmful (\d{1,18})", value)
    if not counters:
        raise InvalidArgument("counters is not of the form `used 3, helpful 1, harmful 0`", field="counters")
    return dict(zip(("used", "helpful", "harmful"), map(int, counters.groups()), strict=True))
