"""Calls survive services that go away and come back; what cannot succeed is told at once. Real gRPC servers of the test's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from nesycd.knowledge.v1 import (
    ExportEntriesRequest,
    ExportEntriesResponse,
    KnowledgeServiceServicer,
    add_KnowledgeServiceServicer_to_server,
)
from nesycd.teacher.v1 import (
    BatchGenerateRequest,
    BatchGenerateResponse,
    GenerateRequest,
    GenerateResponse,
    TeacherServiceServicer,
    add_TeacherServiceServicer_to_server,
)

from jobs.clients import Patience, Services
from jobs.settings import Settings
from services.common import errors
from services.common.rows import row_status
from tests.processes import free_port


class Teacher(TeacherServiceServicer):
    """Breaks off after so many rows, as often as it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.break_after: list[int] = []
        self.row_errors: dict[str, errors.NesycdError] = {}
        self.silent_seconds: list[float] = []

    async def BatchGenerate(
        self, request_iterator: AsyncIterator[BatchGenerateRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[BatchGenerateResponse]:
        limit = self.break_after.pop(0) if self.break_after else 10**9
        await asyncio.sleep(self.silent_seconds.pop(0) if self.silent_seconds else 0)
        async for request in request_iterator:
            if not limit:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "killed")
            limit -= 1
            self.asked.append(request.row_id)
            if error := self.row_errors.get(request.row_id):
                yield BatchGenerateResponse(row_id=request.row_id, error=row_status(error))
            else:
                yield BatchGenerateResponse(row_id=request.row_id, response=GenerateResponse(text=request.row_id))


async def serve(teacher: Teacher, port: int = 0) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server()
    add_TeacherServiceServicer_to_server(teacher, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, port


@pytest.fixture
async def teacher() -> AsyncIterator[tuple[Teacher, Settings]]:
    servicer = Teacher()
    server, port = await serve(servicer)
    yield servicer, Settings(teacher_address=f"127.0.0.1:{port}", patience_seconds=5, call_seconds=5)
    await server.stop(None)


def rows(count: int) -> dict[str, BatchGenerateRequest]:
    return {str(i): BatchGenerateRequest(row_id=str(i), request=GenerateRequest()) for i in range(count)}


async def test_after_a_break_only_rows_without_a_result_are_asked_again(teacher: tuple[Teacher, Settings]) -> None:
    servicer, settings = teacher
    servicer.break_after = [3, 2]
    async with Services(settings) as services:
        results = await services.batch(services.teacher.BatchGenerate, rows(8), what="teacher", window=1)
    assert {row_id: result.response.text for row_id, result in results.items()} == {str(i): str(i) for i in range(8)}
    assert servicer.asked == [str(i) for i in range(8)]


async def test_a_whole_batch_is_asked_again_whole(teacher: tuple[Teacher, Settings]) -> None:
    servicer, settings = teacher
    servicer.break_after = [3]
    async with Services(settings) as services:
        results = await services.batch(services.teacher.BatchGenerate, rows(4), what="teacher", whole=True, window=1)
    assert len(results) == 4
    assert servicer.asked == ["0", "1", "2", "0", "1", "2", "3"]


async def test_a_row_that_fails_on_its_own_account_is_a_result(teacher: tuple[Teacher, Settings]) -> None:
    servicer, settings = teacher
    servicer.row_errors["1"] = errors.FailedPrecondition("cut off", reason="TEACHER_TRUNCATED")
    async with Services(settings) as services:
        results = await services.batch(services.teacher.BatchGenerate, rows(3), what="teacher")
    assert [results[i].WhichOneof("result") for i in "012"] == ["response", "error", "response"]


@pytest.mark.parametrize(
    "error",
    [
        errors.FailedPrecondition("the key", reason="TEACHER_KEY_REFUSED"),
        errors.ResourceExhausted("the budget", reason="BUDGET_EXHAUSTED"),
        errors.NotFound("the model", reason="TEACHER_MODEL_NOT_FOUND"),
    ],
)
async def test_an_error_that_all_rows_would_have_ends_the_batch_at_once(
    teacher: tuple[Teacher, Settings], error: errors.NesycdError
) -> None:
    servicer, settings = teacher
    servicer.row_errors["1"] = error
    began = time.monotonic()
    async with Services(settings) as services:
        with pytest.raises(type(error)) as caught:
            await services.batch(services.teacher.BatchGenerate, rows(3), what="teacher")
    assert caught.value.reason == error.reason
    assert time.monotonic() - began < 2


async def test_a_service_that_is_started_late_is_waited_for(teacher: tuple[Teacher, Settings]) -> None:
    servicer = Teacher()
    port = free_port()
    notes: list[str] = []
    settings = Settings(teacher_address=f"127.0.0.1:{port}", patience_seconds=20)
    back: list[grpc.aio.Server] = []

    async def start() -> None:
        await asyncio.sleep(0.5)
        back.append((await serve(servicer, port))[0])

    starting = asyncio.ensure_future(start())
    async with Services(settings, note=notes.append) as services:
        results = await services.batch(services.teacher.BatchGenerate, rows(2), what="teacher")
    await starting
    await back[0].stop(None)
    assert len(results) == 2
    assert notes and notes[0].startswith("waits for the teacher service")


async def test_a_batch_may_be_silent_for_longer_than_a_call_may_take(teacher: tuple[Teacher, Settings]) -> None:
    servicer, settings = teacher
    servicer.silent_seconds = [2.0]
    async with Services(settings.model_copy(update={"call_seconds": 0.5, "silence_seconds": 60})) as services:
        results = await services.batch(services.teacher.BatchGenerate, rows(2), what="teacher")
    assert servicer.asked == ["0", "1"]
    assert len(results) == 2


async def test_a_batch_that_is_silent_for_too_long_is_asked_again(teacher: tuple[Teacher, Settings]) -> None:
    servicer, settings = teacher
    servicer.silent_seconds = [600.0]
    notes: list[str] = []
    async with Services(settings.model_copy(update={"silence_seconds": 1}), note=notes.append) as services:
        results = await services.batch(services.teacher.BatchGenerate, rows(2), what="teacher")
    assert len(results) == 2
    assert "NESYCD_JOBS_SILENCE_SECONDS" in notes[0]


class Knowledge(KnowledgeServiceServicer):
    """Exports a base in pieces, slowly."""

    async def ExportEntries(
        self, request: ExportEntriesRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[ExportEntriesResponse]:
        for number in range(6):
            await asyncio.sleep(0.2)
            yield ExportEntriesResponse(data=str(number).encode())


@pytest.fixture
async def knowledge() -> AsyncIterator[Settings]:
    server = grpc.aio.server()
    add_KnowledgeServiceServicer_to_server(Knowledge(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Settings(knowledge_address=f"127.0.0.1:{port}", patience_seconds=5, call_seconds=0.5)
    await server.stop(None)


async def test_a_large_export_may_take_longer_than_other_calls(knowledge: Settings) -> None:
    async with Services(knowledge) as services:
        export, request = services.knowledge.ExportEntries, ExportEntriesRequest()
        assert await services.download(export, request, what="knowledge", seconds=60) == b"012345"
        with pytest.raises(errors.DeadlineExceeded):
            await services.download(export, request, what="knowledge")


async def test_a_run_that_is_to_stop_does_not_read_an_export_to_its_end(knowledge: Settings) -> None:
    class Stop(Exception):
        pass

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > 2:
            raise Stop

    async with Services(knowledge, check) as services:
        with pytest.raises(Stop):
            await services.download(
                services.knowledge.ExportEntries, ExportEntriesRequest(), what="knowledge", seconds=60
            )


async def test_patience_ends() -> None:
    patience = Patience(0.1, lambda: None, lambda text: None)
    with pytest.raises(errors.Unavailable):
        for _ in range(20):
            await patience.wait(errors.Unavailable("away"), "teacher")


async def test_a_run_that_is_to_stop_does_not_wait() -> None:
    class Stop(Exception):
        pass

    def check() -> None:
        raise Stop

    with pytest.raises(Stop):
        await Patience(60, check, lambda text: None).wait(errors.Unavailable("away"), "teacher")
