"""Filters: a subset of AIP-160 over status, kind, tags, source and counters.

As in AIP-160, terms side by side are joined by AND, and OR binds closer than AND:
`a AND b OR c` means `a AND (b OR c)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from services.common.errors import InvalidArgument
from services.knowledge.entries import Entry, EntryKind, EntryStatus
from services.knowledge.names import shown

MAX_LENGTH = 4096  # characters
MAX_DEPTH = 32

SOURCE_FIELDS = ("case_id", "run", "teacher_call", "author", "citation")
COUNTER_FIELDS = ("used", "helpful", "harmful")
_FIELDS = (
    "status", "kind", "tags",
    *(f"sources.{part}" for part in SOURCE_FIELDS),
    *(f"counters.{part}" for part in COUNTER_FIELDS),
)  # fmt: skip
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<op><=|>=|!=|=|<|>|:)|(?P<paren>[()])"""
    r"""|(?P<word>[^\s()<>=!:"']+))""",
    re.S,
)


@dataclass(frozen=True, slots=True)
class And:
    """All must hold."""

    parts: tuple[Filter, ...]

    def matches(self, entry: Entry) -> bool:
        """Whether the entry fits."""
        return all(part.matches(entry) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """One must hold."""

    parts: tuple[Filter, ...]

    def matches(self, entry: Entry) -> bool:
        """Whether the entry fits."""
        return any(part.matches(entry) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """It must not hold."""

    part: Filter

    def matches(self, entry: Entry) -> bool:
        """Whether the entry fits."""
        return not self.part.matches(entry)


@dataclass(frozen=True, slots=True)
class Compare:
    """A field against a value: an enum's member, a number, or text."""

    field: str
    op: str
    value: int | str

    def matches(self, entry: Entry) -> bool:
        """Whether the entry fits."""
        group, _, part = self.field.partition(".")
        if group == "tags":
            return bool(entry.tags) if self.value == "*" else self.value in entry.tags
        if group == "sources":
            values = (getattr(source, part) for source in entry.sources)
            return any(values) if self.value == "*" else self.value in values
        actual = getattr(entry, part or group)
        if self.op in ("=", ":"):
            return bool(actual == self.value)
        if self.op == "!=":
            return bool(actual != self.value)
        if self.op == "<":
            return bool(actual < self.value)
        if self.op == "<=":
            return bool(actual <= self.value)
        return bool(actual > self.value) if self.op == ">" else bool(actual >= self.value)


Filter = And | Or | Not | Compare


def comparisons(node: Filter | None) -> Iterator[Compare]:
    """Every comparison in a filter."""
    if isinstance(node, Compare):
        yield node
    elif isinstance(node, Not):
        yield from comparisons(node.part)
    elif node is not None:
        for part in node.parts:
            yield from comparisons(part)


@lru_cache(maxsize=256)  # callers repeat their filters
def parse(text: str, field: str = "filter") -> Filter | None:
    """Reads a filter.

    Args:
        text: For instance `status = ACTIVE AND (tags:animals OR counters.helpful > 2)`.
        field: Its place in the request, for the error.

    Returns:
        The filter, or None where the text is blank.

    Raises:
        InvalidArgument: It is no filter; says where and why.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidArgument(f"{field} has {len(text)} characters; at most {MAX_LENGTH} are allowed", field=field)
    if not text.strip():
        return None
    parser = _Parser(text, field)
    node = parser.expression(0)
    if parser.kind:
        parser.fail("an AND, an OR, or the end")
    return node


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str, field: str) -> None:
        self.text = text.rstrip()
        self.name = field
        self.next_at = 0
        self.advance()

    def advance(self) -> None:
        """Reads the next token into kind, value and at; kind is empty at the end."""
        self.at = self.next_at
        self.kind = self.value = ""
        if self.at >= len(self.text):
            return
        match = _TOKEN.match(self.text, self.at)
        if not match:
            self.fail("a field, a value or a bracket")
            return
        self.kind = str(match.lastgroup)
        self.value = match.group(self.kind)
        self.at, self.next_at = match.start(self.kind), match.end()

    def fail(self, expected: str) -> None:
        """Raises the error for this place."""
        found = shown(self.text[self.at : self.at + 20]) if self.at < len(self.text) else "the end"
        raise InvalidArgument(
            f"{self.name}: at character {self.at}, {expected} was expected, not {found}",
            reason="INVALID_FILTER",
            field=self.name,
        )

    def expression(self, depth: int) -> Filter:
        """expression = factor { ["AND"] factor }"""
        if depth > MAX_DEPTH:
            self.fail(f"no bracket deeper than {MAX_DEPTH}")
        parts = [self.factor(depth)]
        while self.kind and self.value != ")":
            if self.kind == "word" and self.value == "AND":
                self.advance()
            parts.append(self.factor(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def factor(self, depth: int) -> Filter:
        """factor = term { "OR" term }"""
        parts = [self.term(depth)]
        while self.kind == "word" and self.value == "OR":
            self.advance()
            parts.append(self.term(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def term(self, depth: int) -> Filter:
        """term = ["NOT" | "-"] ( "(" expression ")" | comparison )"""
        negative = False
        if self.kind == "word" and self.value == "NOT":
            negative = True
            self.advance()
        elif self.kind == "word" and self.value == "-":
            negative = True
            self.advance()
        elif self.kind == "word" and self.value.startswith("-"):
            negative = True
            self.value, self.at = self.value[1:], self.at + 1
        if self.kind == "paren" and self.value == "(":
            self.advance()
            node = self.expression(depth + 1)
            if self.value != ")" or self.kind != "paren":
                self.fail("a closing bracket")
            self.advance()
        else:
            node = self.comparison()
        return Not(node) if negative else node

    def comparison(self) -> Filter:
        """comparison = field operator value"""
        if self.kind != "word" or self.value in ("AND", "OR", "NOT"):
            self.fail("a field")
        field, at = self.value, self.at
        field = "sources" + field.removeprefix("source") if field.startswith("source.") else field
        if field not in _FIELDS:
            self.at = at
            self.fail(f"a field ({', '.join(_FIELDS)})")
        self.advance()
        op = self.value
        if self.kind != "op":
            self.fail("an operator (=, !=, <, <=, >, >=, :)")
        allowed = {"status": ("=", "!=", ":"), "kind": ("=", "!=", ":"), "tags": (":", "=", "!=")}.get(
            field, (":", "=", "!=") if field.startswith("sources") else ("=", "!=", "<", "<=", ">", ">=", ":")
        )
        if op not in allowed:
            self.fail(f"one of {' '.join(allowed)} after {field}")
        self.advance()
        if self.kind not in ("word", "string") or (self.kind == "word" and self.value in ("AND", "OR", "NOT")):
            self.fail("a value")
        value = self.convert(field)
        self.advance()
        if field.split(".")[0] in ("tags", "sources") and op == "!=":
            return Not(Compare(field, ":", value))
        return Compare(field, op, value)

    def convert(self, field: str) -> int | str:
        """The value as the field's type."""
        raw = re.sub(r"\\(.)", r"\1", self.value[1:-1], flags=re.S) if self.kind == "string" else self.value
        if field in ("status", "kind"):
            enum = EntryStatus if field == "status" else EntryKind
            member = raw.removeprefix(f"ENTRY_{field.upper()}_")
            if member not in enum.__members__:
                self.fail(f"one of {', '.join(enum.__members__)}")
            return enum[member]
        if field.startswith("counters."):
            if not re.fullmatch(r"[0-9]{1,18}", raw):
                self.fail("a whole number")
            return int(raw)
        return raw
