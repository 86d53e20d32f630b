from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from nesycd.extraction.v1 import extraction_pb2
from nesycd.knowledge.v1 import knowledge_pb2
from nesycd.runs.v1 import runs_pb2
from nesycd.student.v1 import student_pb2
from nesycd.teacher.v1 import teacher_pb2

from services.common import context, errors
from services.common import server as server_module
from services.common.channel import IDEMPOTENT_METHODS, connect
from services.common.server import Server, Service
from services.common.settings import ServerSettings
from tests.unit.common.conftest import NAME, Client, Echo, add_echo

UNARY = "test.v1.EchoService/Unary"


@pytest.mark.parametrize("kind", ("Unary", "ServerStream", "ClientStream", "Both"))
async def test_request_id_and_remaining_deadline_go_on_to_further_calls(start, echo, kind):
    _, client = await start()

    async def onward(_call):
        await asyncio.sleep(0.2)
        return (await client.call(kind, "leaf"))[-1]

    echo.actions["go"] = onward
    assert (await client.unary("go", timeout=5, metadata=(("x-request-id", "trace-9"),))).value == "leaf"
    first, second = echo.seen
    assert first["request_id"] == second["request_id"] == "trace-9"
    # The wire format rounds a timeout up by less than a hundredth.
    assert 0 < second["remaining"] < first["remaining"] - 0.1 < 5


async def test_a_shorter_timeout_of_the_call_itself_wins(start, echo):
    _, client = await start()
    with context.timeout(60):
        await client.unary("a", timeout=2)
        await client.unary("b")
    assert echo.seen[0]["remaining"] <= 2.1
    assert 50 < echo.seen[1]["remaining"] <= 61
    await client.unary("c")
    assert echo.seen[2]["remaining"] is None


async def test_the_channels_own_timeout_bounds_calls_without_one(start, echo):
    _, client = await start(channel={"timeout": 3})
    await client.unary("a")
    assert 0 < echo.seen[0]["remaining"] <= 3.1


async def test_with_no_time_left_a_call_fails_without_being_made(start, echo):
    _, client = await start()
    with context.timeout(0), pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.unary()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert echo.seen == []


@pytest.mark.parametrize(("methods", "calls"), [((UNARY,), 2), (("test.v1.EchoService",), 2), ((), 1)])
async def test_only_methods_named_idempotent_are_repeated(start, echo, methods, calls):
    async def flaky(_call):
        if len(echo.seen) == 1:
            raise errors.Unavailable("down for a moment", retry_after=0.01)
        return "up"

    echo.actions["flaky"] = flaky
    _, client = await start(channel={"idempotent": methods})
    if calls == 2:
        assert (await client.unary("flaky")).value == "up"
    else:
        with pytest.raises(grpc.aio.AioRpcError):
            await client.unary("flaky")
    assert len(echo.seen) == calls


async def test_a_long_retry_after_is_left_to_the_caller(start, echo):
    async def down(_call):
        raise errors.Unavailable("the teacher is down", retry_after=30)

    echo.actions["down"] = down
    _, client = await start(channel={"idempotent": (UNARY,)})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(5):
            await client.unary("down")
    assert errors.from_rpc_error(caught.value).retry_after == 30
    assert len(echo.seen) == 1


async def test_calls_are_spread_over_all_addresses_of_a_name():
    echoes = [Echo(), Echo()]
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                Server(ServerSettings(grace_seconds=0), [Service(NAME, None, add_echo, echo)])
            )
            for echo in echoes
        ]
        # As the headless Service of a cluster does, whose name has the address of every pod.
        target = "ipv4:" + ",".join(server.address for server in servers)
        client = Client(await stack.enter_async_context(connect(target)))
        await until_both_answer(client, echoes)
        for echo in echoes:
            echo.seen.clear()
        for _ in range(20):
            await client.unary("x")
        assert [len(echo.seen) for echo in echoes] == [10, 10]


async def test_a_connection_that_is_made_anew_loses_no_call(monkeypatch):
    monkeypatch.setattr(server_module, "_CONNECTION_AGE_MS", 200)
    echo, ends = Echo(), asyncio.get_running_loop().time() + 1.5

    async def slow(_call):
        await asyncio.sleep(0.03)
        return "x"

    async def long(_call):
        await asyncio.sleep(1)
        return "long"

    echo.actions |= {"x": slow, "long": long}
    service = Service(NAME, None, add_echo, echo)
    async with (
        Server(ServerSettings(grace_seconds=0), [service]) as server,
        connect(server.address, retry=False) as one,
    ):
        client = Client(one)

        async def repeat():
            while asyncio.get_running_loop().time() < ends:
                assert (await client.unary("x")).value == "x"

        done = await asyncio.gather(client.call("ServerStream", "long"), *(repeat() for _ in range(4)))
    assert done[0] == ["first", "long"]


async def until_both_answer(client: Client, echoes: list[Echo]) -> None:
    async with asyncio.timeout(5):
        while not all(echo.seen for echo in echoes):
            await client.unary("x", wait_for_ready=True)


async def test_a_channel_looks_for_its_peer_before_the_first_call():
    came = asyncio.Event()
    listener = await asyncio.start_server(lambda reader, writer: came.set(), "127.0.0.1", 0)
    async with listener, connect(f"localhost:{listener.sockets[0].getsockname()[1]}"):
        await asyncio.wait_for(came.wait(), 30)


async def test_a_peer_that_is_slow_to_connect_is_waited_for():
    async def slowly(reader, writer):
        while data := await reader.read(65536):
            await asyncio.sleep(0.5)
            writer.write(data)
        writer.close()

    async def accept(reader, writer):
        other_reader, other_writer = await asyncio.open_connection(*server.address.rsplit(":", 1))
        await asyncio.gather(slowly(reader, other_writer), slowly(other_reader, writer), return_exceptions=True)

    service = Service(NAME, None, add_echo, Echo())
    async with Server(ServerSettings(grace_seconds=0), [service]) as server:
        between = await asyncio.start_server(accept, "127.0.0.1", 0)
        async with between, connect(f"127.0.0.1:{between.sockets[0].getsockname()[1]}", retry=False) as channel:
            assert (await Client(channel).unary("x")).value == "x"


async def test_nobody_listening_is_unavailable():
    async with connect("127.0.0.1:1", retry=False) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/a.B/C")(b"", timeout=5)
    read = errors.from_rpc_error(caught.value)
    assert isinstance(read, errors.Unavailable) and read.reason == "UNAVAILABLE"


def test_the_idempotent_methods_exist_in_the_contracts():
    files = [teacher_pb2, knowledge_pb2, extraction_pb2, student_pb2, runs_pb2]
    existing = {
        f"{service.full_name}/{method.name}"
        for module in files
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert set(IDEMPOTENT_METHODS) <= existing
