"""A library whose embedder is an endpoint: down, slow, back, exchanged. Words and writes never suffer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from services.common.errors import FailedPrecondition, Unavailable
from services.knowledge import vectors
from services.knowledge.embedders import Urgency
from services.knowledge.embedders.openai import OpenAiEmbedder
from services.knowledge.entries import Entry
from services.knowledge.library import Creation, Library
from services.knowledge.search import Query, SearchMode
from services.knowledge.stores.embedded import EmbeddedStore
from tests.embeddings import DIMENSION, FakeEndpoint, error
from tests.unit.knowledge.conftest import LetterEmbedder

NAME = f"fake-embedding/{DIMENSION}"
Open = Callable[..., Any]


@pytest.fixture
async def endpoint() -> AsyncIterator[FakeEndpoint]:
    async with FakeEndpoint() as one:
        yield one


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "_FIRST_PAUSE", 0.1)
    monkeypatch.setattr(vectors, "_LONGEST_PAUSE", 0.2)
    monkeypatch.setattr("services.knowledge.embedders.openai._BACKOFF_SECONDS", 0.01)


@pytest.fixture
async def open_library(tmp_path: Path, endpoint: FakeEndpoint) -> AsyncIterator[Open]:
    opened: list[Library] = []

    async def one(embedder: Any = "endpoint", **settings: Any) -> Library:
        if opened:
            await opened.pop().close()
        if embedder == "endpoint":
            settings = {"timeout": 1.0, **settings}
            embedder = OpenAiEmbedder(endpoint.url, endpoint.model, SecretStr(""), **settings)
        opened.append(Library(EmbeddedStore(tmp_path / "data", compiled=False), embedder))
        await opened[0].open()
        return opened[0]

    yield one
    for library in opened:
        await library.close()


async def write(library: Library, *texts: str) -> None:
    results = await library.create_many("kb", [Creation(Entry("", "", text)) for text in texts])
    assert [type(result) for result in results] == [tuple] * len(texts)


async def found(library: Library, text: str, mode: SearchMode) -> str:
    hits, _ = await library.search("kb", Query(text, mode, top_k=1))
    return hits[0].entry.text


async def done(library: Library, seconds: float = 10) -> None:
    await asyncio.wait_for(library._vectors.complete(), seconds)


async def test_an_endpoint_that_is_down_at_the_start_delays_only_the_searches_by_meaning(
    endpoint: FakeEndpoint, open_library: Open
) -> None:
    await endpoint.stop()
    started = time.monotonic()
    library = await open_library()
    base = await library.create_base("kb", "", "")
    await write(library, "eagles fly high", "fish swim deep")
    assert (base.embedder, base.dimension) == ("", 0)
    assert await found(library, "eagles", SearchMode.BM25) == "eagles fly high"
    assert await found(library, "eagles", SearchMode.AUTO) == "eagles fly high"
    for mode in (SearchMode.VECTOR, SearchMode.HYBRID):
        with pytest.raises(Unavailable) as raised:
            await library.search("kb", Query("eagles", mode))
        assert raised.value.reason == "EMBEDDER_UNAVAILABLE"
        assert raised.value.retry_after
    assert time.monotonic() - started < 4
    await endpoint.start()
    await done(library)
    base = await library.base("kb")
    assert (base.embedder, base.dimension, base.rebuild) == (NAME, DIMENSION, None)
    assert await found(library, "eagle flies", SearchMode.VECTOR) == "eagles fly high"
    hits, _ = await library.search("kb", Query("eagles", SearchMode.AUTO, explain=True))
    assert "vector" in hits[0].explanation


async def test_a_wrong_key_does_not_stop_words_and_searches_by_meaning_name_the_setting(
    endpoint: FakeEndpoint, open_library: Open
) -> None:
    endpoint.api_key = "sk-another-0123456789"
    library = await open_library()
    await library.create_base("kb", "", "")
    await write(library, "eagles fly high")
    assert await found(library, "eagles", SearchMode.AUTO) == "eagles fly high"
    with pytest.raises(FailedPrecondition, match="EMBEDDER_API_KEY") as raised:
        await library.search("kb", Query("eagles", SearchMode.VECTOR))
    assert raised.value.reason == "EMBEDDER_MISCONFIGURED"
    endpoint.api_key = ""
    await done(library)
    assert await found(library, "eagles", SearchMode.VECTOR) == "eagles fly high"


async def test_what_is_written_while_the_endpoint_is_down_gets_its_vector_when_it_is_back(
    endpoint: FakeEndpoint, open_library: Open
) -> None:
    library = await open_library()
    await library.create_base("kb", "", "")
    await write(library, "eagles fly high")
    assert await found(library, "eagles fly high", SearchMode.VECTOR) == "eagles fly high"
    await endpoint.stop()
    await write(library, "fish swim deep")
    assert await found(library, "fish", SearchMode.AUTO) == "fish swim deep"
    with pytest.raises(Unavailable):
        await library.search("kb", Query("fish", SearchMode.HYBRID))
    # A query that is remembered needs no endpoint.
    assert await found(library, "eagles fly high", SearchMode.VECTOR) == "eagles fly high"
    await endpoint.start()
    await done(library)
    assert await found(library, "fish swims", SearchMode.VECTOR) == "fish swim deep"


async def test_a_slow_endpoint_delays_one_write_and_no_search_by_words(
    endpoint: FakeEndpoint, open_library: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_FIRST_PAUSE", 5.0)
    monkeypatch.setattr(vectors, "_LONGEST_PAUSE", 5.0)
    monkeypatch.setattr(vectors, "_AUTO_SECONDS", 0.2)
    library = await open_library(timeout=2.0)
    await library.create_base("kb", "", "")
    await write(library, "eagles fly high")
    endpoint.delay = 30
    library._vectors._pause = 5.0
    writing = asyncio.create_task(write(library, "fish swim deep"))
    await asyncio.sleep(0.05)
    assert await found(library, "eagles", SearchMode.BM25) == "eagles fly high"
    assert await found(library, "eagles", SearchMode.AUTO) == "eagles fly high"
    assert not writing.done()
    await writing
    asked = len(endpoint.requests)
    await write(library, "ants dig")
    assert await found(library, "ants", SearchMode.AUTO) == "ants dig"
    with pytest.raises(Unavailable):
        await library.search("kb", Query("ants", SearchMode.VECTOR))
    assert len(endpoint.requests) == asked, "nobody waits for it a second time"


async def test_a_large_write_does_not_wait_for_its_vectors(
    endpoint: FakeEndpoint, open_library: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_MOST_AT_ONCE", 10)
    library = await open_library()
    await library.create_base("kb", "", "")
    endpoint.delay = 2
    await write(library, *(f"word{i} is here" for i in range(30)))
    assert await library._store.without_vector_count("kb", NAME, DIMENSION) == 30
    endpoint.delay = 0
    await done(library)
    assert await library._store.without_vector_count("kb", NAME, DIMENSION) == 0


async def test_a_write_whose_caller_went_away_gets_its_vector_before_the_store_closes(
    endpoint: FakeEndpoint, open_library: Open
) -> None:
    library = await open_library()
    await library.create_base("kb", "", "")
    entry, _ = await library.create("kb", Creation(Entry("", "", "eagles fly high")))
    endpoint.delay = 0.3
    writing = asyncio.create_task(library.update("kb", entry.id, "", {"text": "fish swim deep"}))
    await asyncio.sleep(0.1)
    writing.cancel()
    library = await open_library(None)
    assert (await library.entry("kb", entry.id)).text == "fish swim deep"
    assert await library._store.without_vector_count("kb", NAME, DIMENSION) == 0


async def test_an_exchanged_embedder_rebuilds_in_the_background_and_switches_at_the_end(
    endpoint: FakeEndpoint, open_library: Open, monkeypatch: pytest.MonkeyPatch, embedder: Any
) -> None:
    monkeypatch.setattr(vectors, "_SCAN", 40)
    monkeypatch.setattr(vectors, "_KEEP", 10)
    library = await open_library(embedder)
    await library.create_base("kb", "", "")
    texts = [f"thing {chr(97 + i % 26) * 3}{i}" for i in range(100)]
    await write(library, *texts)
    assert (await library.base("kb")).embedder == "letters"
    endpoint.delay = 0.05
    library = await open_library()
    while (base := await library.base("kb")).rebuild is None or not base.rebuild.done:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    endpoint.delay = 30  # it gets no further
    assert base.embedder == "letters"
    assert (base.rebuild.embedder, base.rebuild.entry_count) == (NAME, 100)
    assert 0 < base.rebuild.done < 100
    hits, _ = await library.search("kb", Query(texts[7], SearchMode.AUTO, explain=True))
    assert hits[0].entry.text == texts[7]
    assert "vector" not in hits[0].explanation
    for mode in (SearchMode.VECTOR, SearchMode.HYBRID):
        with pytest.raises(FailedPrecondition, match=r"\d+ of 100 are done") as raised:
            await library.search("kb", Query("thing", mode))
        assert raised.value.reason == "EMBEDDER_REBUILDING"
        assert int(raised.value.metadata["done_count"]) > 0
    await write(library, "written meanwhile")
    # Stopped in the middle, it goes on: nothing is made twice.
    endpoint.delay = 0
    library = await open_library()
    await done(library)
    base = await library.base("kb")
    assert (base.embedder, base.dimension, base.rebuild) == (NAME, DIMENSION, None)
    assert await found(library, "written meanwhile", SearchMode.VECTOR) == "written meanwhile"
    assert await found(library, texts[7], SearchMode.VECTOR) == texts[7]
    asked = [text for request in endpoint.requests for text in request["input"] if text in texts]
    assert len(set(asked)) == 100
    assert len(asked) <= 100 + 2 * 10  # what was on its way when it stopped
    hits, _ = await library.search("kb", Query(texts[7], SearchMode.AUTO, explain=True))
    assert "vector" in hits[0].explanation


async def test_an_embedder_of_another_dimension_under_the_same_name_is_another_one(
    open_library: Open, embedder: Any
) -> None:
    library = await open_library(embedder)
    await library.create_base("kb", "", "")
    await write(library, "eagles fly high", "fish swim deep")
    for number in range(2):
        wider = WiderLetters()
        library = await open_library(wider)
        await done(library)
        base = await library.base("kb")
        assert (base.embedder, base.dimension, base.rebuild) == ("letters", 27, None)
        assert await found(library, "eagles fly high", SearchMode.VECTOR) == "eagles fly high"
        text = ("ants dig", "bees hum")[number]
        await write(library, text)
        assert await found(library, text, SearchMode.VECTOR) == text
        assert wider.texts == (["fish swim deep", "eagles fly high"] if not number else [])


async def test_a_rebuild_outlives_an_endpoint_that_fails_in_the_middle(
    endpoint: FakeEndpoint, open_library: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_KEEP", 10)
    library = await open_library(None)
    await library.create_base("kb", "", "")
    await write(library, *(f"thing number{i}" for i in range(60)))
    endpoint.replies = [
        reply
        for _ in range(4)
        for reply in (endpoint_vector, lambda _: error(500, "down"), lambda _: error(429, "slow", Retry_After="0.05"))
    ]
    library = await open_library()
    await done(library)
    assert await found(library, "thing number42", SearchMode.VECTOR) == "thing number42"


class WiderLetters(LetterEmbedder):
    """The same name, one number more; it remembers what it made for a rebuild."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    async def _load(self) -> tuple[str, int]:
        return "letters", 27

    async def _embed(self, texts: list[str], urgency: Urgency) -> list[np.ndarray]:
        self.texts += texts if urgency is Urgency.REBUILD else []
        return [np.append(vector, np.float32(0)) for vector in await super()._embed(texts, urgency)]


def endpoint_vector(body: dict[str, Any]) -> Any:
    from aiohttp import web

    from tests.embeddings import answer, vector_of

    return web.json_response(answer([np.array(vector_of(text)) for text in body["input"]]))
