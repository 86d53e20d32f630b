"""What writes mean: ids, merging, revisions, guards, counters, durability of refusals."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from services.common.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NesycdError,
    NotFound,
    ResourceExhausted,
)
from services.knowledge.entries import Entry, EntryKind, EntryStatus, Source, derive_id
from services.knowledge.exchange import write_jsonl
from services.knowledge.library import Creation, Feedback, Library
from services.knowledge.search import Query
from services.knowledge.stores.embedded import EmbeddedStore


def draft(text: str, **fields: object) -> Entry:
    return dataclasses.replace(Entry("", "", text), **fields)


async def create(library: Library, text: str, merge: bool = False, **fields: object) -> Entry:
    return (await library.create("kb", Creation(draft(text, **fields), merge=merge, author="Ada")))[0]


async def test_the_same_fact_has_the_same_id_and_becomes_another_source(library: Library) -> None:
    first = await create(library, "A spider has 8 legs.", sources=(Source("c1"),))
    assert first.id == derive_id(EntryKind.FACT, "a SPIDER  has 8 legs")
    with pytest.raises(AlreadyExists) as error:
        await create(library, "a spider has 8 legs")
    assert first.id in error.value.resource_name
    again, merged = await library.create(
        "kb", Creation(draft("a spider has 8 legs", sources=(Source("c2"),)), merge=True)
    )
    assert merged
    assert again.text == "A spider has 8 legs."
    assert again.sources == (Source("c1"), Source("c2"))
    assert again.revision == 2
    same, merged = await library.create(
        "kb", Creation(draft("a spider has 8 legs", sources=(Source("c2"),)), merge=True)
    )
    assert merged
    assert same == again
    assert (await create(library, "A spider has 8 legs", kind=EntryKind.SUMMARY)).id != first.id


async def test_a_fact_that_a_person_corrected_does_not_come_back(library: Library) -> None:
    wrong = await create(library, "A spider has 6 legs")
    right = await library.update("kb", wrong.id, "", {"text": "A spider has 8 legs"})
    again, merged = await library.create(
        "kb", Creation(draft("A spider has 6 legs", sources=(Source("c9"),)), merge=True)
    )
    assert merged
    assert again.text == right.text
    other, merged = await library.create("kb", Creation(draft("A spider has 8 legs"), merge=True))
    assert merged
    assert other.id == right.id


async def test_an_edit_of_an_old_revision_is_refused_and_names_both(library: Library) -> None:
    entry = await create(library, "one")
    changed = await library.update("kb", entry.id, entry.etag, {"text": "two"}, "Ada", "better")
    with pytest.raises(Aborted, match=r"at revision 2.*revision 1") as error:
        await library.update("kb", entry.id, entry.etag, {"text": "three"})
    assert error.value.reason == "ETAG_MISMATCH"
    assert error.value.metadata["current_etag"] == changed.etag
    assert await library.update("kb", entry.id, changed.etag, {"text": "two"}) == changed


async def test_writers_at_once_lose_no_update(library: Library) -> None:
    entry = await create(library, "start")

    async def writer(name: str) -> None:
        for i in range(5):
            while True:
                now = await library.entry("kb", entry.id)
                try:
                    await library.update("kb", entry.id, now.etag, {"tags": (*now.tags, f"{name}{i}")})
                    break
                except Aborted:
                    continue

    await asyncio.gather(*(writer(name) for name in "abcd"))
    now = await library.entry("kb", entry.id)
    assert len(now.tags) == 20
    assert now.revision == 21


async def test_a_write_goes_on_when_its_caller_goes_away(library: Library) -> None:
    task = asyncio.create_task(library.create("kb", Creation(draft("kept"))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.gather(*library._tasks)
    hits, _ = await library.search("kb", Query("kept"))
    assert len(hits) == 1


async def test_every_change_is_a_revision_and_any_can_come_back(library: Library) -> None:
    entry = await create(library, "one", tags=("a",))
    await library.update("kb", entry.id, "", {"text": "two", "tags": ()}, "Bea", "wrong")
    await library.retire("kb", entry.id, "", "Cyd", "not needed")
    back = await library.roll_back("kb", entry.id, 1, "", "Dan", "was right")
    assert (back.text, back.tags, back.status, back.revision) == ("one", ("a",), EntryStatus.ACTIVE, 4)
    revisions = await library.revisions("kb", entry.id, 10, 10)
    assert [(r.entry.revision, r.author, r.reason) for r in revisions] == [
        (4, "Dan", "was right"), (3, "Cyd", "not needed"), (2, "Bea", "wrong"), (1, "Ada", ""),
    ]  # fmt: skip
    with pytest.raises(NotFound, match="revisions/9"):
        await library.roll_back("kb", entry.id, 9, "")


async def test_only_active_entries_are_found_and_the_next_search_sees_a_change(library: Library) -> None:
    entry = await create(library, "eagle wings")

    async def found(text: str) -> list[str]:
        return [hit.entry.text for hit in (await library.search("kb", Query(text)))[0]]

    assert await found("eagle") == ["eagle wings"]
    await library.update("kb", entry.id, "", {"text": "lion legs"})
    assert await found("eagle") == []
    assert await found("lion") == ["lion legs"]
    await library.retire("kb", entry.id, "")
    assert await found("lion") == []
    base = await library.base("kb")
    assert (base.entry_count, base.active_count) == (1, 0)


async def test_a_successor_must_exist_and_goes_with_the_status(library: Library) -> None:
    old, new = await create(library, "old"), await create(library, "new")
    with pytest.raises(InvalidArgument, match="SUPERSEDED"):
        await library.update("kb", old.id, "", {"superseded_by": new.id})
    changes = {"status": EntryStatus.SUPERSEDED, "superseded_by": new.id}
    assert (await library.update("kb", old.id, "", changes)).superseded_by == new.id
    assert (await library.update("kb", old.id, "", {"status": EntryStatus.ACTIVE})).superseded_by == ""
    with pytest.raises(InvalidArgument, match="there is no"):
        await library.update("kb", old.id, "", {**changes, "superseded_by": derive_id(EntryKind.FACT, "?")})


async def test_a_draft_says_why_it_waits_until_it_is_decided(library: Library) -> None:
    entry = (await library.create("kb", Creation(draft("maybe", status=EntryStatus.DRAFT), reason="unsure")))[0]
    assert entry.review_reason == "unsure"
    assert (await library.update("kb", entry.id, "", {"status": EntryStatus.ACTIVE})).review_reason == ""


async def test_a_batch_has_a_result_for_each_and_sees_its_own_writes(library: Library) -> None:
    creations = [
        Creation(draft("one", sources=(Source("c1"),)), merge=True),
        Creation(draft("")),
        Creation(draft("One.", sources=(Source("c2"),)), merge=True),
        Creation(draft("two")),
    ]
    results = await library.create_many("kb", creations)
    assert isinstance(results[1], InvalidArgument)
    assert not isinstance(results[2], NesycdError)
    assert results[2][1]
    assert results[2][0].sources == (Source("c1"), Source("c2"))
    assert (await library.base("kb")).entry_count == 2


async def test_feedback_counts_once_a_request_and_leaves_the_etag(library: Library) -> None:
    entry = await create(library, "one")
    for _ in range(2):
        await library.feedback("kb", [Feedback(entry.id, 2, 1, 0), Feedback(entry.id, 1, 0, 1)], "request-1")
    now = await library.entry("kb", entry.id)
    assert (now.used, now.helpful, now.harmful) == (3, 1, 1)
    assert now.etag == entry.etag
    with pytest.raises(NotFound):
        await library.feedback("kb", [Feedback(entry.id, 1, 0, 0), Feedback(derive_id(EntryKind.FACT, "x"), 1, 0, 0)])
    with pytest.raises(InvalidArgument):
        await library.feedback("kb", [Feedback(entry.id, -1, 0, 0)])
    assert (await library.entry("kb", entry.id)).used == 3


async def test_bases_are_made_once_and_removed_with_force_only(library: Library) -> None:
    made = await library.create_base("b2", "t", "", "r1")
    assert await library.create_base("b2", "t", "", "r1") == made
    with pytest.raises(AlreadyExists):
        await library.create_base("b2", "t", "", "r2")
    changed = await library.update_base("b2", made.etag, {"title": "u"})
    with pytest.raises(Aborted):
        await library.update_base("b2", made.etag, {"title": "v"})
    await library.create("b2", Creation(draft("x")))
    with pytest.raises(FailedPrecondition):
        await library.delete_base("b2", "", force=False)
    await library.delete_base("b2", "", force=True)
    with pytest.raises(NotFound):
        await library.search("b2", Query("x"))
    again = await library.create_base("b2", "t", "")
    assert again.entry_count == 0
    assert again.version > changed.version


async def test_everything_is_there_after_a_restart_and_the_export_is_the_same(tmp_path: Path) -> None:
    async def build(folder: Path) -> tuple[Library, list[str]]:
        library = Library(EmbeddedStore(folder, compiled=False))
        await library.open()
        await library.create_base("kb", "", "")
        entries = [await create(library, f"fact {i} of the eagle", tags=(f"t{i % 3}",)) for i in range(30)]
        await library.update("kb", entries[3].id, "", {"text": "edited eagle"})
        await library.feedback("kb", [Feedback(entries[4].id, 5, 1, 0)])
        return library, await exported(library)

    async def exported(library: Library) -> list[str]:
        return [write_jsonl(entry) for entry in await library.entries("kb", "", 1000, None)]

    one, first = await build(tmp_path / "1")
    two, second = await build(tmp_path / "2")
    assert first == second
    query = Query("edited eagle 7", top_k=10)
    before = await one.search("kb", query)
    assert [h.entry.id for h in before[0]] == [h.entry.id for h in (await two.search("kb", query))[0]]
    await one.close()
    await two.close()
    one = Library(EmbeddedStore(tmp_path / "1", compiled=False))
    await one.open()
    assert await exported(one) == first
    assert await one.search("kb", query) == before
    await one.close()


async def test_one_process_owns_the_folder(tmp_path: Path, library: Library) -> None:
    other = EmbeddedStore(tmp_path / "data", compiled=False)
    with pytest.raises(FailedPrecondition) as error:
        await other.open()
    assert error.value.reason == "DATA_FOLDER_IN_USE"
    await other.close()


async def test_a_full_disk_is_said_and_leaves_nothing_half_written(library: Library) -> None:
    store = library._store
    assert isinstance(store, EmbeddedStore)
    await create(library, "before")
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(ResourceExhausted) as error:
        await library.create_many("kb", [Creation(draft(f"{i} " + "x" * 4000)) for i in range(20)])
    assert error.value.reason == "DISK_FULL"
    assert (await library.base("kb")).entry_count == 1
    store._db.execute("PRAGMA max_page_count=1000000")
    await create(library, "after")
    assert (await library.base("kb")).entry_count == 2


async def test_watching_tells_every_entry_that_changed_and_ends_with_its_base(library: Library) -> None:
    seen: list[tuple[int, str]] = []

    async def watch() -> None:
        async for version, entry in library.changes("kb", None):
            seen.append((version, entry.text))

    task = asyncio.create_task(watch())
    begins = 0
    while not seen:  # nobody says when a watch has begun
        begins += 1
        await create(library, f"begin w{begins}")
        await asyncio.sleep(0.02)
    entry = await create(library, "one")
    await library.update_base("kb", "", {"title": "other"})
    await library.update("kb", entry.id, "", {"text": "two"})
    await create(library, "three")
    async with asyncio.timeout(60):
        while seen[-1][1] != "three":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    # One that changes twice before anybody looks is told once, as it is then.
    assert [text for _, text in seen if text != "one" and not text.startswith("begin")] == ["two", "three"]
    assert [entry.text for _, entry in await library._store.changes("kb", seen[-2][0], 10)] == ["three"]
    await library.delete_base("kb", "", force=True)
    with pytest.raises(NotFound):
        await asyncio.wait_for(task, 60)


async def test_a_watcher_that_goes_away_leaves_nothing_running(library: Library) -> None:
    async def watch() -> None:
        async for _ in library.changes("kb", None):
            pass

    before = asyncio.all_tasks()
    task = asyncio.create_task(watch())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def test_a_damaged_file_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "knowledge.sqlite3").write_bytes(b"not a database, but long enough to look like one" * 100)
    store = EmbeddedStore(tmp_path, compiled=False)
    with pytest.raises(DataLoss, match="damaged"):
        await store.open()
    await store.close()
