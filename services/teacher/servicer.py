"""TeacherService: gRPC on the outside, the proxy inside."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from google.protobuf.json_format import MessageToDict
from nesycd.teacher.v1 import (
    BatchGenerateRequest,
    BatchGenerateResponse,
    FinishReason,
    GenerateRequest,
    GenerateResponse,
    GenerateStreamRequest,
    GenerateStreamResponse,
    GetUsageRequest,
    GetUsageResponse,
    TeacherServiceServicer,
    UsageRow,
)
from nesycd.teacher.v1 import Sampling as SamplingProto
from nesycd.teacher.v1 import Usage as UsageProto

from services.common import context as call_context
from services.common import errors
from services.common.logs import get_logger
from services.common.rows import row_status
from services.teacher.proxy import NANO, Proxy
from services.teacher.settings import Settings
from services.teacher.types import Answer, Message, Question, Sampling, Spent

log = get_logger(__name__)


class Servicer(TeacherServiceServicer):
    """See protos/nesycd/teacher/v1/teacher.proto."""

    def __init__(self, proxy: Proxy, settings: Settings) -> None:
        self._proxy = proxy
        self._settings = settings
        named = f"{settings.backend}\n{settings.upstream_url}\n{settings.default_model}"
        self._default_teacher = hashlib.sha256(named.encode()).hexdigest()[:32]

    async def Generate(self, request: GenerateRequest, context: grpc.aio.ServicerContext) -> GenerateResponse:
        """Answers one request."""
        return answer_proto(await self._proxy.generate(question_of(request, self._settings)))

    async def GenerateStream(
        self, request: GenerateStreamRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[GenerateStreamResponse]:
        """Answers one request in pieces; a piece is given out before the whole is judged, and the end says that it held."""
        async for event in self._proxy.generate_live(question_of(request.request, self._settings)):
            if isinstance(event, str):
                yield GenerateStreamResponse(chunk=event)
            else:
                yield GenerateStreamResponse(complete=answer_proto(event))

    async def BatchGenerate(
        self, request_iterator: AsyncIterator[BatchGenerateRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[BatchGenerateResponse]:
        """Answers rows as they are ready. A row's place is free again when its result was taken: so a slow reader slows
        the work, instead of filling the memory."""
        places = asyncio.Semaphore(self._settings.batch_concurrency)
        results: asyncio.Queue[BatchGenerateResponse | None] = asyncio.Queue()

        async def work(row: BatchGenerateRequest) -> None:
            results.put_nowait(await self._row(row))

        async def read() -> None:
            try:
                async with asyncio.TaskGroup() as rows:
                    await places.acquire()
                    async for row in request_iterator:
                        rows.create_task(work(row))
                        await places.acquire()
            finally:
                results.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (result := await results.get()) is not None:
                yield result
                places.release()
            await reader
        finally:
            reader.cancel()

    async def _row(self, row: BatchGenerateRequest) -> BatchGenerateResponse:
        try:
            if len(row.row_id) > 1024:
                raise errors.InvalidArgument("row_id must have at most 1024 characters", field="row_id")
            answer = await self._proxy.generate(question_of(row.request, self._settings))
            return BatchGenerateResponse(row_id=row.row_id, response=answer_proto(answer))
        except Exception as error:
            known = errors.from_exception(error)
            if known is None:
                log.exception("row_failed")
                known = errors.internal(call_context.request_id.get())
            return BatchGenerateResponse(row_id=row.row_id, error=row_status(known))

    async def GetUsage(self, request: GetUsageRequest, context: grpc.aio.ServicerContext) -> GetUsageResponse:
        """Sums tokens and money."""
        rows = await self._proxy.usage(request.run, request.caller)
        total = Spent(
            sum(row.spent.prompt_tokens for row in rows),
            sum(row.spent.completion_tokens for row in rows),
            sum(row.spent.nano_usd for row in rows),
        )
        return GetUsageResponse(
            default_teacher=self._default_teacher,
            rows=[
                UsageRow(
                    model=row.model,
                    caller=row.caller,
                    run=row.run,
                    calls=row.calls,
                    cached_calls=row.cached_calls,
                    usage=_usage(row.spent),
                    failed_attempts=row.failed_attempts,
                )
                for row in rows
            ],
            total=_usage(total),
        )


def question_of(request: GenerateRequest, settings: Settings) -> Question:
    """Reads a request and fills the defaults in; whether it makes sense is checked by the core."""
    sampling = request.sampling
    schema: dict[str, Any] | None = None
    if request.response_format.HasField("json_schema"):
        schema = MessageToDict(request.response_format.json_schema)
    return Question(
        messages=tuple(Message(message.role, message.content) for message in request.messages),
        model=request.model or settings.default_model,
        sampling=Sampling(
            sampling.temperature if sampling.HasField("temperature") else settings.default_temperature,
            sampling.top_p if sampling.HasField("top_p") else settings.default_top_p,
            sampling.max_tokens if sampling.HasField("max_tokens") else settings.default_max_tokens,
            sampling.seed if sampling.HasField("seed") else None,
            tuple(sampling.stop),
        ),
        schema=schema,
        schema_name=request.response_format.name,
        sample=request.sample,
        run=request.run,
        caller=request.caller,
        skip_cache=request.skip_cache,
        budget_usd=request.run_budget_usd,
    )


def answer_proto(answer: Answer) -> GenerateResponse:
    """Writes an answer as the contract has it."""
    sampling = answer.sampling
    return GenerateResponse(
        text=answer.text,
        reasoning=answer.reasoning,
        finish_reason=FinishReason.FINISH_REASON_STOP,
        model=answer.model,
        usage=_usage(answer.spent),
        effective_sampling=SamplingProto(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            stop=sampling.stop,
        ),
        cached=answer.cached,
        call=answer.call,
        attempts=answer.attempts,
    )


def _usage(spent: Spent) -> UsageProto:
    return UsageProto(
        prompt_tokens=spent.prompt_tokens,
        completion_tokens=spent.completion_tokens,
        cost_usd=spent.nano_usd / NANO,
    )
