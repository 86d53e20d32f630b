"""Where the services are, and calls to them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from nesycd.extraction.v1 import ExtractionServiceStub
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.runs.v1 import RunServiceStub
from nesycd.student.v1 import StudentServiceStub
from nesycd.teacher.v1 import TeacherServiceStub

from cli.stack import SERVICES, Stack
from services.common.channel import connect

STUBS: dict[str, Callable[..., Any]] = {
    "teacher": TeacherServiceStub,
    "knowledge": KnowledgeServiceStub,
    "extraction": ExtractionServiceStub,
    "student": StudentServiceStub,
    "runs": RunServiceStub,
}
FULL_NAMES = {
    "teacher": "nesycd.teacher.v1.TeacherService",
    "knowledge": "nesycd.knowledge.v1.KnowledgeService",
    "extraction": "nesycd.extraction.v1.ExtractionService",
    "student": "nesycd.student.v1.StudentService",
    "runs": "nesycd.runs.v1.RunService",
}


def address(service: str) -> str:
    """Address of a service: $NESYCD_<SERVICE>_ADDRESS, else this machine's.

    Raises:
        Problem: Neither is there.
    """
    assert service in SERVICES
    return os.environ.get(f"NESYCD_{service.upper()}_ADDRESS") or Stack().addresses()[service]


@asynccontextmanager
async def stub(service: str) -> AsyncIterator[Any]:
    """A stub of a service, its channel closed at the end."""
    channel = connect(address(service))
    try:
        yield STUBS[service](channel)
    finally:
        await channel.close()


def call(service: str, method: str, request: Any, *, timeout: float = 60) -> Any:
    """One unary call.

    Args:
        service: Which service, for instance "knowledge".
        method: The method's name.
        request: Its request.
        timeout: Longest wait, in seconds.

    Returns:
        The response.

    Raises:
        grpc.aio.AioRpcError: The call failed.
    """

    async def do() -> Any:
        async with stub(service) as client:
            return await getattr(client, method)(request, timeout=timeout)

    return run(do())


def run(work: Awaitable[Any]) -> Any:
    """Runs a coroutine to its end."""
    return asyncio.run(work)  # type: ignore[arg-type]
