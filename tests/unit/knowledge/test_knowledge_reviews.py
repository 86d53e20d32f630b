"""What waits for a person, and what comes of a decision; edits that meet, and what remains of them."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from services.common.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    from_status_proto,
    status_proto,
)
from services.knowledge.entries import Entry, EntryKind, EntryStatus, ReviewCause, Source
from services.knowledge.exchange import MarkdownReader, write_jsonl, write_markdown
from services.knowledge.library import Creation, Feedback, ImportOutcome, Library
from services.knowledge.reviews import Decision
from services.knowledge.search import Query
from services.knowledge.stores.embedded import EmbeddedStore
from tests.unit.knowledge.test_knowledge_exchange import bring

ACTIVE, DRAFT, RETIRED, SUPERSEDED = EntryStatus.ACTIVE, EntryStatus.DRAFT, EntryStatus.RETIRED, EntryStatus.SUPERSEDED
LEGS, SIX, OTHER_WORDS = "A spider has 8 legs.", "A spider has 6 legs.", "Spiders have eight legs."


async def create(library: Library, text: str, reviewed: bool = False, **fields: Any) -> Entry:
    entry = dataclasses.replace(Entry("", "", text), **fields)
    return (await library.create("kb", Creation(entry, merge=True, author="Ada", reviewed=reviewed)))[0]


async def test_what_contradicts_or_repeats_waits_with_its_reason_and_is_not_found(library: Library) -> None:
    first = await create(library, LEGS)
    wrong, same = await create(library, SIX), await create(library, OTHER_WORDS)
    assert (first.status, wrong.status, same.status) == (ACTIVE, DRAFT, DRAFT)
    assert (wrong.review_cause, wrong.conflicts) == (ReviewCause.CONTRADICTION, (first.id,))
    assert wrong.review_reason == f"It contradicts “{LEGS}”."
    # It repeats the first, and contradicts the one that waits.
    assert (same.review_cause, same.conflicts) == (ReviewCause.CONTRADICTION, (wrong.id, first.id))
    assert "which is DRAFT; and 1 more" in same.review_reason
    hits, _ = await library.search("kb", Query("spider legs"))
    assert [hit.entry.id for hit in hits] == [first.id]
    reviews = await library.reviews("kb", "", 10)
    assert {review.entry.id: [other.id for other in review.conflicts] for review in reviews} == {
        wrong.id: [first.id],
        same.id: [wrong.id, first.id],
    }
    assert [review.entry.id for review in await library.reviews("kb", reviews[0].entry.id, 10)] == [reviews[1].entry.id]


async def test_entries_of_one_batch_see_each_other(library: Library) -> None:
    results = await library.create_many(
        "kb", [Creation(Entry("", "", text)) for text in (LEGS, SIX, "A flea has 6 legs")]
    )
    assert [result[0].status for result in results] == [ACTIVE, DRAFT, ACTIVE]  # type: ignore[index]


async def test_a_person_who_has_looked_at_it_gets_it_in(library: Library) -> None:
    await create(library, LEGS)
    assert (await create(library, SIX, reviewed=True)).status is ACTIVE


async def test_contradictions_are_between_facts_only_and_not_with_what_is_out_of_use(library: Library) -> None:
    summary = EntryKind.SUMMARY
    first = await create(library, LEGS)
    assert (await create(library, SIX, kind=summary)).status is ACTIVE
    assert (await create(library, LEGS, kind=summary)).status is ACTIVE
    assert (await create(library, OTHER_WORDS, kind=summary)).review_cause is ReviewCause.NEAR_DUPLICATE
    await library.retire("kb", first.id, "")
    assert (await create(library, SIX)).status is ACTIVE


async def test_what_a_person_retired_does_not_come_back_in_other_words(library: Library) -> None:
    first = await create(library, LEGS)
    await library.retire("kb", first.id, "")
    again = await create(library, OTHER_WORDS)
    assert (again.status, again.review_cause, again.conflicts) == (DRAFT, ReviewCause.NEAR_DUPLICATE, (first.id,))
    assert again.review_reason == f"It says in other words “{LEGS}”, which is RETIRED."


async def test_an_edit_is_looked_at_where_the_text_changes(library: Library) -> None:
    await create(library, LEGS)
    flea = await create(library, "A flea has 6 legs.")
    assert (await library.update("kb", flea.id, "", {"tags": ("insects",)})).status is ACTIVE
    edited = await library.update("kb", flea.id, "", {"text": SIX})
    assert (edited.status, edited.review_cause) == (DRAFT, ReviewCause.CONTRADICTION)
    other = await library.update("kb", flea.id, "", {"text": "A flea jumps far."}, reason="it was no spider")
    assert (other.status, other.review_cause, other.conflicts) == (DRAFT, ReviewCause.NONE, ())
    assert other.review_reason == "it was no spider"
    back = await library.roll_back("kb", flea.id, edited.revision, "")
    assert (back.status, back.review_cause, back.conflicts) == (DRAFT, edited.review_cause, edited.conflicts)
    assert (await library.roll_back("kb", flea.id, 1, "")).status is ACTIVE
    assert (await library.update("kb", flea.id, "", {"text": SIX}, reviewed=True)).status is ACTIVE
    # An entry does not contradict what it said itself.
    assert (await library.update("kb", flea.id, "", {"text": "A mite has 6 legs."})).status is ACTIVE
    assert (await library.update("kb", flea.id, "", {"text": "A mite has 8 legs."})).status is ACTIVE


async def test_the_four_decisions(library: Library) -> None:
    async def waiting(text: str, against: str) -> tuple[Entry, Entry]:
        first = await create(library, against, sources=(Source("c1"),))
        return first, await create(library, text, sources=(Source("c2"),))

    _, draft = await waiting("A bee has 4 legs", "A bee has 6 legs")
    approved, others = await library.resolve("kb", draft.id, Decision.APPROVE, author="Bea")
    assert (approved.status, approved.review_reason, approved.conflicts, others) == (ACTIVE, "", (), [])
    _, draft = await waiting("A cow has 6 legs", "A cow has 4 legs")
    assert (await library.resolve("kb", draft.id, Decision.REJECT))[0].status is RETIRED
    first, draft = await waiting("Ants have six legs", "An ant has 6 legs")
    merged, (other,) = await library.resolve("kb", draft.id, Decision.MERGE, author="Bea", reason="the same")
    assert (merged.status, merged.superseded_by) == (SUPERSEDED, first.id)
    assert (other.id, other.sources, other.revision) == (first.id, (Source("c1"), Source("c2")), 2)
    assert [(r.author, r.reason) for r in await library.revisions("kb", first.id, 9, 1)] == [("Bea", "the same")]
    first, draft = await waiting("A gnu has 4 legs", "A gnu has 5 legs")
    replacing, (other,) = await library.resolve("kb", draft.id, Decision.REPLACE)
    assert replacing.status is ACTIVE
    assert (other.status, other.superseded_by) == (SUPERSEDED, replacing.id)
    assert await library.entry("kb", first.id) == other
    assert await library.reviews("kb", "", 10) == []


async def test_a_decision_that_does_not_fit_is_refused_and_changes_nothing(library: Library) -> None:
    first = await create(library, LEGS)
    draft = await create(library, SIX)
    alone = await create(library, "Maybe.", status=DRAFT)
    with pytest.raises(FailedPrecondition) as error:
        await library.resolve("kb", first.id, Decision.APPROVE)
    assert error.value.reason == "NOT_IN_REVIEW"
    for entry, decision, others in (
        (alone, Decision.MERGE, []), (alone, Decision.REPLACE, []), (draft, Decision.MERGE, [first.id, alone.id]),
        (draft, Decision.APPROVE, [first.id]), (draft, Decision.MERGE, [draft.id]),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match="others"):
            await library.resolve("kb", entry.id, decision, others)
    with pytest.raises(NotFound):
        await library.resolve("kb", draft.id, Decision.MERGE, ["00000000-0000-0000-0000-000000000000"])
    with pytest.raises(Aborted):
        await library.resolve("kb", draft.id, Decision.APPROVE, etag="7-x")
    assert [review.entry for review in await library.reviews("kb", "", 10)] == sorted(
        [draft, alone], key=lambda e: e.id
    )


async def test_the_second_of_two_edits_gets_both_versions(library: Library) -> None:
    first = await create(library, "one " * 2000, tags=tuple(f"t{i}" for i in range(30)))
    await library.update("kb", first.id, first.etag, {"text": "zwei " * 1600}, "Bea", "in German")
    with pytest.raises(Aborted) as error:
        await library.update("kb", first.id, first.etag, {"text": "three"})
    conflict = from_status_proto(status_proto(error.value)).find(pb.EditConflict)
    assert conflict is not None
    assert (conflict.current.entry.revision, conflict.read.entry.revision) == (2, 1)
    assert (conflict.current.author, conflict.current.reason) == ("Bea", "in German")
    assert conflict.current.entry.text.startswith("zwei zwei")
    assert conflict.read.entry.text.startswith("one one")
    assert conflict.read.entry.text.endswith("…")
    with pytest.raises(Aborted) as error:
        await library.retire("kb", first.id, "not-an-etag")
    conflict = error.value.find(pb.EditConflict)
    assert conflict is not None
    assert not conflict.HasField("read")


async def test_the_audit_tells_every_revision_by_entry_and_since_a_time(tmp_path: Path) -> None:
    clock = iter(range(1_000_000, 2_000_000, 10))
    library = Library(EmbeddedStore(tmp_path, compiled=False), now=lambda: next(clock))
    await library.open()
    await library.create_base("kb", "", "")
    entries = [await create(library, f"fact {i}") for i in range(3)]
    await library.feedback("kb", [Feedback(entries[1].id, 1, 0, 0)])
    last = await library.retire("kb", entries[1].id, "", "Bea", "wrong")

    async def told(since: int = 0) -> list[tuple[str, int, str]]:
        pages = [page async for page in library.audit("kb", since)]
        return [(r.entry.id, r.entry.revision, r.author) for page in pages for r in page]

    everything = [(e.id, 1, "Ada") for e in entries] + [(last.id, 2, "Bea")]
    assert await told() == sorted(everything)
    assert await told(last.update_time) == [(last.id, 2, "Bea")]
    assert await told(last.update_time + 1) == []
    await library.close()


async def test_feedback_weighs_results_as_much_as_asked(library: Library) -> None:
    good, bad = await create(library, "eagle wings"), await create(library, "eagle wing span")
    await library.feedback("kb", [Feedback(good.id, 9, 0, 8), Feedback(bad.id, 9, 8, 0)])
    plain, _ = await library.search("kb", Query("eagle wings"))
    assert [hit.entry.id for hit in plain] == [good.id, bad.id]
    hits, _ = await library.search("kb", Query("eagle wings", feedback_weight=1.0, explain=True))
    assert [hit.entry.id for hit in hits] == [bad.id, good.id]
    assert hits[0].score == pytest.approx(plain[1].score * 1.8)
    assert hits[1].score == pytest.approx(plain[0].score * 0.2)
    assert "8 helpful" in hits[0].explanation
    query = Query("eagle wings", feedback_weight=1.0, minimum_score=hits[0].score, top_k=1)
    assert [hit.entry.id for hit in (await library.search("kb", query))[0]] == [bad.id]


async def test_several_changes_of_an_entry_in_one_request_are_one_revision(library: Library) -> None:
    entry = await create(library, "one")
    creations = [Creation(Entry("", "", "one", sources=(Source(f"c{i}"),)), merge=True) for i in range(5)]
    results = await library.create_many("kb", creations)
    now = await library.entry("kb", entry.id)
    assert (now.revision, len(now.sources)) == (2, 5)
    assert {result[0].etag for result in results} == {now.etag}  # type: ignore[index]


async def test_an_import_tells_what_happens_to_each_item_and_a_dry_run_writes_nothing(library: Library) -> None:
    await create(library, LEGS)
    known = await create(library, "known")
    rows = (
        f'{{"text":"{SIX}"}}\n{{"text":"new"}}\n{{"name":"{known.id}","text":"changed"}}\n{{"text":"new"}}\n'
        f'{{"text":"{LEGS}","sources":[{{"author":"x"}}]}}\n{{"text":""}}\n'
    )
    report = await bring(library, rows, dry_run=True)
    assert [(change.line, change.outcome) for change in report.changes] == [
        (1, ImportOutcome.FOR_REVIEW), (2, ImportOutcome.CREATED), (3, ImportOutcome.UPDATED), (5, ImportOutcome.MERGED),
    ]  # fmt: skip
    assert (report.created, report.for_review, report.unchanged, len(report.problems)) == (2, 1, 1, 1)
    update = report.changes[2]
    assert update.before is not None
    assert (update.before.text, update.entry.text, update.entry.revision) == ("known", "changed", 2)
    assert (await library.base("kb")).entry_count == 2
    real = await bring(library, rows, list_changes=True)
    assert [(c.line, c.outcome, c.entry.id) for c in real.changes] == [
        (c.line, c.outcome, c.entry.id) for c in report.changes
    ]
    assert (await bring(library, rows)).changes == []


async def test_the_list_of_changes_is_bounded_and_the_rest_counted(library: Library) -> None:
    rows = "".join(f'{{"text":"{i} {"x" * 8000}"}}\n' for i in range(400))
    report = await bring(library, rows, dry_run=True)
    assert report.created == 400
    assert 200 < len(report.changes) < 300
    assert len(report.changes) + report.changes_left_out == 400


async def test_items_with_ids_are_not_compared_with_each_other_but_with_what_was_there(library: Library) -> None:
    await create(library, LEGS)
    await create(library, SIX, reviewed=True)
    gone = await create(library, "The earth is flat.")
    await library.retire("kb", gone.id, "")
    other = await create(library, "The earth is round.")
    await library.update("kb", other.id, "", {"text": "The earth is flat."}, reviewed=True)
    await create(library, OTHER_WORDS)
    exported = "".join(map(write_jsonl, await library.entries("kb", "", 100, None)))
    await library.create_base("other", "", "")
    report = await bring(library, exported, "other")
    assert (report.created, report.for_review, report.problems) == (5, 1, [])
    again = "".join(map(write_jsonl, await library.entries("other", "", 100, None)))
    assert again == exported.replace("Bases/kb/", "Bases/other/")
    # Into a base that says otherwise they wait, unless a person has looked at the file.
    await library.create_base("third", "", "")
    await library.create("third", Creation(Entry("", "", "A spider has 10 legs.")))
    report = await bring(library, exported, "third", dry_run=True)
    assert report.for_review == 3
    report = await bring(library, exported, "third", reviewed=True)
    assert report.for_review == 1


async def test_items_without_ids_are_compared_with_each_other_too(library: Library) -> None:
    report = await bring(library, f'{{"text":"{LEGS}"}}\n{{"text":"{SIX}"}}\n')
    assert (report.created, report.for_review) == (2, 1)


async def test_why_an_entry_waits_survives_a_file_that_people_edit(library: Library) -> None:
    await create(library, LEGS)
    draft = await create(library, SIX)
    (item,) = _read(write_markdown(draft))
    assert item == dataclasses.replace(draft, kb="", revision=0, create_time=0, update_time=0)


def _read(text: str) -> list[Entry]:
    reader = MarkdownReader()
    return [item.entry for item in [*reader.feed(text.encode()), *reader.finish()] if item.entry is not None]


@pytest.fixture
async def near(tmp_path: Path, embedder: Any) -> AsyncIterator[Library]:
    """A library with vectors."""
    library = Library(EmbeddedStore(tmp_path / "near", compiled=False), embedder)
    await library.open()
    await library.create_base("kb", "", "")
    yield library
    await library.close()


async def test_vectors_find_what_words_alone_do_not(near: Library, library: Library) -> None:
    text, more = "A whale is a mammal that lives in the sea", "A whale is a mammal that lives in the blue sea"
    for one, expected in ((near, DRAFT), (library, ACTIVE)):
        await create(one, text)
        assert (await create(one, more)).status is expected
    both = [
        Creation(Entry("", "", t))
        for t in ("A cat is an animal with a soft coat", "A cat is an animal with a very soft coat")
    ]
    assert [r[0].status for r in await near.create_many("kb", both)] == [ACTIVE, DRAFT]  # type: ignore[index]


async def test_statistics_count_what_is_there(library: Library) -> None:
    await create(library, LEGS, tags=("a", "b"))
    await create(library, SIX, tags=("a",))
    base, figures = await library.statistics("kb", 1)
    assert (base.entry_count, base.active_count) == (2, 1)
    assert figures.by_status == {ACTIVE: 1, DRAFT: 1}
    assert figures.tags == [("a", 2)]
