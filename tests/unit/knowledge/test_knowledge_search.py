"""Rankings equal a naive reference, after any history of writes."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import FailedPrecondition
from services.knowledge.embedder import Embedder
from services.knowledge.entries import Entry, EntryStatus, Source
from services.knowledge.filters import parse
from services.knowledge.library import Creation, Library
from services.knowledge.search import Fusion, Query, SearchMode, first_words, fuse, words
from services.knowledge.stores.bm25 import Bm25, load_kernel
from services.knowledge.stores.embedded import EmbeddedStore
from services.knowledge.stores.index import Change, Index

WORDS = st.sampled_from("eagle wings lion legs spider eight two four has the".split())
TEXT = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)
KERNEL = load_kernel()


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
    for kernel in (None, KERNEL):
        index = Index(lambda kernel=kernel: Bm25(kernel) if kernel else Bm25())  # type: ignore[misc]
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
    index = Index(Bm25)
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
    assert [hit.entry.id for hit in index.search(wanted, None)[0]] == expected[:top_k]


def test_words_said_twice_in_the_query_count_twice_and_only_512_words_count() -> None:
    index = Index(Bm25)
    put(index, [Entry("kb", "a", "eagle lion"), Entry("kb", "b", "lion spider")])
    once = index.search(Query("eagle"), None)[0][0].score
    assert index.search(Query("eagle eagle"), None)[0][0].score == pytest.approx(2 * once)
    assert index.search(Query("lion " * 512 + "spider"), None)[0] == index.search(Query("lion " * 512), None)[0]
    assert first_words("a b, c d", 2) == "a b, "
    assert words("Don't_stop Élan 3.5") == ["don", "t", "stop", "élan", "3", "5"]


def test_only_the_sole_source_is_excluded() -> None:
    index = Index(Bm25)
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


def test_fusion_scales_scores_or_takes_ranks() -> None:
    lexical, vector = {"a": 4.0, "b": 2.0, "c": 1.0}, {"b": 0.9, "d": 0.1}
    relative = fuse(lexical, vector, 0.5, Fusion.RELATIVE_SCORE)
    assert {key: score for key, (score, _) in relative.items()} == pytest.approx(
        {"b": 0.5 + 0.5 / 3, "a": 0.5, "c": 0, "d": 0}
    )
    assert list(relative) == ["b", "a", "c", "d"]
    ranks = fuse(lexical, vector, 0.25, Fusion.RANK)
    assert ranks["b"][0] == pytest.approx(0.75 / 62 + 0.25 / 61)
    assert fuse(lexical, vector, 0.0, Fusion.RANK).keys() == lexical.keys()


async def test_vectors_follow_every_edit_and_are_there_after_a_restart(tmp_path: Path, embedder: Embedder) -> None:
    library = Library(EmbeddedStore(tmp_path, compiled=False), embedder)
    await library.open()
    await library.create_base("kb", "", "")
    entries = [
        (await library.create("kb", Creation(Entry("", "", text))))[0] for text in ("aaaa b", "cccc d", "eeee f")
    ]
    await library.update("kb", entries[1].id, "", {"text": "zzzz y"})

    async def check(one: Library) -> None:
        query = Query("zz", SearchMode.VECTOR, top_k=9, explain=True)
        hits, _ = await one.search("kb", query)
        matrix = np.array(await embedder.embed(["aaaa b", "zzzz y", "eeee f"]))
        cosines = matrix @ await embedder.embed_query("zz")
        found = {hit.entry.id: hit.score for hit in hits}
        assert found == pytest.approx(dict(zip([e.id for e in entries], cosines.tolist(), strict=True)), abs=1e-5)
        hybrid, _ = await one.search("kb", Query("zzzz", SearchMode.AUTO, explain=True))
        assert hybrid[0].entry.id == entries[1].id
        assert hybrid[0].score == pytest.approx(1.0)

    await check(library)
    await library.close()
    library = Library(EmbeddedStore(tmp_path, compiled=False), embedder)
    await library.open()
    await check(library)
    await library.close()
    # Without an embedder searches go by words, and a text that changes loses its vector.
    library = Library(EmbeddedStore(tmp_path, compiled=False))
    await library.open()
    assert (await library.search("kb", Query("zzzz", SearchMode.AUTO)))[0][0].score != pytest.approx(1.0)
    with pytest.raises(FailedPrecondition) as error:
        await library.search("kb", Query("zzzz", SearchMode.VECTOR))
    assert error.value.reason == "NO_EMBEDDER"
    await library.update("kb", entries[1].id, "", {"text": "cccc d"})
    await library.close()
    # With one again, the missing vector is made in the background.
    library = Library(EmbeddedStore(tmp_path, compiled=False), embedder)
    await library.open()
    assert library._reindexing is not None
    await library._reindexing
    hits, _ = await library.search("kb", Query("cccc d", SearchMode.VECTOR, top_k=1))
    assert hits[0].entry.id == entries[1].id
    assert hits[0].score == pytest.approx(1.0)
    await library.close()


def test_index_counts_words_as_a_counter_does() -> None:
    bm25 = Bm25()
    bm25.put([(0, ["a", "a", "b"], None), (1, ["b"], None)])
    assert Counter({word: bm25._postings[word].size for word in ("a", "b")}) == Counter(a=1, b=2)
    bm25.put([(0, ["b"], ["a", "a", "b"])])
    assert "a" not in bm25._postings
    assert bm25.idf("a") == 0.0
