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
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from cli.stack import SERVICES, Stack
from services.common.channel import connect
from services.common.errors import InvalidArgument
from services.common.settings import PeerSettings, is_loopback

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


class Settings(PeerSettings):
    """NESYCD_CLI_PEER_TLS_CA and the like: how services elsewhere are called."""

    model_config = SettingsConfigDict(env_prefix="NESYCD_CLI_", env_ignore_empty=True)


def connection(service: str) -> tuple[str, dict[str, Any]]:
    """Where a service is, and how it is called: keyword arguments for `services.common.channel.connect`.

    It is at $NESYCD_<SERVICE>_ADDRESS and called as the settings say, through the environment's proxy where it is on another
    machine; else it is this machine's, which gets no token of others.

    Raises:
        Problem: Neither is there.
        InvalidArgument: A setting is wrong.
    """
    assert service in SERVICES
    given = os.environ.get(f"NESYCD_{service.upper()}_ADDRESS")
    if not given:
        return Stack().addresses()[service], {}
    try:
        options = Settings().peer_options()
    except ValidationError as error:
        raise InvalidArgument.from_pydantic(error, what="a setting NESYCD_CLI_") from None
    host = given.rpartition("/")[2].rpartition(":")[0]
    return given, {**options, "direct": is_loopback(host)}


@asynccontextmanager
async def stub(service: str) -> AsyncIterator[Any]:
    """A stub of a service, its channel closed at the end."""
    address, options = connection(service)
    channel = connect(address, **options)
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
