"""The student service as a process: answers, streams, batches, adapters, restarts, and what goes wrong."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from nesycd.student.v1 import (
    Alias,
    AnswerRequest,
    AnswerResponse,
    AnswerStreamRequest,
    BatchAnswerRequest,
    BatchAnswerResponse,
    Decoding,
    ListAdaptersRequest,
    LoadAdapterRequest,
    Retrieval,
    SetAliasRequest,
    StudentServiceStub,
    UnloadAdapterRequest,
)

from services.common.rows import row_error
from tests.component.student.conftest import Knowledge, KnowledgeServer
from tests.component.student.files import make_adapter, write_manifest
from tests.processes import Process

V1, V2, PRODUCTION = "adapters/demo@1", "adapters/demo@2", "aliases/production"
READ = Retrieval(knowledge_base="knowledgeBases/demo", top_k=2)


def ask(number: int = 0, **fields: object) -> AnswerRequest:
    return AnswerRequest(question=f"What is number {number}?", **fields)  # type: ignore[arg-type]


async def fails(call: object) -> tuple[grpc.StatusCode, str, object]:
    """Code, reason and first other detail of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    info, rest = error_details_pb2.ErrorInfo(), None
    status = rpc_status.from_call(caught.value)
    for detail in status.details if status else ():
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        for kind in (error_details_pb2.RetryInfo, error_details_pb2.BadRequest, error_details_pb2.ResourceInfo):
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(rest := kind())
    return caught.value.code(), info.reason, rest


async def batch(stub: StudentServiceStub, requests: list[AnswerRequest]) -> dict[str, BatchAnswerResponse]:
    async def rows() -> AsyncIterator[BatchAnswerRequest]:
        for i, request in enumerate(requests):
            yield BatchAnswerRequest(row_id=f"r{i}", request=request)

    return {response.row_id: response async for response in stub.BatchAnswer(rows(), timeout=60)}


async def publish(stub: StudentServiceStub, version: str, retrieval: Retrieval | None = None) -> None:
    await stub.LoadAdapter(LoadAdapterRequest(adapter=version))
    await stub.SetAlias(SetAliasRequest(alias=Alias(name=PRODUCTION, adapter=version, retrieval=retrieval)))


async def test_an_answer_names_the_entries_that_it_read(stub: StudentServiceStub, knowledge: Knowledge) -> None:
    wish = Retrieval(
        knowledge_base="knowledgeBases/demo", top_k=2, mode=1, exclude_sole_source_case="c1", filter="tags:x"
    )
    answer = await stub.Answer(ask(retrieval=wish))
    assert [(e.name.rsplit("/", 1)[1], e.text, e.revision, e.score) for e in answer.entries] == [
        ("0", knowledge.texts[0], 1, 9.0),
        ("1", knowledge.texts[1], 2, 8.0),
    ]
    assert answer.knowledge_version == 17
    assert answer.adapter == "base"
    assert answer.prompt_tokens > 50 and answer.completion_tokens > 0
    (request,) = knowledge.requests
    assert (request.query, request.mode, request.exclude_sole_source_case, request.filter) == (
        "What is number 0?",
        1,
        "c1",
        "tags:x",
    )
    # What is read changes what is written; the same words given by hand are the same prompt.
    given = await stub.Answer(ask(given_entries=knowledge.texts))
    assert given.text == answer.text and [e.name for e in given.entries] == ["", ""]
    assert (await stub.Answer(ask())).text != answer.text
    assert len(knowledge.requests) == 1, "given entries are not searched for"


async def test_knowledge_that_does_not_fit_is_left_out_and_a_question_never_cut(
    stub: StudentServiceStub, knowledge: Knowledge
) -> None:
    knowledge.texts[1] = "x" * 1000
    answer = await stub.Answer(ask(retrieval=READ))
    assert len(answer.entries) == 1 and answer.dropped_entries == 1
    code, reason, _ = await fails(stub.Answer(AnswerRequest(question="y" * 1000)))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "QUESTION_TOO_LONG")


async def test_a_stream_brings_the_text_in_pieces_and_then_the_whole_answer(stub: StudentServiceStub) -> None:
    events = [event async for event in stub.AnswerStream(AnswerStreamRequest(request=ask(1)))]
    pieces, end = events[:-1], events[-1]
    assert all(event.WhichOneof("event") == "chunk" for event in pieces)
    assert "".join(event.chunk for event in pieces) == end.complete.text != ""
    assert end.complete == await stub.Answer(ask(1))


async def test_a_batch_answers_every_row_as_it_is_answered_alone(stub: StudentServiceStub) -> None:
    await publish(stub, V1, READ)
    requests = [ask(i, adapter=("", "base", V1)[i % 3]) for i in range(21)]
    rows = await batch(stub, requests)
    for i, request in enumerate(requests):
        assert rows[f"r{i}"].response == await stub.Answer(request)


