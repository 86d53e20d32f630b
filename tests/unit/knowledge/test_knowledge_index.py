"""Rankings equal a naive reference, after any history of writes."""

from __future__ import annotations

import dataclasses
import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.knowledge.entries import Entry, EntryStatus, Source
from services.knowledge.filters import parse
from services.knowledge.search import Query, SearchMode, words
from services.knowledge.stores.cosine import CosineIndex
from services.knowledge.stores.index import Change, Index
from services.knowledge.stores.kernels import NUMPY, compiled
from services.knowledge.stores.locks import SharedLock

WORDS = st.sampled_from("eagle wings lion legs spider eight two four has the".split())
TEXT = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)
COMPILED = compiled()


def naive_bm25(texts: list[str], query: str) -> list[float]:
    """Lucene's formula, word by word."""
    documents = [words(text) for text in texts]
    average = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in words(query)[:512]:
            df = sum(word in other for other in documents)
            tf = document.count(word)
            if tf:
                idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
                score += idf * tf / (tf + 1.2 * (1 - 0.75 + 0.75 * len(document) / average))
        scores.append(score)
    return scores


def put(index: Index, entries: list[Entry], version: int = 1) -> None:
    index.put([Change(entry, (entry.fact_key, *entry.claim_keys), version) for entry in entries])


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=12), st.lists(st.tuples(st.integers(0, 11), TEXT), max_size=8), TEXT)
def test_bm25_equals_the_naive_reference_after_any_edits(
    texts: list[str], edits: list[tuple[int, str]], query: str
) -> None:
    for kernels in (NUMPY, COMPILED):
        index = Index(kernels)
        put(index, [Entry("kb", f"{i:03}", text) for i, text in enumerate(texts)])
        now = list(texts)
        for at, text in edits:
            now[at % len(now)] = text
            put(index, [Entry("kb", f"{at % len(now):03}", text)])
        expected = naive_bm25(now, query)
        hits, _ = index.search(Query(query, top_k=100, explain=True), None)
        found = {hit.entry.id: hit.score for hit in hits}
        assert found == pytest.approx({f"{i:03}": score for i, score in enumerate(expected) if score > 0})
        ranks = [(-round(hit.score, 9), hit.entry.id) for hit in hits]
        assert ranks == sorted(ranks)
        for hit in hits:
            parts = [float(part.split()[0]) for part in hit.explanation.removeprefix("bm25 = ").split(" + ")]
            assert sum(parts) == pytest.approx(hit.score, rel=1e-2)


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT, min_size=3, max_size=40), TEXT, st.integers(1, 5), st.data())
def test_filter_and_exclusions_leave_the_ranking_of_the_others_as_it_is(
    texts: list[str], query: str, top_k: int, data: st.DataObject
) -> None:
    index = Index(data.draw(st.sampled_from([NUMPY, COMPILED])))
    statuses = data.draw(st.lists(st.sampled_from(EntryStatus), min_size=len(texts), max_size=len(texts)))
    entries = [
        Entry(
            "kb", f"{i:03}", text, status=status, tags=("even",) if i % 2 == 0 else (), sources=(Source(f"c{i % 3}"),)
        )
        for i, (text, status) in enumerate(zip(texts, statuses, strict=True))
    ]
    put(index, entries)
    excluded = frozenset(data.draw(st.sets(st.sampled_from([entry.id for entry in entries]))))
    everything = Query(query, top_k=100, filter=parse("status:ACTIVE OR NOT status:ACTIVE"))
    ranking = [hit.entry for hit in index.search(everything, None)[0]]
    expected = [
        entry.id
        for entry in ranking
        if entry.status is EntryStatus.ACTIVE
        and "even" in entry.tags
        and entry.sources[0].case_id != "c1"
        and entry.id not in excluded
    ]
    wanted = Query(query, top_k=top_k, filter=parse("tags:even"), exclude=excluded, exclude_sole_source_case="c1")
    for _ in range(3):  # what the filter refused is remembered
        assert [hit.entry.id for hit in index.search(wanted, None)[0]] == expected[:top_k]
    # ... and forgotten when the entry changes.
    changed = dataclasses.replace(entries[1], text=query, status=EntryStatus.ACTIVE, tags=("even",), sources=())
    put(index, [changed], version=2)
    hits, _ = index.search(dataclasses.replace(wanted, top_k=100, exclude=frozenset()), None)
    assert (changed.id in [hit.entry.id for hit in hits]) == (changed.status is EntryStatus.ACTIVE)


