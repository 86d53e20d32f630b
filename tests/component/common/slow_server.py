"""A server as a process of its own, for the tests beside it: its only method waits as many seconds as it is told, or for a line on its stdin."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import grpc
from google.protobuf.wrappers_pb2 import DoubleValue, StringValue

from services.common.server import Service, run, serve
from services.common.settings import ServerSettings


async def wait(request: DoubleValue, _context: grpc.aio.ServicerContext) -> AsyncIterator[StringValue]:
    yield StringValue(value="begun")
    if request.value < 0:
        await asyncio.to_thread(sys.stdin.readline)
    await asyncio.sleep(max(0.0, request.value))
    yield StringValue(value="done")


def add(_servicer: object, server: grpc.aio.Server) -> None:
    handler = grpc.unary_stream_rpc_method_handler(wait, DoubleValue.FromString, StringValue.SerializeToString)
    handlers = grpc.method_handlers_generic_handler("test.v1.SlowService", {"Wait": handler})
    server.add_generic_rpc_handlers((handlers,))


async def ready() -> None:
    match os.environ.get("TEST_READY"):
        case "never":
            await asyncio.sleep(600)
        case "fails":
            raise FileNotFoundError("no model at /models/x")


async def close() -> None:
    print("closed", flush=True)


async def main() -> None:
    await serve(ServerSettings(), [Service("test.v1.SlowService", None, add, object())], ready=ready, close=close)


if __name__ == "__main__":
    run(main)
