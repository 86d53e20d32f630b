"""The embedder behind an endpoint, against a server that speaks the real wire format."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from pydantic import SecretStr, ValidationError

from services.common import context
from services.common.errors import DeadlineExceeded, FailedPrecondition, NesycdError, Unavailable
from services.knowledge.embedders import Turns, Urgency, make_embedder
from services.knowledge.embedders.openai import OpenAiEmbedder
from services.knowledge.settings import Settings
from tests.embeddings import DIMENSION, FakeEndpoint, answer, error, vector_of
from tests.proxy import company_proxy

KEY = "sk-very-secret-0123456789"


@pytest.fixture
async def endpoint() -> AsyncIterator[FakeEndpoint]:
    async with FakeEndpoint() as one:
        yield one


@pytest.fixture
async def make(endpoint: FakeEndpoint) -> AsyncIterator[Callable[..., OpenAiEmbedder]]:
    made: list[OpenAiEmbedder] = []

    def one(url: str = "", model: str = "fake-embedding", key: str = KEY, **settings: Any) -> OpenAiEmbedder:
        made.append(OpenAiEmbedder(url or endpoint.url, model, SecretStr(key), **settings))
        return made[-1]

    yield one
    for embedder in made:
        await embedder.close()


def unit(text: str) -> np.ndarray:
    vector = vector_of(text)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("as_base64", [False, True])
async def test_vectors_have_length_1_and_come_in_the_order_of_the_texts(
    endpoint: FakeEndpoint, make: Callable[..., OpenAiEmbedder], as_base64: bool
) -> None:
    endpoint.base64, endpoint.api_key = as_base64, KEY
    embedder = make(endpoint.url + "/v1/", batch_size=3, concurrency=2)
    await embedder.load()
    assert (embedder.name, embedder.dimension) == (f"fake-embedding/{DIMENSION}", DIMENSION)
    endpoint.requests.clear()
    endpoint.delay = 0.02
    texts = [f"text number {i}" for i in range(20)]
    vectors = await embedder.embed(texts)
    assert np.array(vectors) == pytest.approx(np.array([unit(text) for text in texts]), abs=1e-6)
    assert {vector.dtype for vector in vectors} == {np.dtype(np.float32)}
    assert [len(request["input"]) for request in endpoint.requests] == [3] * 6 + [2]
    assert endpoint.most_at_once == 2
    assert await embedder.embed([]) == []


async def test_queries_and_texts_get_their_prefixes_and_queries_are_remembered(
    endpoint: FakeEndpoint, make: Callable[..., OpenAiEmbedder]
) -> None:
    embedder = make(query_prefix="query: ", document_prefix="passage: ")
    await embedder.load()
    endpoint.requests.clear()
    (text,) = await embedder.embed(["cats"])
    query = await embedder.embed_query("cats")
    assert await embedder.embed_query("cats") is query
    assert text == pytest.approx(unit("passage: cats"), abs=1e-6)
    assert query == pytest.approx(unit("query: cats"), abs=1e-6)
    assert [request["input"] for request in endpoint.requests] == [["passage: cats"], ["query: cats"]]
    other, plain = make(document_prefix="other: "), make(query_prefix="another: ")
    await other.load()
    await plain.load()
    assert len({embedder.name, other.name, plain.name}) == 3
    assert plain.name == f"fake-embedding/{DIMENSION}"  # vectors that are kept do not depend on a query's prefix


async def test_what_fails_for_a_moment_is_asked_again_when_the_server_says_so(
    endpoint: FakeEndpoint, make: Callable[..., OpenAiEmbedder]
) -> None:
    embedder = make()
    await embedder.load()
    endpoint.requests.clear()
    endpoint.replies = [
        lambda _: error(429, "slow down", Retry_After="0.3"),
        lambda _: web.Response(status=503, text="<html>"),
    ]
    started = time.monotonic()
    assert len(await embedder.embed(["one"])) == 1
    assert time.monotonic() - started > 0.3
    assert len(endpoint.requests) == 3


async def test_a_retry_after_beyond_the_time_that_is_left_is_told_instead_of_waited_for(
    endpoint: FakeEndpoint, make: Callable[..., OpenAiEmbedder]
) -> None:
    embedder = make(timeout=30)
    endpoint.replies = [lambda _: error(429, "slow down", "requests", "rate_limit_exceeded", Retry_After="42")]
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"limits the rate .*429, rate_limit_exceeded") as raised:
        await embedder.embed(["one"])
    assert time.monotonic() - started < 20
    assert raised.value.retry_after == 42
    assert raised.value.reason == "EMBEDDER_UNAVAILABLE"


BROKEN: dict[str, Callable[[dict[str, Any]], web.Response]] = {
    "no list of embeddings": lambda _: web.Response(text="<html>Log in</html>", content_type="text/html"),
    "no list of embeddings ": lambda _: web.json_response([1, 2]),
    "no list of embeddings  ": lambda _: web.json_response({"data": [[1.0]]}),
    "2 embeddings for 1 texts": lambda _: web.json_response(answer([np.ones(3), np.ones(3)])),
    "0 embeddings for 1 texts": lambda _: web.json_response(answer([])),
    "numbers its embeddings wrongly": lambda _: web.json_response({"data": [{"index": 7, "embedding": [1.0]}]}),
    "numbers its embeddings wrongly ": lambda _: web.json_response({"data": [{"index": [0], "embedding": [1.0]}]}),
    "finite": lambda _: web.Response(text=json.dumps(answer([np.array([1.0, np.nan])]))),
    "finite ": lambda _: web.json_response(answer([np.array([1.0, 1e300, 1e300])])),
    "only zeros": lambda _: web.json_response(answer([np.zeros(4)])),
    "no lists of numbers": lambda _: web.json_response({"data": [{"index": 0, "embedding": ["a"]}]}),
    "no lists of numbers ": lambda _: web.json_response({"data": [{"index": 0, "embedding": "?!"}]}),
    "lists of finite numbers": lambda _: web.json_response({"data": [{"index": 0}]}),
    "failed": lambda _: error(500, "secret text of a user"),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_an_answer_that_is_not_one_is_refused_and_never_kept(
    endpoint: FakeEndpoint, make: Callable[..., OpenAiEmbedder], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.knowledge.embedders.openai._BACKOFF_SECONDS", 0.001)
    embedder = make()
    endpoint.replies = [BROKEN[what]] * 4
    with pytest.raises(Unavailable, match=what.strip()) as raised:
        await embedder.load()
    assert raised.value.reason == "EMBEDDER_UNAVAILABLE"
    assert raised.value.retry_after and raised.value.retry_after >= 1
    assert "secret" not in raised.value.message
    assert len(endpoint.requests) == 4


async def test_another_dimension_than_at_the_start_is_refused(
    endpoint: FakeEndpoint, make: Callable[..., OpenAiEmbedder]
) -> None:
    embedder = make()
    await embedder.load()
    endpoint.dimension = 7
    with pytest.raises(FailedPrecondition, match="vectors of 7 numbers, it gave 48 before"):
        await embedder.embed(["one"])
    again = make()
    await again.load()
    assert (again.name, again.dimension) == ("fake-embedding/7", 7)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"key": "sk-wrong-0123456789"}, "EMBEDDER_API_KEY"),
        ({"key": ""}, "EMBEDDER_API_KEY"),
        ({"model": "other"}, "EMBEDDER_MODEL"),
        ({"url": "/elsewhere"}, "EMBEDDER_URL"),
    ],
)
async def test_a_wrong_setting_is_named_at_once_and_no_secret_is(
    endpoint: FakeEndpoint, make: Callable[..., OpenAiEmbedder], settings: dict[str, str], named: str
) -> None:
    endpoint.api_key = KEY
    if "url" in settings:
        settings = {"url": endpoint.url + settings["url"]}
    with pytest.raises(FailedPrecondition, match=named) as raised:
        await make(**settings).load()
    assert raised.value.reason == "EMBEDDER_MISCONFIGURED"
    assert "sk-" not in raised.value.message
    assert len(endpoint.requests) <= 1


async def test_a_redirect_is_not_followed(endpoint: FakeEndpoint, make: Callable[..., OpenAiEmbedder]) -> None:
    endpoint.replies = [lambda _: web.Response(status=307, headers={"Location": endpoint.url + "/v1/embeddings"})]
    with pytest.raises(FailedPrecondition, match="EMBEDDER_URL"):
        await make().load()
    assert len(endpoint.requests) == 1


async def test_a_text_that_is_too_long_for_the_model_is_cut_and_the_others_are_whole(
    endpoint: FakeEndpoint, make: Callable[..., OpenAiEmbedder]
) -> None:
    embedder = make()
    await embedder.load()
    endpoint.longest = 1000
    long = "abc defg" * 400
    vectors = await embedder.embed(["one", "two", long, "three"])
    assert np.array(vectors) == pytest.approx(
        np.array([unit(t) for t in ("one", "two", long[:800], "three")]), abs=1e-6
    )
    endpoint.longest = 2
    with pytest.raises(FailedPrecondition, match="rejected the request") as raised:
        await embedder.embed(["words of a user"])
    assert "words" not in raised.value.message


async def test_a_slow_or_dead_endpoint_costs_no_more_than_the_timeout(
    endpoint: FakeEndpoint, make: Callable[..., OpenAiEmbedder]
) -> None:
    embedder, patient = make(timeout=0.3), make(timeout=60)
    for one in (embedder, patient):
        await one.load()
    endpoint.delay = 60
    with pytest.raises(Unavailable, match=r"within 0\.3 seconds"):
        await embedder.embed(["one"])
    with context.timeout(0.2), pytest.raises(DeadlineExceeded):
        await embedder.embed_query("one")
    with context.timeout(3), pytest.raises(Unavailable):  # a write leaves half of its time for the commit
        await patient.embed(["one"])
    await endpoint.stop()
    with pytest.raises(NesycdError) as raised:
        await embedder.embed(["one"])
    assert isinstance(raised.value, Unavailable)


async def test_queries_come_before_writes_and_writes_before_rebuilds() -> None:
    turns = Turns(1)
    order: list[str] = []

    async def work(name: str, urgency: Urgency) -> None:
        async with turns.take(urgency):
            order.append(name)
            await asyncio.sleep(0.01)

    first = asyncio.create_task(work("first", Urgency.REBUILD))
    await asyncio.sleep(0)
    wanted = [("rebuild", Urgency.REBUILD), ("gone", Urgency.QUERY), ("write", Urgency.WRITE), ("query", Urgency.QUERY)]
    tasks = [asyncio.create_task(work(*one)) for one in wanted]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(first, *tasks, return_exceptions=True)
    assert order == ["first", "query", "write", "rebuild"]


async def test_rebuilds_leave_a_slot_free_and_a_slot_is_never_lost() -> None:
    turns = Turns(2)
    running = most = 0

    async def work(urgency: Urgency) -> None:
        nonlocal running, most
        async with turns.take(urgency):
            running += urgency is Urgency.REBUILD
            most = max(most, running)
            await asyncio.sleep(0.002)
            running -= urgency is Urgency.REBUILD

    tasks = [asyncio.create_task(work(Urgency(i % 3))) for i in range(60)]
    for task in tasks[::4]:
        await asyncio.sleep(0.001)
        task.cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert most == 1
    async with turns.take(Urgency.QUERY), turns.take(Urgency.QUERY):
        pass


def test_settings_say_what_an_embedder_needs() -> None:
    for wrong, named in (
        ({"embedder": "local"}, "EMBEDDER_MODEL"),
        ({"embedder": "openai", "embedder_url": "http://e"}, "EMBEDDER_MODEL"),
        ({"embedder": "openai", "embedder_model": "m"}, "EMBEDDER_URL"),
        ({"embedder": "openai", "embedder_model": "m", "embedder_url": "localhost:80"}, "EMBEDDER_URL"),
        ({"embedder": "openai", "embedder_model": "m", "embedder_url": "http://u:pw@e"}, "EMBEDDER_API_KEY"),
    ):
        with pytest.raises(ValidationError, match=named) as raised:
            Settings(**wrong)
        assert "pw" not in str(raised.value)
    settings = Settings(
        embedder="openai", embedder_model="m", embedder_url="http://e/v1", embedder_api_key=SecretStr(KEY)
    )
    assert KEY not in str(settings.describe()) + repr(settings)
    embedder = make_embedder(settings)
    assert isinstance(embedder, OpenAiEmbedder)
    assert KEY not in repr(embedder) + str(vars(embedder))
    assert make_embedder(Settings()) is None


async def test_an_endpoint_elsewhere_is_asked_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., OpenAiEmbedder]
) -> None:
    async with company_proxy(monkeypatch, "HTTPS_PROXY") as proxy:
        with pytest.raises(Unavailable, match="behind a proxy"):
            await make("https://embeddings.example.com/v1").load()
    assert set(proxy.lines) == {"CONNECT embeddings.example.com:443 HTTP/1.1"}
