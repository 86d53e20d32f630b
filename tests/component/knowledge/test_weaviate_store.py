"""The store over a real Weaviate: what a store owes, and what happens when the server or a process dies."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from weaviate.classes.config import DataType, Property

from services.common.errors import FailedPrecondition, NesycdError, NotFound, Unavailable
from services.knowledge.entries import Entry, EntryKind, EntryStatus, KnowledgeBase, Source, derive_id
from services.knowledge.filters import parse
from services.knowledge.search import Fusion, Query, SearchMode
from services.knowledge.stores import Write
from services.knowledge.stores.weaviate import WeaviateStore, journal, schema
from services.knowledge.stores.weaviate.connection import Connection
from services.knowledge.stores.weaviate.journal import Record
from services.knowledge.stores.weaviate.objects import entry_thing
from tests.processes import free_port, valkey
from tests.weaviate import WeaviateServer


def made(server: WeaviateServer, **settings) -> WeaviateStore:
    redis_url = settings.pop("redis_url", "")
    ours = {"grpc_port": server.grpc_port, "api_key": server.api_key, "start_timeout": 20.0, **settings}
    return WeaviateStore(Connection(server.url, **ours), redis_url)


def entry(kb: str, text: str, **fields) -> Entry:
    fields = {"revision": 1, "create_time": 1, "update_time": 1, **fields}
    return Entry(kb, derive_id(EntryKind.FACT, text), text, **fields)


async def new_base(store: WeaviateStore, **fields) -> str:
    kb = f"w{uuid4().hex[:12]}"
    async with store.writing(kb):
        await store.put_base(KnowledgeBase(kb, revision=1, **fields))
    return kb


async def write(store: WeaviateStore, kb: str, *entries: Entry, **how) -> None:
    async with store.writing(kb):
        await store.commit(kb, [Write(one, "author", "reason") for one in entries], **how)


@pytest.fixture
async def store(weaviate_server: WeaviateServer) -> AsyncIterator[WeaviateStore]:
    opened = made(weaviate_server)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateServer]:
    """A server with an API key that tests may kill."""
    server = WeaviateServer(tmp_path_factory.mktemp("own"), api_key="the-right-key")
    try:
        yield server.start()
    finally:
        server.kill()


async def test_what_was_written_is_seen_by_the_next_read_of_every_kind(store: WeaviateStore) -> None:
    kb = await new_base(store)
    one = entry(kb, "Otters hold hands", tags=("animals",), sources=(Source(case_id="c1"),))
    other = entry(kb, "Lava is hot", status=EntryStatus.DRAFT)
    await write(store, kb, one, other)
    assert await store.get(kb, [one.id, other.id, str(uuid4())]) == {one.id: one, other.id: other}
    assert await store.counts(kb) == (2, 1)
    assert await store.by_facts(kb, [one.fact_key, "none"]) == {one.fact_key: one}
    assert {key: [one] for key in one.claim_keys} == await store.by_claims(kb, one.claim_keys)
    hits, version = await store.search(kb, Query("otters"), None)
    assert [hit.entry for hit in hits] == [one]
    assert version == (await store.base(kb)).version
    assert (await store.search(kb, Query("lava"), None))[0] == []
    assert (await store.search(kb, Query("otters", exclude=frozenset([one.id])), None))[0] == []
    assert (await store.search(kb, Query("otters", exclude_sole_source_case="c1"), None))[0] == []
    assert [e for _, e in await store.changes(kb, 0, 10)] == [one, other]


async def test_a_change_keeps_the_revision_before_and_the_vector(store: WeaviateStore) -> None:
    kb = await new_base(store, embedder="letters", dimension=3)
    first = entry(kb, "Otters hold hands")
    vector = np.asarray([1, 0, 0], np.float32)
    async with store.writing(kb):
        await store.commit(kb, [Write(first, "ann", "seen", vector=vector)])
        second = dataclasses.replace(first, revision=2, tags=("x",), update_time=2)
        await store.commit(kb, [Write(second, "bob", "tagged", keep_vector=True)])
        counted = dataclasses.replace(second, used=3)
        await store.commit(kb, [Write(counted, is_revision=False, keep_vector=True)], "request")
    found = await store.revisions(kb, first.id, 2**62, 10)
    assert [(r.entry.revision, r.author, r.reason, r.time) for r in found] == [
        (2, "bob", "tagged", 2),
        (1, "ann", "seen", 1),
    ]
    assert [r.entry.revision for r in await store.revisions(kb, first.id, 2, 10)] == [1]
    assert [r.entry.revision for r in await store.audit(kb, [first.id], 2)] == [2]
    assert await store.seen(kb, "request")
    assert not await store.seen(kb, "another")
    (hit,), _ = await store.search(kb, Query("x", SearchMode.VECTOR), vector)
    assert hit.entry == counted
    assert hit.score == pytest.approx(1.0)
    assert await store.without_vector_count(kb, "letters", 3) == 0


async def test_vectors_of_another_embedder_are_filled_beside_and_switched_to_at_once(store: WeaviateStore) -> None:
    kb = await new_base(store, embedder="old", dimension=3)
    some = [entry(kb, f"fact {number}") for number in range(5)]
    async with store.writing(kb):
        await store.commit(kb, [Write(e, vector=np.ones(3, np.float32)) for e in some])
        missing = await store.without_vector(kb, "new", 5, 3)
        assert len(missing) == 3
        stale = dataclasses.replace(missing[0], index_text="as it was long ago")
        pairs = [(e, np.ones(5, np.float32)) for e in [stale, *missing[1:]]]
        await store.put_vectors(kb, "new", 5, pairs)
        assert await store.without_vector_count(kb, "new", 5) == 3
        assert len((await store.search(kb, Query("x", SearchMode.VECTOR, top_k=9), np.ones(3, np.float32)))[0]) == 5
        await store.use_embedder(kb, "new", 5)
    hits, _ = await store.search(kb, Query("x", SearchMode.VECTOR, top_k=9), np.ones(5, np.float32))
    assert sorted(hit.entry.id for hit in hits) == sorted(e.id for e in missing[1:])


async def test_vectors_of_another_dimension_under_the_same_name_are_another_embedder_s(store: WeaviateStore) -> None:
    kb = await new_base(store, embedder="letters", dimension=3)
    some = [entry(kb, f"fact {number}") for number in range(3)]
    async with store.writing(kb):
        await store.commit(kb, [Write(e, vector=np.ones(3, np.float32)) for e in some])
        assert await store.without_vector_count(kb, "letters", 3) == 0
        assert await store.without_vector_count(kb, "letters", 4) == 3
        await store.put_vectors(kb, "letters", 4, [(e, np.ones(4, np.float32)) for e in some])
        await store.use_embedder(kb, "letters", 4)
    hits, _ = await store.search(kb, Query("x", SearchMode.VECTOR, top_k=9), np.ones(4, np.float32))
    assert sorted(hit.entry.id for hit in hits) == sorted(e.id for e in some)


@pytest.mark.parametrize(
    "text",
    [
        "status = ACTIVE",
        "kind != FACT",
        "tags:a",
        "tags:*",
        "tags != a",
        'tags:" a"',
        "source.case_id = c1",
        "source.run:*",
        'source.run = ""',
        "NOT source.case_id = c0 AND (tags:b OR counters.used >= 3)",
        "counters.used != 2 counters.used < 4",
        "counters.harmful > 999999999999999999",
    ],
)
async def test_a_filter_means_on_the_server_what_it_means_here(store: WeaviateStore, text: str) -> None:
    kb = await new_base(store)
    some = [
        entry(
            kb,
            f"fact {number}",
            tags=("a", "b")[: number % 3],
            used=number % 5,
            sources=(Source(case_id=f"c{number % 2}"), Source(run="r"))[: number % 3],
            status=EntryStatus(1 + number % 4),
        )
        for number in range(40)
    ]
    await write(store, kb, *some)
    node = parse(text)
    assert node is not None
    found: list[Entry] = []
    while page := await store.entries(kb, found[-1].id if found else "", 7, node):
        found += page
    assert found == sorted((e for e in some if node.matches(e)), key=lambda e: e.id)


async def test_pages_and_changes_list_each_entry_once_in_order(store: WeaviateStore) -> None:
    kb = await new_base(store)
    some = [entry(kb, f"fact {number}") for number in range(900)]
    # Ids that people choose: one after the other, and the first one that there can be.
    some += [dataclasses.replace(some[0], id=f"00000000-0000-0000-0000-{n:012d}", text=f"own {n}") for n in range(450)]
    await write(store, kb, *some, atomic=False)
    for where in (None, parse("status = ACTIVE")):
        found: list[Entry] = []
        while page := await store.entries(kb, found[-1].id if found else "", 100, where):
            found += page
        assert [e.id for e in found] == sorted(e.id for e in some)
    changes: list[tuple[int, Entry]] = []
    while more := await store.changes(kb, changes[-1][0] if changes else 0, 170):
        changes += more
    assert [e.id for _, e in changes] == [e.id for e in some]


@pytest.mark.parametrize("fusion", list(Fusion))
async def test_a_hybrid_search_fuses_as_the_embedded_store_does(store: WeaviateStore, fusion: Fusion) -> None:
    kb = await new_base(store, embedder="letters", dimension=3)
    texts = ["red red apple", "red pear", "green pear tree", "yellow corn"]
    vectors = np.asarray([[1, 0, 0], [0.8, 0.6, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    async with store.writing(kb):
        await store.commit(kb, [Write(entry(kb, t), vector=v) for t, v in zip(texts, vectors, strict=True)])
    query = Query("red pear", SearchMode.HYBRID, top_k=4, fusion=fusion, explain=True)
    hits, _ = await store.search(kb, query, np.asarray([0, 1, 0], np.float32))
    assert [hit.entry.text for hit in hits[:2]] == ["red pear", "green pear tree"]
    if fusion is Fusion.RANK:
        assert hits[0].score == pytest.approx(0.5 / 60 + 0.5 / 61, rel=1e-5)
    assert all(hit.explanation.startswith("hybrid = ") for hit in hits)


async def test_ties_are_broken_by_id(store: WeaviateStore) -> None:
    kb = await new_base(store)
    some = [entry(kb, f"same words {number:03d}", index_text="same words") for number in range(60)]
    await write(store, kb, *some)
    hits, _ = await store.search(kb, Query("same", top_k=3), None)
    assert [hit.entry.id for hit in hits] == sorted(e.id for e in some)[:3]


async def test_a_base_that_was_removed_and_made_again_is_empty_and_its_versions_go_on(store: WeaviateStore) -> None:
    kb = await new_base(store)
    await write(store, kb, entry(kb, "fact"), request_id="request")
    before = (await store.base(kb)).version
    async with store.writing(kb):
        await store.delete_base(kb)
        for call in (store.base(kb), store.search(kb, Query("x"), None), store.entries(kb, "", 5), store.counts(kb)):
            with pytest.raises(NotFound):
                await call
        await store.put_base(KnowledgeBase(kb, revision=1), "made")
    assert await store.counts(kb) == (0, 0)
    assert (await store.base(kb)).version > before
    assert not await store.seen(kb, "request")
    assert await store.seen("", "made")


async def test_figures_count_what_is_there(store: WeaviateStore) -> None:
    kb = await new_base(store)
    some = [entry(kb, f"fact {n}", tags=("a", "b")[: n % 3], used=n, helpful=int(n == 4)) for n in range(6)]
    await write(store, kb, *some)
    figures = await store.statistics(kb, 2)
    assert figures.by_status == {EntryStatus.ACTIVE: 6}
    assert figures.by_kind == {EntryKind.FACT: 6}
    assert figures.tags == [("a", 4), ("b", 2)]
    assert (figures.used, figures.helpful, figures.harmful) == (15, 1, 0)
    assert [e.used for e in figures.most_used] == [5, 4]
    assert figures.most_harmful == []
    for revision in (2, 3):
        some = [
            dataclasses.replace(e, revision=revision, tags=("b", "c")[: n % 3], status=EntryStatus(2 + n % 2), used=1)
            for n, e in enumerate(some)
        ]
        await write(store, kb, *some)
    figures = await store.statistics(kb, 2)
    assert figures.by_status == {EntryStatus.ACTIVE: 3, EntryStatus.SUPERSEDED: 3}
    assert (figures.tags, figures.used) == ([("b", 4), ("c", 2)], 6), "what was is not counted"
    kb = await new_base(store)
    assert (await store.statistics(kb, 2)).tags == []
    odd = ('a "b"', "R&D <x>", "b\\c", "é🦉")
    await write(store, kb, entry(kb, "fact", tags=odd))
    assert [tag for tag, _ in (await store.statistics(kb, 9)).tags] == sorted(odd)


async def test_a_commit_that_was_written_down_is_finished_by_the_next_process(store: WeaviateStore) -> None:
    kb = await new_base(store)
    await write(store, kb, entry(kb, "changed since"))
    newest = (await store.base(kb)).version
    record = Record(
        [
            entry_thing(entry(kb, "written down"), newest + 1, "a", "b", {"v_none": np.ones(2, np.float32)}),
            entry_thing(entry(kb, "changed since", title="old"), newest - 1, "a", "b", {}),
        ]
    )
    record.entries[0].vectors.clear()
    whole = journal.pieces(kb, "1-whole", record)
    lacking = journal.pieces(kb, "2-lacking", Record([entry_thing(entry(kb, "never"), newest + 2, "a", "b", {})]))
    lacking[-1].properties["parts"] = 2
    await store._put(store._plain(schema.COMMITS), [*whole, *lacking])
    second = WeaviateStore(Connection(store._server.url, grpc_port=store._server._grpc_port))
    await second.open()
    try:
        found = {e.text: e for e in await second.entries(kb, "", 10)}
        assert sorted(found) == ["changed since", "written down"]
        assert found["changed since"].title == ""
        assert (await second.search(kb, Query("written"), None))[0]
        left = await second._plain(schema.COMMITS).query.fetch_objects(filters=journal.is_of(kb), limit=10)
        assert left.objects == []
    finally:
        await second.close()


async def test_a_watcher_of_one_process_sees_the_writes_of_another(
    store: WeaviateStore, weaviate_server: WeaviateServer
) -> None:
    kb = await new_base(store)
    other = made(weaviate_server)
    await other.open()
    try:
        version = (await other.base(kb)).version
        waiting = asyncio.create_task(other.wait_for_change(kb, version))
        await asyncio.sleep(0.1)
        await write(store, kb, entry(kb, "fact"))
        await asyncio.wait_for(waiting, 60)
        assert [e.text for _, e in await other.changes(kb, version, 10)] == ["fact"]
    finally:
        await other.close()


async def test_writers_of_two_processes_take_turns_where_there_is_redis(
    weaviate_server: WeaviateServer, tmp_path: Path
) -> None:
    redis = valkey(tmp_path).start()
    stores = [made(weaviate_server, redis_url=f"redis://{redis.address}/0") for _ in range(2)]
    try:
        await asyncio.gather(*(one.open() for one in stores))
        kb = await new_base(stores[0])
        counted = entry(kb, "fact")
        await write(stores[0], kb, counted)

        async def count(store: WeaviateStore) -> None:
            for _ in range(10):
                async with store.writing(kb):
                    now = (await store.get(kb, [counted.id]))[counted.id]
                    changed = dataclasses.replace(now, used=now.used + 1)
                    await store.commit(kb, [Write(changed, is_revision=False, keep_vector=True)])

        await asyncio.gather(*(count(one) for one in stores for _ in range(2)))
        assert (await stores[1].get(kb, [counted.id]))[counted.id].used == 40
        redis.kill()
        with pytest.raises(Unavailable) as caught:
            await count(stores[0])
        assert (caught.value.reason, caught.value.retry_after) == ("STORE_UNAVAILABLE", 1.0)
        assert (await stores[0].search(kb, Query("fact"), None))[0], "searches need no turn"
    finally:
        for one in stores:
            await one.close()
        redis.kill()


async def test_a_wrong_key_is_told_with_the_setting_to_correct(own_server: WeaviateServer) -> None:
    for key in ("", "wrong"):
        store = made(own_server, api_key=key)
        with pytest.raises(FailedPrecondition, match="NESYCD_KNOWLEDGE_WEAVIATE_API_KEY") as caught:
            await store.open()
        assert caught.value.reason == "STORE_ACCESS_DENIED"
        assert "wrong" not in caught.value.message


async def test_a_collection_of_somebody_else_is_told(own_server: WeaviateServer) -> None:
    connection = Connection(own_server.url, grpc_port=own_server.grpc_port, api_key=own_server.api_key)
    await connection.open()
    try:
        await connection.client.collections.delete(schema.COMMITS)
        await connection.client.collections.create(
            schema.COMMITS, properties=[Property(name="other", data_type=DataType.TEXT)]
        )
        store = made(own_server)
        with pytest.raises(FailedPrecondition, match=schema.COMMITS):
            await store.open()
        await store.close()
    finally:
        await connection.client.collections.delete(schema.COMMITS)
        await connection.close()


async def test_a_server_that_never_comes_is_told_in_time() -> None:
    store = WeaviateStore(Connection(f"http://127.0.0.1:{free_port()}", grpc_port=free_port(), start_timeout=1.0))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="both ports") as caught:
        await store.open()
    assert time.monotonic() - began < 30, "one second, and not the sixty that are usual"
    assert caught.value.reason == "STORE_UNAVAILABLE"


async def test_a_killed_server_loses_nothing_and_is_back_without_a_restart_of_ours(own_server: WeaviateServer) -> None:
    store = made(own_server)
    await store.open()
    try:
        kb = await new_base(store)
        acknowledged: dict[str, Entry] = {}
        batches: list[list[Entry]] = []

        async def writer(number: int) -> None:
            for i in range(10_000):
                some = [entry(kb, f"w{number}x{i}y{j} fact") for j in range(1 if i % 2 else 15)]
                batches.append(some)
                try:
                    await write(store, kb, *some)
                except NesycdError as error:
                    assert isinstance(error, Unavailable), error
                    assert error.retry_after
                    return
                acknowledged.update((e.id, e) for e in some)

        writers = [asyncio.create_task(writer(number)) for number in range(3)]
        await asyncio.sleep(1.0)
        own_server.kill()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await store.search(kb, Query("fact"), None)
        assert time.monotonic() - began < 8, "it is looked for before the 10 s of a call are over"
        await asyncio.gather(*writers)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await store.search(kb, Query("fact"), None)
        assert time.monotonic() - began < 8, "while it is down, calls fail at once"
        await asyncio.to_thread(own_server.start)
        async with asyncio.timeout(60):
            while True:
                try:
                    await store.search(kb, Query("fact"), None)
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)
        found = await store.get(kb, [e.id for some in batches for e in some])
        assert acknowledged.items() <= found.items()
        for some in batches:
            assert len({e.id in found for e in some}) == 1, "a commit is there whole, or not at all"
        for some in batches[-3:]:
            for one in some[:2]:
                hits, _ = await store.search(kb, Query(one.text.split()[0]), None)
                assert [hit.entry.id for hit in hits] == [one.id] * (one.id in found)
        await write(store, kb, entry(kb, "after all"))
    finally:
        await store.close()