async def test_a_wrong_row_fails_alone(stub: StudentServiceStub) -> None:
    rows = await batch(
        stub,
        [
            ask(),
            AnswerRequest(question=" "),
            ask(adapter="adapters/none@1"),
            ask(retrieval=Retrieval(knowledge_base="knowledgeBases/gone")),
            ask(adapter="../../etc"),
            AnswerRequest(question="y" * 1000),
            ask(mode=77),
        ],
    )
    assert rows["r0"].response.text
    reasons = [row_error(rows[f"r{i}"].error).reason for i in range(1, 7)]
    assert reasons == [
        "INVALID_ARGUMENT", "ADAPTER_NOT_LOADED", "NOT_FOUND", "INVALID_ARGUMENT", "QUESTION_TOO_LONG", "INVALID_ARGUMENT",
    ]  # fmt: skip


async def test_a_client_that_sends_one_row_at_a_time_is_answered(stub: StudentServiceStub) -> None:
    call = stub.BatchAnswer(timeout=20)
    for i in range(2):
        await call.write(BatchAnswerRequest(row_id=str(i), request=ask(i)))
        assert (await call.read()).row_id == str(i)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_questions_that_come_together_are_answered_together(stub: StudentServiceStub) -> None:
    answers = await asyncio.gather(*(stub.Answer(ask(i)) for i in range(20)))
    assert answers == [await stub.Answer(ask(i)) for i in range(20)]


