"""What differs between two versions of an entry, and how it is shown."""

from __future__ import annotations

import io
import random
import time
from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nesycd.knowledge.v1 import (
    ENTRY_KIND_FACT,
    ENTRY_KIND_SUMMARY,
    ENTRY_STATUS_ACTIVE,
    ENTRY_STATUS_DRAFT,
    Entry,
    Source,
)
from rich.console import Console

from cli.knowledge import diff
from cli.knowledge.audit import Since
from cli.knowledge.diff import ADDED, REMOVED, SAME, marked, pieces


def plain(before: str, after: str, around: int | None = None) -> str:
    return marked(pieces(before, after), coloured=False, around=around).plain


def test_a_changed_word_is_marked_and_no_more() -> None:
    assert plain("Crabs have 8 legs.", "Crabs have 10 legs.") == "Crabs have [-8-]{+10+} legs."
    assert plain("Crabs.", "Crabs.") == "Crabs."
    assert plain("", "New.") == "{+New.+}" and plain("Old.", "") == "[-Old.-]"


def test_words_that_change_side_by_side_are_one_change() -> None:
    assert plain("two small cats sleep", "three big cats sleep") == "[-two small-]{+three big+} cats sleep"


@given(st.text(alphabet="ab 1\n.", max_size=60), st.text(alphabet="ab 1\n.", max_size=60))
def test_both_texts_are_in_the_pieces_whole(before: str, after: str) -> None:
    found = pieces(before, after)
    assert "".join(p.text for p in found if p.kind in (SAME, REMOVED)) == before
    assert "".join(p.text for p in found if p.kind in (SAME, ADDED)) == after
    assert all(p.text for p in found)


def test_far_from_a_change_a_long_text_is_left_out() -> None:
    before = "word " * 100 + "8" + " word" * 100
    shown = plain(before, before.replace("8", "10"), around=20)
    assert "[-8-]{+10+}" in shown and shown.startswith("…") and shown.endswith("…") and len(shown) < 80


def test_the_longest_texts_are_compared_in_a_moment() -> None:
    rng = random.Random(1)
    before = " ".join(rng.choice("abcdefgh") for _ in range(4000))
    after = " ".join(rng.choice("abcdefgh") for _ in range(4000))
    begun = time.monotonic()
    pieces(before, after)
    assert time.monotonic() - begun < 10, "minutes, not a second"


def test_every_field_that_people_write_is_compared() -> None:
    before = Entry(text="a", kind=ENTRY_KIND_FACT, status=ENTRY_STATUS_ACTIVE, tags=["x", "y"])
    after = Entry(
        text="b", title="t", index_text="i", kind=ENTRY_KIND_SUMMARY, status=ENTRY_STATUS_DRAFT, tags=["y", "z"],
        superseded_by="n", review_reason="r", sources=[Source(case_id="7", author="ada")],
    )  # fmt: skip
    assert {change.field for change in diff.changes(before, after)} == {
        "text", "title", "index_text", "kind", "status", "tags", "superseded_by", "review_reason", "sources",
    }  # fmt: skip
    assert not list(diff.changes(after, after))
    counted = Entry(text="a")
    counted.counters.used = 3
    assert not list(diff.changes(Entry(text="a"), counted)), "feedback is no change of what it says"


@pytest.mark.parametrize("width", [30, 200])
def test_a_diff_without_colours_is_readable_in_any_width(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    before = Entry(text="Crabs have 8 legs. " * 4, tags=["x"])
    diff.print_changes(before, Entry(text="Crabs have 10 legs. " * 4, tags=["y"]), console, indent=4)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[-8-]{+10+}" in said.replace("\n    ", "") and "tags: [-x-], {+y+}" in said
    assert max(map(len, said.splitlines())) <= width
    assert "\x1b" not in said


def test_brackets_of_a_text_are_no_markup() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    diff.print_changes(Entry(text="[red]a[/red]"), Entry(text="[red]b[/nothing]"), console)
    assert "[red]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_time_is_a_date_or_how_long_ago() -> None:
    read = Since().convert
    now = datetime.now(UTC)
    for text, ago in (("7d", timedelta(days=7)), ("12h", timedelta(hours=12)), ("2w", timedelta(weeks=2))):
        assert abs(now - read(text, None, None) - ago) < timedelta(seconds=5)
    assert read("2026-01-31T12:00:00Z", None, None) == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert read("2026-01-31", None, None).tzinfo is not None
    for wrong in ("yesterday", "7x", "", "2026-13-01", "999999w"):
        with pytest.raises(click.BadParameter, match="neither a date"):
            read(wrong, None, None)