def test_words_said_twice_in_the_query_count_twice_and_only_512_words_count() -> None:
    index = Index()
    put(index, [Entry("kb", "a", "eagle lion"), Entry("kb", "b", "lion spider")])
    once = index.search(Query("eagle"), None)[0][0].score
    assert index.search(Query("eagle eagle"), None)[0][0].score == pytest.approx(2 * once)
    assert index.search(Query("lion " * 512 + "spider"), None)[0] == index.search(Query("lion " * 512), None)[0]


def test_only_the_sole_source_is_excluded() -> None:
    index = Index()
    sources = {"one": ("x",), "same": ("x", "x"), "two": ("x", "y"), "none": ()}
    put(
        index,
        [
            Entry("kb", k, "eagle", sources=tuple(Source(c, run=f"runs/{i}") for i, c in enumerate(v)))
            for k, v in sources.items()
        ],
    )
    hits, _ = index.search(Query("eagle", top_k=9, exclude_sole_source_case="x"), None)
    assert [hit.entry.id for hit in hits] == ["none", "two"]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 12), st.integers(1, 20), st.sampled_from([NUMPY, COMPILED]), st.randoms())
def test_cosines_equal_the_naive_reference_after_any_edits(
    size: int, dimension: int, top_k: int, kernels: object, random: object
) -> None:
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    index = Index(kernels)  # type: ignore[arg-type]
    # Few different numbers, so that there are many ties.
    vectors = rng.integers(-2, 3, (size, dimension)).astype(np.float32) + np.float32(0.01)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    given_vectors = {f"{i:03}": vectors[i] for i in range(size) if rng.random() < 0.8}
    active = {f"{i:03}" for i in range(size) if rng.random() < 0.7}
    for i in range(size):
        key = f"{i:03}"
        status = EntryStatus.ACTIVE if key in active else EntryStatus.RETIRED
        index.put([Change(Entry("kb", key, "text", status=status, tags=(str(i % 2),)), (), 1, given_vectors.get(key))])
    for i in rng.integers(0, size, 5):
        key = f"{i:03}"
        if key in given_vectors:
            given_vectors[key] = vectors[rng.integers(0, size)]
            index.put_vectors({key: given_vectors[key]})
    query = vectors[rng.integers(0, size)]
    cosines = {
        key: round(float(vector.astype(np.float64) @ query.astype(np.float64)), 6)
        for key, vector in given_vectors.items()
        if key in active and int(key) % 2 == 0
    }
    expected = sorted(cosines.items(), key=lambda item: (-item[1], item[0]))[:top_k]
    for _ in range(2):
        hits, _ = index.search(Query("x", SearchMode.VECTOR, top_k=top_k, filter=parse("tags:0")), query)
        assert [hit.entry.id for hit in hits] == [key for key, _ in expected]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1.1e-6)


def test_rough_cosines_spare_most_vectors() -> None:
    rng = np.random.default_rng(0)
    block = rng.standard_normal((5000, 64)).astype(np.float32)
    block /= np.linalg.norm(block, axis=1, keepdims=True)
    vectors = CosineIndex(COMPILED)
    vectors.put(list(range(5000)), list(block))
    every = np.ones(5000, np.bool_)
    scores = vectors.candidates(block[7], every, ~every, 10)
    looked_at = np.flatnonzero(scores > -np.inf)
    assert 10 <= len(looked_at) < 500
    exact = block @ block[7]
    assert set(np.argsort(-exact)[:10]) <= set(looked_at)


def test_a_change_of_status_counters_or_sources_leaves_the_vector() -> None:
    index = Index()
    vector = np.array([1, 0], np.float32)
    index.put([Change(Entry("kb", "a", "eagle"), (), 1, vector)])
    index.put([Change(Entry("kb", "a", "eagle", used=3), (), 2, keep_vector=True)])
    query = Query("x", SearchMode.VECTOR)
    assert index.search(query, vector)[0][0].entry.used == 3
    index.put([Change(Entry("kb", "a", "lion"), (), 3)])
    assert index.search(query, vector) == ([], 3)


def test_readers_share_the_lock_and_a_writer_has_it_alone() -> None:
    lock = SharedLock()
    values = [0, 0]
    torn = []

    def write() -> None:
        for _ in range(200):
            with lock.writing():
                values[0] += 1
                time.sleep(0)
                values[1] += 1

    def read() -> None:
        for _ in range(500):
            with lock.reading():
                if values[0] != values[1]:
                    torn.append(tuple(values))

    threads = [threading.Thread(target=work) for work in (write, write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert values == [400, 400]
    assert torn == []
    with lock.reading():
        assert lock.try_read()
        lock.end_read()
    with lock.writing():
        assert not lock.try_read()
