"""What goes from one back-end to the other, and through both of them."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

import grpc
import pytest
from nesycd.knowledge.v1 import (
    EXCHANGE_FORMAT_JSONL,
    EXCHANGE_FORMAT_MARKDOWN,
    SEARCH_MODE_VECTOR,
    GetKnowledgeBaseRequest,
    KnowledgeServiceStub,
)

from tests.component.knowledge.congruence.backends import SCORE_TOLERANCE, Backend, Base, differences
from tests.component.knowledge.congruence.cases_exchange import fill_with_everything
from tests.component.knowledge.congruence.cases_search import corpus
from tests.component.knowledge.congruence.conftest import embeddings, store_settings, stores
from tests.embeddings import DIMENSION
from tests.processes import running, service


async def test_a_base_travels_from_store_to_store_and_back_without_loss(backends: list[Backend]) -> None:
    kb = f"j{uuid.uuid4().hex[:12]}"
    first, last = backends[0], backends[-1]
    async with (
        grpc.aio.insecure_channel(first.process.address) as one,
        grpc.aio.insecure_channel(last.process.address) as two,
    ):
        origin = Base(kb, first, KnowledgeServiceStub(one))
        await origin.make()
        await fill_with_everything(origin)
        exports = [await origin.export(format) for format in (EXCHANGE_FORMAT_JSONL, EXCHANGE_FORMAT_MARKDOWN)]
        for number, format in enumerate((EXCHANGE_FORMAT_JSONL, EXCHANGE_FORMAT_MARKDOWN)):
            there = Base(f"{kb}-{number}", last, KnowledgeServiceStub(two))
            back = Base(f"{kb}-{number}b", first, KnowledgeServiceStub(one))
            data = exports[number]
            for base in (there, back):
                await base.make()
                report = await base.import_file(data, format=format, atomic=True)
                assert (report.created, len(report.problems)) == (6, 0), report
                data = await base.export(format)
                assert data.replace(base.name.encode(), origin.name.encode()) == exports[number]
        history = [(r.author, r.entry.revision) for r in await origin.audit()]
        assert len(history) == 7


async def test_a_base_gets_its_vectors_when_an_embedder_is_set_and_keeps_its_words_when_it_goes(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kb = f"e{uuid.uuid4().hex[:12]}"
    endpoint = embeddings(tmp_path)
    observations = {}
    with running(endpoint):
        for store in stores():
            folder = tmp_path / store
            plain = store_settings(store, folder, request)
            embedded = {
                **plain, "embedder": "openai", "embedder_model": "fake-embedding", "embedder_url": f"http://{endpoint.address}"
            }  # fmt: skip
            seen: list[object] = []
            for settings in (plain, embedded, plain):
                process = service("knowledge", folder, compiled="false", log_level="warning", **settings)
                with running(process):
                    async with grpc.aio.insecure_channel(process.address) as channel:
                        base = Base(kb, Backend(store, process), KnowledgeServiceStub(channel), seen)
                        if not seen:
                            await base.make()
                            await base.fill(corpus(100, seed=8))
                        if settings is embedded:
                            await _until_embedded(base)
                            await base.call("GetKnowledgeBase")
                            for query in ("eagle wing", "gold", "spider ocean id7"):
                                await base.call("SearchEntries", query=query, mode=SEARCH_MODE_VECTOR, top_k=10)
                                await base.call("SearchEntries", query=query, top_k=10)
                        else:
                            reason = "NO_EMBEDDER"
                            await base.fails(
                                "SearchEntries", "FAILED_PRECONDITION", reason, query="x", mode=SEARCH_MODE_VECTOR
                            )
                        assert await base.search("id7") != []
            observations[store] = seen
    first, *others = observations.values()
    for other in others:
        assert not differences(first, other, SCORE_TOLERANCE)


async def _until_embedded(base: Base) -> None:
    deadline = time.monotonic() + 60
    while True:
        found = (await base.stub.GetKnowledgeBase(GetKnowledgeBaseRequest(name=base.name))).knowledge_base
        if found.embedding_dimension == DIMENSION and not found.HasField("embedder_rebuild"):
            return
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
