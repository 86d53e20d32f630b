"""The gRPC face of the student: messages to the core's types and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from nesycd.student import v1 as student

from method.prompts import Demonstration
from services.common.errors import Internal, InvalidArgument, NesycdError
from services.common.ordered import map_in_order
from services.common.pages import decode_page_token, encode_page_token, is_text, page_size
from services.common.rows import row_status
from services.student.adapters import Adapters
from services.student.answering import Answer, Answering
from services.student.engines.base import Decoding
from services.student.questions import Mode, Question, check_retrieval
from services.student.registry import AdapterInfo, Alias, Retrieval

_MODES: dict[int, Mode] = {
    student.ANSWER_MODE_UNSPECIFIED: "cot",
    student.ANSWER_MODE_CHAIN_OF_THOUGHT: "cot",
    student.ANSWER_MODE_ANSWER_ONLY: "answer",
    student.ANSWER_MODE_ZERO_SHOT: "zero_shot",
    student.ANSWER_MODE_ZERO_SHOT_ANSWER: "zero_shot_answer",
    student.ANSWER_MODE_CASCADE: "cascade",
}
_GROUPS_AHEAD = 1
"""Groups of a stream that are prepared while another one is answered."""


@dataclass
class Core:
    """What the servicer speaks for; filled once the model is loaded, before the first call is let in."""

    answering: Answering = field(init=False)
    adapters: Adapters = field(init=False)
    base_model: str = ""
    max_batch: int = 48
    batch_idle_seconds: float = 2.0
    max_new_tokens: int = 128


class StudentServicer(student.StudentServiceServicer):
    """See the contract."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def Answer(self, request: student.AnswerRequest, context: grpc.aio.ServicerContext) -> student.AnswerResponse:
        """One question."""
        return _answer_to_proto(await self._core.answering.answer(self._question(request)))

    async def AnswerStream(
        self, request: student.AnswerStreamRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[student.AnswerStreamResponse]:
        """One question, in pieces."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def on_text(text: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, text)

        question = self._question(request.request)
        answering = asyncio.create_task(self._core.answering.answer(question, on_text))
        # Behind whatever the engine's thread has still to hand over.
        answering.add_done_callback(lambda _: loop.call_soon(pieces.put_nowait, None))
        try:
            while (piece := await pieces.get()) is not None:
                # What has come in the meantime goes into the same message.
                while not pieces.empty() and (more := pieces.get_nowait()) is not None:
                    piece += more
                yield student.AnswerStreamResponse(chunk=piece)
                if answering.done() and pieces.empty():
                    break
            yield student.AnswerStreamResponse(complete=_answer_to_proto(await answering))
        finally:
            answering.cancel()

    async def BatchAnswer(
        self, request_iterator: AsyncIterator[student.BatchAnswerRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[student.BatchAnswerResponse]:
        """Many questions, in groups in the order in which they come."""
        async with (
            aclosing(self._groups(request_iterator)) as groups,
            aclosing(map_in_order(self._answer_rows, groups, concurrency=1 + _GROUPS_AHEAD)) as answered,
        ):
            async for responses in answered:
                for response in responses:
                    yield response

    async def _groups(
        self, requests: AsyncIterator[student.BatchAnswerRequest]
    ) -> AsyncGenerator[list[student.BatchAnswerRequest], None]:
        """Rows in full groups. A client that waits for answers before it sends more gets a group that is not full."""
        rows: asyncio.Queue[student.BatchAnswerRequest | None] = asyncio.Queue(self._core.max_batch)

        async def read() -> None:
            try:
                async for request in requests:
                    await rows.put(request)
            except Exception:
                await rows.put(None)  # what came before is answered
                raise
            await rows.put(None)  # not where it is cancelled: nobody would make room for it

        reading = asyncio.create_task(read())
        try:
            group: list[student.BatchAnswerRequest] = []
            ended = False
            while not ended:
                try:
                    row = await asyncio.wait_for(rows.get(), self._core.batch_idle_seconds if group else None)
                except TimeoutError:
                    yield group
                    group = []
                    continue
                ended = row is None
                if row is not None:
                    group.append(row)
                if group and (ended or len(group) == self._core.max_batch):
                    yield group
                    group = []
            await reading
        finally:
            reading.cancel()

    async def _answer_rows(self, rows: list[student.BatchAnswerRequest]) -> list[student.BatchAnswerResponse]:
        questions: list[Question] = []
        errors: dict[int, NesycdError] = {}
        for index, row in enumerate(rows):
            try:
                questions.append(self._question(row.request))
            except NesycdError as error:
                errors[index] = error
        try:
            results = iter(await self._core.answering.answer_group(questions))
        except Exception as error:
            # Logged where it happened; the other groups of the stream go on.
            results = iter([_row_error(error)] * len(questions))
        responses = []
        for index, row in enumerate(rows):
            result = errors[index] if index in errors else next(results)
            response = student.BatchAnswerResponse(row_id=row.row_id)
            if isinstance(result, NesycdError):
                response.error.CopyFrom(row_status(result))
            else:
                response.response.CopyFrom(_answer_to_proto(result))
            responses.append(response)
        return responses

    async def LoadAdapter(
        self, request: student.LoadAdapterRequest, context: grpc.aio.ServicerContext
    ) -> student.LoadAdapterResponse:
        """Loads a version."""
        return student.LoadAdapterResponse(adapter=_adapter_to_proto(await self._core.adapters.load(request.adapter)))

    async def UnloadAdapter(
        self, request: student.UnloadAdapterRequest, context: grpc.aio.ServicerContext
    ) -> student.UnloadAdapterResponse:
        """Forgets a version."""
        await self._core.adapters.unload(request.adapter)
        return student.UnloadAdapterResponse()

    async def ListAdapters(
        self, request: student.ListAdaptersRequest, context: grpc.aio.ServicerContext
    ) -> student.ListAdaptersResponse:
        """What is loaded."""
        size = page_size(request.page_size)
        await self._core.adapters.refresh()
        after = decode_page_token("adapters", request.page_token, is_text) or ""
        left = [info for info in self._core.adapters.loaded() if info.name > after]
        return student.ListAdaptersResponse(
            adapters=[_adapter_to_proto(info) for info in left[:size]],
            next_page_token=encode_page_token("adapters", left[size - 1].name) if len(left) > size else "",
            aliases=[_alias_to_proto(alias) for alias in self._core.adapters.aliases()],
            base_model=self._core.base_model,
        )

    async def SetAlias(
        self, request: student.SetAliasRequest, context: grpc.aio.ServicerContext
    ) -> student.SetAliasResponse:
        """Makes a name stand for a version."""
        retrieval = _retrieval(request.alias.retrieval) if request.alias.HasField("retrieval") else None
        if retrieval is not None:
            check_retrieval(retrieval, "alias.retrieval")
        alias = await self._core.adapters.set_alias(Alias(request.alias.name, request.alias.adapter, retrieval))
        return student.SetAliasResponse(alias=_alias_to_proto(alias))

    def _question(self, request: student.AnswerRequest) -> Question:
        mode = _MODES.get(request.mode)
        if mode is None:
            raise InvalidArgument(f"mode {request.mode} is unknown", field="request.mode")
        wish = request.decoding
        return Question(
            question=request.question,
            task_description=request.task_description,
            adapter=request.adapter,
            retrieval=_retrieval(request.retrieval) if request.HasField("retrieval") else None,
            given_entries=tuple(request.given_entries),
            decoding=Decoding(
                temperature=wish.temperature,
                top_p=wish.top_p or 1.0,
                top_k=wish.top_k,
                seed=wish.seed,
                max_new_tokens=wish.max_new_tokens or self._core.max_new_tokens,
            ),
            mode=mode,
            demonstrations=tuple(Demonstration(d.question, d.rationale, d.answer) for d in request.demonstrations),
        )


def _row_error(error: Exception) -> NesycdError:
    return (
        error if isinstance(error, NesycdError) else Internal("the group could not be answered; see the server's log")
    )


def _retrieval(message: student.Retrieval) -> Retrieval:
    return Retrieval(
        knowledge_base=message.knowledge_base,
        top_k=message.top_k,
        mode=message.mode,
        exclude_sole_source_case=message.exclude_sole_source_case,
        filter=message.filter,
        minimum_score=message.minimum_score,
        disabled=message.disabled,
        gate=message.gate,
    )


def _answer_to_proto(answer: Answer) -> student.AnswerResponse:
    written = answer.written
    return student.AnswerResponse(
        rationale=written.rationale,
        answer=written.answer,
        text=written.text,
        entries=[
            student.UsedEntry(name=entry.name, text=entry.text, revision=entry.revision, score=entry.score)
            for entry in answer.entries
        ],
        dropped_entries=answer.dropped_entries,
        prompt_tokens=written.prompt_tokens,
        completion_tokens=written.completion_tokens,
        truncated=written.truncated,
        adapter=answer.adapter,
        knowledge_version=answer.knowledge_version,
        confidence=written.confidence,
        gated=answer.gated,
    )


def _adapter_to_proto(info: AdapterInfo) -> student.Adapter:
    load_time = Timestamp()
    load_time.FromDatetime(datetime.fromisoformat(info.load_time))
    return student.Adapter(
        name=info.name, base_model=info.base_model, run=info.run, sha256=info.sha256, load_time=load_time
    )


def _alias_to_proto(alias: Alias) -> student.Alias:
    message = student.Alias(name=alias.name, adapter=alias.adapter)
    if alias.retrieval is not None:
        retrieval = alias.retrieval
        message.retrieval.CopyFrom(
            student.Retrieval(
                knowledge_base=retrieval.knowledge_base,
                top_k=retrieval.top_k,
                mode=retrieval.mode,  # type: ignore[arg-type]
                exclude_sole_source_case=retrieval.exclude_sole_source_case,
                filter=retrieval.filter,
                minimum_score=retrieval.minimum_score,
                disabled=retrieval.disabled,
                gate=retrieval.gate,
            )
        )
    return message
