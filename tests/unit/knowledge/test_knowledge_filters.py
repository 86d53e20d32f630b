"""Filters mean what AIP-160 says, and nothing else can be smuggled in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import InvalidArgument
from services.knowledge.entries import Entry, EntryKind, EntryStatus, Source
from services.knowledge.filters import parse

ENTRY = Entry(
    "kb", "id", "text", kind=EntryKind.FACT, status=EntryStatus.ACTIVE, tags=("birds", "a b"),
    sources=(Source("c1", author='Ada "x"'),), helpful=3,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status = ACTIVE", True),
        ("status=ENTRY_STATUS_ACTIVE AND kind != FACT", False),
        ("tags:birds status:ACTIVE", True),
        ('tags:"a b"', True),
        ("tags:b", False),
        ("tags:*", True),
        ("tags != birds", False),
        ("NOT tags:cats", True),
        ("-tags:birds", False),
        ("-(tags:birds OR tags:cats)", False),
        ("counters.helpful >= 3 AND counters.harmful < 1", True),
        ("counters.helpful > 3", False),
        ("source.case_id:c1", True),
        ("sources.case_id = c2", False),
        (r'sources.author = "Ada \"x\""', True),
        ("sources.run:*", False),
        # OR binds closer than AND.
        ("tags:cats AND status:ACTIVE OR kind:FACT", False),
        ("(tags:cats AND status:ACTIVE) OR kind:FACT", True),
    ],
)
def test_a_filter_means_what_it_says(text: str, expected: bool) -> None:
    node = parse(text)
    assert node is not None
    assert node.matches(ENTRY) is expected


FULL = Entry(
    "kb", "id", "text", kind=EntryKind.SUMMARY, status=EntryStatus.DRAFT, tags=("t",),
    sources=(Source("case", "run", "call", "author", "citation"),), used=1, helpful=2, harmful=3,
)  # fmt: skip
BARE = Entry("kb", "id", "text", kind=EntryKind.FACT, status=EntryStatus.RETIRED)


@pytest.mark.parametrize(
    "text",
    [
        "status = DRAFT", "status:ENTRY_STATUS_DRAFT", "status != RETIRED", "kind = SUMMARY", "kind:ENTRY_KIND_SUMMARY",
        "kind != FACT", "tags:t", "tags = t", 'tags:"*"', "tags = *", "NOT tags != *", "counters.used = 1",
        "counters.used:1", "counters.used != 0", "counters.helpful > 1", "counters.helpful >= 2", "NOT counters.harmful < 3",
        "NOT counters.harmful <= 2",
        *(f"{name}.{part} {op} {value}" for name in ("source", "sources") for op in (":", "=") for part, value in (
            ("case_id", "case"), ("run", "run"), ("teacher_call", "call"), ("author", "author"), ("citation", "citation"),
        )),
        *(f"sources.{part}:*" for part in ("case_id", "run", "teacher_call", "author", "citation")),
        *(f"NOT sources.{part} != *" for part in ("case_id", "run", "teacher_call", "author", "citation")),
    ],
)  # fmt: skip
def test_every_field_tells_entries_apart(text: str) -> None:
    node = parse(text)
    assert node is not None
    assert (node.matches(FULL), node.matches(BARE)) == (True, False)


@pytest.mark.parametrize(
    "text",
    [
        "status:*", "kind:*", "counters.used:*", "sources:x", "source:*", "sources.case_id > a",
        "status", "status =", "status = NOVEL", "= ACTIVE", "status < ACTIVE", "text:x", "tags:birds)", "(tags:birds",
        "tags:'x", "counters.helpful > x", "counters.helpful > -1", "AND tags:x", "tags:x OR", "NOT", "tags > a",
        "tags:x; DROP TABLE entries", "(" * 50 + "tags:x" + ")" * 50, "__class__ = 1", "counters.__class__ = 1", "x" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(text)


@given(st.text(max_size=60) | st.text("()=<>!:\"'\\ ANDORNTtagsx-", max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        node = parse(text)
    except InvalidArgument:
        return
    assert node is None or node.matches(ENTRY) in (True, False)


def test_blank_is_no_filter() -> None:
    assert parse("  ") is None
