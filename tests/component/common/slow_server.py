"""A server as a process of its own, for the tests beside it: its only method waits as many seconds as it is told."""

from __future__ import annotations

import asyncio
import os

import grpc
from google.protobuf.wrappers_pb2 import DoubleValue, StringValue

from services.common.server import Service, run, serve
from services.common.settings import ServerSettings


async def wait(request: DoubleValue, _context: grpc.aio.ServicerContext) -> StringValue:
    await asyncio.sleep(request.value)
    return StringValue(value="done")


def add(_servicer: object, server: grpc.aio.Server) -> None:
    handler = grpc.unary_unary_rpc_method_handler(wait, DoubleValue.FromString, StringValue.SerializeToString)
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
