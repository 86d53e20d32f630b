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


@pytest.mark.parametrize(
    "text",
    [
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