async def test_an_alias_switches_at_once_and_brings_its_knowledge(stub: StudentServiceStub) -> None:
    await publish(stub, V1, READ)
    first = await stub.Answer(ask())
    assert first.adapter == V1 and len(first.entries) == 2
    assert (await stub.Answer(ask(retrieval=Retrieval(top_k=1)))).entries == first.entries[:1]
    assert not (await stub.Answer(ask(retrieval=Retrieval(disabled=True)))).entries
    await publish(stub, V2, READ)
    second = await stub.Answer(ask(adapter=PRODUCTION))
    assert second.adapter == V2 and second.text != first.text
    listed = await stub.ListAdapters(ListAdaptersRequest(page_size=1))
    more = await stub.ListAdapters(ListAdaptersRequest(page_size=1, page_token=listed.next_page_token))
    assert [a.name for a in (*listed.adapters, *more.adapters)] == [V1, V2]
    assert listed.adapters[0].run == "runs/r1" and listed.base_model == "tiny"
    assert [(a.name, a.adapter) for a in listed.aliases] == [(PRODUCTION, V2)]
    code, reason, _ = await fails(stub.UnloadAdapter(UnloadAdapterRequest(adapter=V2)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ADAPTER_IN_USE")
    await stub.UnloadAdapter(UnloadAdapterRequest(adapter=V1))
    assert (await fails(stub.Answer(ask(adapter=V1))))[1] == "ADAPTER_NOT_LOADED"
    await stub.SetAlias(SetAliasRequest(alias=Alias(name=PRODUCTION)))
    assert (await stub.Answer(ask())).adapter == "base"


async def test_a_killed_process_comes_back_with_its_adapters_and_aliases(
    process: Process, stub: StudentServiceStub, artifacts: Path, model: Path
) -> None:
    broken = make_adapter(artifacts, "adapters/broken@1", model, 3)
    await stub.LoadAdapter(LoadAdapterRequest(adapter="adapters/broken@1"))
    await publish(stub, V1, READ)
    before = await stub.Answer(ask())
    process.kill()
    (broken / "adapter_model.safetensors").write_bytes(b"damaged")
    process.start()
    async with grpc.aio.insecure_channel(process.address) as channel:
        again = StudentServiceStub(channel)
        assert await again.Answer(ask()) == before
        assert [a.name for a in (await again.ListAdapters(ListAdaptersRequest())).adapters] == [V1]
    assert "ADAPTER_DAMAGED" in process.log.read_text()
    assert process.stop() == 0, "SIGTERM ends it in order"
    process.start()
    shutil.rmtree(broken.parent)


async def test_adapters_that_cannot_be_served_are_refused_with_the_reason(
    stub: StudentServiceStub, artifacts: Path, model: Path
) -> None:
    other = make_adapter(artifacts, "adapters/bad@other", model, digest="0" * 64)
    damaged = make_adapter(artifacts, "adapters/bad@damaged", model)
    weights = damaged / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    missing = make_adapter(artifacts, "adapters/bad@missing", model)
    (missing / "adapter_config.json").unlink()
    make_adapter(artifacts, "adapters/bad@dora", model, use_dora=True)
    nonsense = make_adapter(artifacts, "adapters/bad@nonsense", model)
    (nonsense / "adapter_model.safetensors").write_bytes(b"not safetensors")
    write_manifest(nonsense, json_digest(damaged))
    pickled = make_adapter(artifacts, "adapters/bad@pickled", model)
    text = (pickled / "manifest.json").read_text().replace("adapter_model.safetensors", "adapter_model.bin")
    (pickled / "manifest.json").write_text(text)
    unfinished = make_adapter(artifacts, "adapters/bad@unfinished", model)
    (unfinished / "manifest.json").write_text("{")
    code = grpc.StatusCode
    for version, status, reason in (
        ("other", code.FAILED_PRECONDITION, "ADAPTER_BASE_MISMATCH"),
        ("damaged", code.DATA_LOSS, "ADAPTER_DAMAGED"),
        ("missing", code.DATA_LOSS, "ADAPTER_DAMAGED"),
        ("unfinished", code.DATA_LOSS, "ADAPTER_DAMAGED"),
        ("dora", code.FAILED_PRECONDITION, "ADAPTER_UNSUPPORTED"),
        ("nonsense", code.FAILED_PRECONDITION, "ADAPTER_UNSUPPORTED"),
        ("pickled", code.FAILED_PRECONDITION, "ADAPTER_UNSUPPORTED"),
        ("absent", code.NOT_FOUND, "ADAPTER_NOT_FOUND"),
    ):
        found = await fails(stub.LoadAdapter(LoadAdapterRequest(adapter=f"adapters/bad@{version}")))
        assert found[:2] == (status, reason), version
    for name in (
        "",
        "adapters/a",
        "adapters/../x@1",
        "adapters/a@..",
        "adapters/a/b@1",
        "adapters/a@1/../../..",
        "a@1",
    ):
        assert (await fails(stub.LoadAdapter(LoadAdapterRequest(adapter=name))))[0] == code.INVALID_ARGUMENT, name
    assert not (await stub.ListAdapters(ListAdaptersRequest())).adapters
    shutil.rmtree(other.parent)


def json_digest(folder: Path) -> str:
    import json

    return json.loads((folder / "manifest.json").read_text())["base_digest"]


async def test_knowledge_that_cannot_be_read_fails_with_the_reason(
    stub: StudentServiceStub, knowledge_server: KnowledgeServer
) -> None:
    code, reason, detail = await fails(stub.Answer(ask(retrieval=Retrieval(knowledge_base="knowledgeBases/gone"))))
    assert (code, detail.resource_name) == (grpc.StatusCode.NOT_FOUND, "knowledgeBases/gone")
    knowledge_server.stop()
    code, reason, detail = await fails(stub.Answer(ask(retrieval=READ)))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "KNOWLEDGE_UNAVAILABLE")
    assert detail.retry_delay.ToMilliseconds() > 0
    assert (await stub.Answer(ask())).text, "questions without knowledge are answered all the same"
    knowledge_server.start()
    async with asyncio.timeout(60):
        while not (await batch(stub, [ask(retrieval=READ)]))["r0"].HasField("response"):  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def test_work_that_nobody_waits_for_ends(stub: StudentServiceStub) -> None:
    long = Decoding(max_new_tokens=500, temperature=1.0, seed=3)
    code = (await fails(stub.Answer(ask(decoding=long), timeout=0.05)))[0]
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    calls = [stub.Answer(ask(i, decoding=long)) for i in range(8)]
    await asyncio.sleep(0.1)
    for call in calls:
        call.cancel()
    started = time.monotonic()
    answer: AnswerResponse = await stub.Answer(ask())
    assert answer.text and time.monotonic() - started < 20


async def test_wrong_fields_are_named(stub: StudentServiceStub) -> None:
    for request, field in (
        (AnswerRequest(), "request.question"),
        (AnswerRequest(question="q" * 32769), "request.question"),
        (ask(adapter="nonsense"), "adapter"),
        (ask(decoding=Decoding(temperature=-1)), "request.decoding.temperature"),
        (ask(decoding=Decoding(temperature=float("nan"))), "request.decoding.temperature"),
        (ask(decoding=Decoding(top_p=1.5)), "request.decoding.top_p"),
        (ask(decoding=Decoding(max_new_tokens=100000)), "request.decoding.max_new_tokens"),
        (ask(retrieval=Retrieval(top_k=21)), "request.retrieval.top_k"),
        (ask(given_entries=[""]), "request.given_entries"),
    ):
        code, _, detail = await fails(stub.Answer(request))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert detail.field_violations[0].field == field
    assert (await fails(stub.Answer(ask(adapter="aliases/none"))))[:2] == (grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND")


async def test_questions_and_answers_are_not_logged(stub: StudentServiceStub, process: Process) -> None:
    answer = await stub.Answer(AnswerRequest(question="What is the secret word?", given_entries=["It is xyzzy."]))
    await fails(stub.Answer(AnswerRequest(question="What is the secret word?" * 100)))
    log = process.log.read_text()
    assert "secret word" not in log and "xyzzy" not in log and answer.text not in log
