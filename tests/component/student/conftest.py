from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from nesycd.knowledge.v1 import (
    Entry,
    KnowledgeServiceServicer,
    SearchEntriesRequest,
    SearchEntriesResponse,
    SearchResult,
    add_KnowledgeServiceServicer_to_server,
)
from nesycd.student.v1 import Alias, ListAdaptersRequest, SetAliasRequest, StudentServiceStub, UnloadAdapterRequest

from services.common.errors import NotFound
from services.common.server import Server, Service
from services.common.settings import ServerSettings
from services.student.engines.transformers import TransformersEngine
from tests.component.student.files import make_adapter, make_student
from tests.processes import Process, free_port, service


@dataclass
class Knowledge(KnowledgeServiceServicer):
    """A knowledge service with one base: every entry is found, in order. It runs in a thread of its own."""

    texts: list[str] = field(default_factory=lambda: ["A copper coin weighs 3 grams.", "Iron melts at 1538 degrees."])
    requests: list[SearchEntriesRequest] = field(default_factory=list)

    async def SearchEntries(
        self, request: SearchEntriesRequest, context: grpc.aio.ServicerContext
    ) -> SearchEntriesResponse:
        self.requests.append(request)
        if request.parent != "knowledgeBases/demo":
            raise NotFound(f"{request.parent} does not exist", resource_name=request.parent)
        results = [
            SearchResult(
                entry=Entry(name=f"{request.parent}/entries/{i}", text=text, revision=i + 1), score=float(9 - i)
            )
            for i, text in enumerate(self.texts)
        ]
        return SearchEntriesResponse(results=results[: request.top_k], version=17)


class KnowledgeServer:
    """Runs a `Knowledge` in a thread, on a port that stays the same when it is stopped and started again."""

    def __init__(self, servicer: Knowledge) -> None:
        self.servicer = servicer
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        self._loop, self._end, started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
        add = add_KnowledgeServiceServicer_to_server

        async def serve() -> None:
            settings = ServerSettings(port=self._port, grace_seconds=0)
            async with Server(settings, [Service("knowledge", None, add, self.servicer)]):
                started.set()
                await self._end.wait()

        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(serve()), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


@pytest.fixture(scope="session")
def knowledge_server() -> Iterator[KnowledgeServer]:
    server = KnowledgeServer(Knowledge())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def knowledge(knowledge_server: KnowledgeServer) -> Knowledge:
    """As new for each test."""
    new = Knowledge()
    knowledge_server.servicer.texts, knowledge_server.servicer.requests = new.texts, new.requests
    return knowledge_server.servicer


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student's folder."""
    return make_student(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def engine(model: Path) -> TransformersEngine:
    """The engine with the tiny student, in float32."""
    return TransformersEngine(model, dtype="float32", threads=1, device="cpu")


@pytest.fixture(scope="session")
def artifacts(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two versions of an adapter."""
    folder = tmp_path_factory.mktemp("artifacts")
    make_adapter(folder, "adapters/demo@1", model, 1)
    make_adapter(folder, "adapters/demo@2", model, 2)
    return folder


@pytest.fixture(scope="session")
def process(
    model: Path, artifacts: Path, knowledge_server: KnowledgeServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """The service as a process, one for all tests: starting it takes seconds."""
    folder = tmp_path_factory.mktemp("process")
    student = service(
        "student",
        folder,
        base_model="tiny",
        base_model_dir=str(model),
        artifacts_url=artifacts.as_uri(),
        knowledge_address=knowledge_server.address,
        state_dir=str(folder / "state"),
        dtype="float32",
        threads="1",
        max_batch="8",
        max_new_tokens="24",
        batch_idle_seconds="0.3",
    )
    student.start()
    yield student
    student.kill()


@pytest.fixture
async def stub(process: Process, knowledge: Knowledge) -> AsyncIterator[StudentServiceStub]:
    """A client; what its test loads and names is forgotten afterwards."""
    async with grpc.aio.insecure_channel(process.address) as channel:
        yield StudentServiceStub(channel)
    async with grpc.aio.insecure_channel(process.address) as channel:
        stub = StudentServiceStub(channel)
        listed = await stub.ListAdapters(ListAdaptersRequest())
        for alias in listed.aliases:
            await stub.SetAlias(SetAliasRequest(alias=Alias(name=alias.name)))
        for adapter in listed.adapters:
            await stub.UnloadAdapter(UnloadAdapterRequest(adapter=adapter.name))
