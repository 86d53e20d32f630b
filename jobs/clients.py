"""Calls to the services, made so that any of them may be killed and come back at any moment.

A call that finds its service away is repeated with growing pauses, for as long as patience lasts; of a stream only the rows
that have no result yet are sent again. Between any two messages the run is asked whether it is to stop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self

import grpc
from nesycd.extraction.v1 import ExtractionServiceStub
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.student.v1 import StudentServiceStub
from nesycd.teacher.v1 import TeacherServiceStub

from jobs.settings import Settings
from services.common import errors, rows
from services.common.channel import connect
from services.common.errors import NesycdError

_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
_ODD = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
_ENDS_RUN = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_ENDS_RUN_REASONS = frozenset(
    {"TEACHER_KEY_REFUSED", "PRICE_UNKNOWN", "BUDGET_EXHAUSTED", "NO_EMBEDDER", "CACHE_DAMAGED"}
)
_ODD_TRIES = 3
_LONGEST_PAUSE = 5.0


def is_away(error: NesycdError) -> bool:
    """Whether the same call may succeed later without anybody's doing."""
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return error.retry_after is not None
    return error.code in _AWAY


def ends_run(error: NesycdError) -> bool:
    """Whether the error of one row means that no other row can do better: no key, no budget, no such model, no disk."""
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return error.retry_after is None
    return error.code in _ENDS_RUN or error.reason in _ENDS_RUN_REASONS


class Patience:
    """Waits between attempts, until it is used up.

    Args:
        seconds: How long a service may be away.
        check: Raises where the run is to stop.
        note: Told what is waited for.
    """

    def __init__(self, seconds: float, check: Callable[[], None], note: Callable[[str], None]) -> None:
        self._seconds, self._check, self._note = seconds, check, note
        self._since: float | None = None
        self._attempt = 0
        self._odd = 0

    def reset(self) -> None:
        """Something got on: an outage that follows is a new one."""
        self._since, self._attempt, self._odd = None, 0, 0

    async def wait(self, error: NesycdError, what: str) -> None:
        """Pauses after a failed attempt, or raises the error where waiting does not help (any more)."""
        if error.code in _ODD:
            self._odd += 1
            if self._odd >= _ODD_TRIES:
                raise error
        elif not is_away(error):
            raise error
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since > self._seconds:
            error.message = f"the {what} service was away for {now - self._since:.0f} seconds: {error.message}"
            raise error
        pause = max(min(_LONGEST_PAUSE, 0.2 * 2**self._attempt), min(error.retry_after or 0.0, 60.0))
        self._attempt = min(self._attempt + 1, 10)
        self._note(f"waits for the {what} service: {error.message[:120]}")
        end = now + pause
        while (left := end - time.monotonic()) > 0:
            self._check()
            await asyncio.sleep(min(left, 0.5))


