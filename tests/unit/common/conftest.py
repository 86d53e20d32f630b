"""A small service without generated code, served in this process, for the tests of the interceptor and the channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.common import context
from services.common.channel import connect
from services.common.server import Server, Service
from services.common.settings import ServerSettings

NAME = "test.v1.EchoService"


class Echo:
    """All four kinds of call; what they do is decided by the functions that a test puts in ``actions`` by request value."""

    def __init__(self) -> None:
        self.actions: dict[str, Callable[[grpc.aio.ServicerContext], Awaitable[Any]]] = {}
        self.seen: list[dict[str, Any]] = []

    async def _act(self, request: StringValue, call: grpc.aio.ServicerContext) -> StringValue:
        self.seen.append({"request_id": context.request_id.get(), "remaining": context.remaining()})
        action = self.actions.get(request.value)
        result = await action(call) if action else request.value
        return result if isinstance(result, StringValue) else StringValue(value=str(result))

    async def unary(self, request: StringValue, call: grpc.aio.ServicerContext) -> StringValue:
        return await self._act(request, call)

    async def server_stream(self, request: StringValue, call: grpc.aio.ServicerContext) -> AsyncIterator[StringValue]:
        yield StringValue(value="first")
        yield await self._act(request, call)

    async def client_stream(self, requests: AsyncIterator[StringValue], call: grpc.aio.ServicerContext) -> StringValue:
        return StringValue(value=",".join([(await self._act(request, call)).value async for request in requests]))

    async def both(
        self, requests: AsyncIterator[StringValue], call: grpc.aio.ServicerContext
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield await self._act(request, call)

    async def written(self, requests: AsyncIterator[StringValue], call: grpc.aio.ServicerContext) -> None:
        async for request in requests:
            await call.write(await self._act(request, call))

    def generated(self, request: StringValue, call: grpc.aio.ServicerContext) -> StringValue:
        call.set_code(grpc.StatusCode.UNIMPLEMENTED)  # what generated base classes do
        call.set_details("Method not implemented!")
        raise NotImplementedError("Method not implemented!")


def add_echo(echo: Echo, server: grpc.aio.Server) -> None:
    codec = (StringValue.FromString, StringValue.SerializeToString)
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(echo.unary, *codec),
        "ServerStream": grpc.unary_stream_rpc_method_handler(echo.server_stream, *codec),
        "ClientStream": grpc.stream_unary_rpc_method_handler(echo.client_stream, *codec),
        "Both": grpc.stream_stream_rpc_method_handler(echo.both, *codec),
        "Written": grpc.stream_stream_rpc_method_handler(echo.written, *codec),
        "Generated": grpc.unary_unary_rpc_method_handler(echo.generated, *codec),
        "GeneratedStream": grpc.unary_stream_rpc_method_handler(echo.generated, *codec),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))


class Client:
    """Calls `Echo` with plain strings."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    def method(self, kind: str, name: str) -> Callable[..., Any]:
        return getattr(self.channel, kind)(f"/{NAME}/{name}", StringValue.SerializeToString, StringValue.FromString)

    def unary(self, value: str = "x", **kwargs: Any) -> Any:
        return self.method("unary_unary", "Unary")(StringValue(value=value), **kwargs)

    async def call(self, kind: str, value: str, **kwargs: Any) -> list[str]:
        """Calls the method of a kind with one request; returns the responses' values."""
        one = StringValue(value=value)
        if kind == "Unary":
            return [(await self.unary(value, **kwargs)).value]
        if kind == "ServerStream":
            return [m.value async for m in self.method("unary_stream", kind)(one, **kwargs)]
        if kind == "ClientStream":
            return [(await self.method("stream_unary", kind)(iter([one]), **kwargs)).value]
        return [m.value async for m in self.method("stream_stream", kind)(iter([one]), **kwargs)]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def start(echo: Echo) -> AsyncIterator[Callable[..., Awaitable[tuple[Server, Client]]]]:
    """Starts a server with given settings, and a client of it."""
    async with AsyncExitStack() as stack:

        async def begin(
            *, channel: dict[str, Any] | None = None, ready: Any = None, **settings: Any
        ) -> tuple[Server, Client]:
            service = Service(NAME, None, add_echo, echo)
            server = Server(ServerSettings(**{"grace_seconds": 0.3, **settings}), [service], ready=ready)
            await server.start()
            stack.push_async_callback(server.stop, 0)
            if ready is None:
                await server.make_ready()
            client = await stack.enter_async_context(connect(server.address, **(channel or {})))
            return server, Client(client)

        yield begin


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.005)


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Awaitable[None]]:
    return until