class Services:
    """The four services that a stage calls; ``async with``.

    Args:
        settings: Addresses and deadlines.
        check: Raises where the run is to stop.
        note: Told what is waited for.
    """

    def __init__(
        self,
        settings: Settings,
        check: Callable[[], None] = lambda: None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._settings, self.check, self._note = settings, check, note
        self._channels: list[grpc.aio.Channel] = []

    async def __aenter__(self) -> Self:
        settings = self._settings

        def channel(address: str) -> grpc.aio.Channel:
            # Repeating is done here, where a run can be asked whether it is to stop meanwhile.
            opened = connect(address, retry=False, **settings.peer_options())
            self._channels.append(opened)
            return opened

        self.teacher = TeacherServiceStub(channel(settings.teacher_address))
        self.knowledge = KnowledgeServiceStub(channel(settings.knowledge_address))
        self.extraction = ExtractionServiceStub(channel(settings.extraction_address))
        self.student = StudentServiceStub(channel(settings.student_address))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for channel in self._channels:
            await channel.close()

    def patience(self) -> Patience:
        """For one piece of work that may have to wait."""
        return Patience(self._settings.patience_seconds, self.check, self._note)

    async def call(self, method: Any, request: Any, *, what: str, seconds: float | None = None) -> Any:
        """A unary call, or one with a stream of requests given as a list.

        Args:
            method: Of a stub.
            request: The message, or a list of messages.
            what: The service's name, for the note and errors.
            seconds: Deadline of one attempt.

        Raises:
            NesycdError: It cannot succeed, or the service was away for too long.
        """
        patience = self.patience()
        while True:
            self.check()
            try:
                return await self.once(method, request, seconds=seconds)
            except NesycdError as error:
                await patience.wait(error, what)

    async def once(self, method: Any, request: Any, *, seconds: float | None = None) -> Any:
        """One attempt at a `call`, also of a run that is to stop.

        Raises:
            NesycdError: It failed.
        """
        try:
            given = iter(request) if isinstance(request, list) else request
            return await method(given, timeout=seconds or self._settings.call_seconds)
        except grpc.aio.AioRpcError as error:
            raise errors.from_rpc_error(error) from None

    async def download(self, method: Any, request: Any, *, what: str, seconds: float | None = None) -> bytes:
        """The bytes of a call that answers with a stream of ``data``.

        Args:
            method: Of a stub.
            request: The message.
            what: The service's name, for the note and errors.
            seconds: Deadline of one attempt at all of it.

        Raises:
            NesycdError: As `call`.
        """
        patience = self.patience()
        while True:
            self.check()
            call = method(request, timeout=seconds or self._settings.call_seconds)
            parts = []
            try:
                async for message in call:
                    self.check()
                    parts.append(message.data)
                return b"".join(parts)
            except grpc.aio.AioRpcError as error:
                await patience.wait(errors.from_rpc_error(error), what)
            finally:
                call.cancel()

    async def stream(self, method: Any, messages: Sequence[Any], *, window: int | None = None) -> AsyncIterator[Any]:
        """One attempt at a bidirectional stream.

        Args:
            method: Of a stub.
            messages: The requests; each is answered by one response.
            window: At most so many requests without a response.

        Raises:
            NesycdError: The stream broke off, or nothing came for too long.
        """
        slots = asyncio.Semaphore(window or len(messages) or 1)

        async def requests() -> AsyncIterator[Any]:
            for message in messages:
                await slots.acquire()
                yield message

        call = method(requests(), timeout=float(self._settings.stage_seconds))
        reading: asyncio.Task[Any] | None = None
        try:
            while True:
                reading = asyncio.ensure_future(call.read())
                waited = 0.0
                while not reading.done():
                    await asyncio.wait({reading}, timeout=0.5)
                    self.check()
                    waited += 0.5
                    if waited > self._settings.silence_seconds and not reading.done():
                        raise errors.DeadlineExceeded(
                            f"no result came for {self._settings.silence_seconds:.0f} seconds; "
                            "if the service is only slow, raise NESYCD_JOBS_SILENCE_SECONDS"
                        )
                message = reading.result()
                if message is grpc.aio.EOF:
                    return
                slots.release()
                yield message
        except grpc.aio.AioRpcError as error:
            raise errors.from_rpc_error(error) from None
        finally:
            if reading and not reading.done():
                reading.cancel()
            call.cancel()

    async def batch(
        self, method: Any, messages: Mapping[str, Any], *, what: str, key: Callable[[Any], str] = lambda m: m.row_id,
        window: int | None = None, whole: bool = False, on_result: Callable[[Any], None] = lambda message: None,
    ) -> dict[str, Any]:  # fmt: skip
        """All results of a batch, however often its service is killed meanwhile.

        Args:
            method: A bidirectional method of a stub.
            messages: The requests by row id.
            what: The service's name.
            key: Row id of a result.
            window: At most so many requests without a result.
            whole: After a failure all rows are sent again, not only the missing ones: for answers that depend on which
                rows are answered together.
            on_result: Told of each result for good.

        Returns:
            The results by row id: a response, or an error of the row's own.

        Raises:
            NesycdError: The stream failed for good, or a row's error means that no row can do better.
        """
        results: dict[str, Any] = {}
        patience = self.patience()
        while missing := [row_id for row_id in messages if row_id not in results]:
            failure: NesycdError | None = None
            got: dict[str, Any] = {}
            try:
                async for message in self.stream(method, [messages[r] for r in missing], window=window):
                    row_id = key(message)
                    error = row_error(message)
                    if error is not None and ends_run(error):
                        raise error
                    if error is not None and (is_away(error) or error.code in _ODD):
                        failure = error
                        continue
                    got[row_id] = message
                    if not whole:
                        results[row_id] = message
                        on_result(message)
                        patience.reset()
            except NesycdError as error:
                failure = error
            if whole and len(got) == len(missing):
                results.update(got)
                for message in got.values():
                    on_result(message)
            elif failure is not None:
                await patience.wait(failure, what)
            elif len(got) < len(missing):
                await patience.wait(errors.Unavailable(f"the {what} service left rows unanswered"), what)
        return results


def row_error(message: Any) -> NesycdError | None:
    """The error of one row's result, or None."""
    return rows.row_error(message.error) if message.WhichOneof("result") == "error" else None
