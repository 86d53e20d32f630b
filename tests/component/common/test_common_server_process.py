"""The server's life as a process: signals, exit codes, what it prints, what listens."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.wrappers_pb2 import DoubleValue, StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common import errors
from services.common.channel import connect
from tests.processes import free_port

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(__file__).with_name("slow_server.py")
NAME = "test.v1.SlowService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Process:
    """The server's process and a channel to it."""

    def __init__(self, ready: str = "", **settings: str) -> None:
        self.port = int(settings.setdefault("port", str(free_port())))
        env = {f"NESYCD_{key.upper()}": value for key, value in settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], cwd=ROOT, env={"PATH": "", "PYTHONPATH": str(ROOT), "TEST_READY": ready, **env},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.channel = connect(f"127.0.0.1:{self.port}", retry=False)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    async def ready(self) -> Process:
        request = health_pb2.HealthCheckRequest(service=NAME)
        async with asyncio.timeout(60):
            async for response in self.health.Watch(request, wait_for_ready=True):
                if response.status == SERVING:
                    return self
        raise AssertionError("unreachable")

    def wait(self, seconds: float) -> Any:
        """A call of so many seconds, less than 0: until `release`. It is told that it has begun, and that it is done."""
        call = self.channel.unary_stream(f"/{NAME}/Wait", DoubleValue.SerializeToString, StringValue.FromString)
        return call(DoubleValue(value=seconds))

    async def waiting(self, seconds: float) -> Any:
        """Such a call, once it has begun there."""
        call = self.wait(seconds)
        assert (await call.read()).value == "begun"
        return call

    def release(self) -> None:
        """Ends a call that waits for it."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    async def ended(self, seconds: float = 60) -> tuple[int, str, list[dict[str, Any]]]:
        """Exit code, stdout and log lines."""
        out, err = await asyncio.to_thread(self.process.communicate, timeout=seconds)
        lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
        return self.process.returncode, out, lines


@pytest.fixture
async def launch() -> AsyncIterator[Callable[..., Process]]:
    processes: list[Process] = []

    def begin(ready: str = "", **settings: str) -> Process:
        processes.append(Process(ready, **settings))
        return processes[-1]

    yield begin
    for one in processes:
        await one.channel.close()
        if one.process.poll() is None:
            one.process.kill()
            await asyncio.to_thread(one.process.communicate)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_running_call_finishes_after_a_signal_and_the_process_ends_with_0(launch, number):
    server = await launch(grace_seconds="600").ready()
    watch = server.health.Watch(health_pb2.HealthCheckRequest(service=NAME))
    assert (await watch.read()).status == SERVING
    running = await server.waiting(-1)
    server.process.send_signal(number)
    assert (await watch.read()).status == NOT_SERVING
    check = await server.health.Check(health_pb2.HealthCheckRequest(service=NAME))
    assert check.status == NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await server.wait(0).read()
    read = errors.from_rpc_error(refused.value)
    assert (read.code, read.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING")
    server.release()
    assert (await running.read()).value == "done"
    code, out, lines = await server.ended()
    assert (code, out) == (0, "closed\n")
    assert [line["unfinished_calls"] for line in lines if line["event"] == "stopped"] == [0]


async def test_a_call_longer_than_the_grace_time_is_ended_with_a_reason(launch):
    server = await launch(grace_seconds="1").ready()
    running = await server.waiting(600)
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await running.read()
    assert errors.from_rpc_error(ended.value).reason == "SERVER_STOPPING"
    code, out, lines = await server.ended()
    assert (code, out) == (0, "closed\n")
    assert [line["unfinished_calls"] for line in lines if line["event"] == "stopped"] == [1]


async def test_a_second_signal_does_not_wait_for_the_grace_time(launch):
    server = await launch(grace_seconds="600").ready()
    watch = server.health.Watch(health_pb2.HealthCheckRequest(service=NAME))
    assert (await watch.read()).status == SERVING
    running = await server.waiting(600)
    server.process.send_signal(signal.SIGTERM)
    assert (await watch.read()).status == NOT_SERVING
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await running.read()
    assert errors.from_rpc_error(ended.value).reason == "SERVER_STOPPING"
    code, out, _ = await server.ended()
    assert (code, out) == (0, "closed\n")


async def test_a_server_that_is_not_ready_yet_stops_at_once_and_was_alive(launch):
    server = launch(ready="never")
    alive = await server.health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60)
    service = await server.health.Check(health_pb2.HealthCheckRequest(service=NAME))
    assert (alive.status, service.status) == (SERVING, NOT_SERVING)
    server.process.send_signal(signal.SIGTERM)
    code, out, _ = await server.ended()
    assert (code, out) == (0, "closed\n")


async def test_a_server_that_cannot_become_ready_ends_with_1_and_says_why(launch):
    code, _, lines = await launch(ready="fails").ended()
    assert code == 1
    (line,) = [line for line in lines if line["event"] == "server failed"]
    assert line["error_type"] == "FileNotFoundError" and "no model at" in line["detail"]


async def test_it_listens_on_loopback_only(launch):
    server = await launch(metrics_port=str(free_port())).ready()
    listening = [c for c in psutil.Process(server.process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert len(listening) == 2
    assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} == {"127.0.0.1"}


async def test_metrics_are_served(launch):
    port = free_port()
    server = await launch(metrics_port=str(port)).ready()
    assert [answer.value async for answer in server.wait(0)] == ["begun", "done"]
    url, counted = (
        f"http://127.0.0.1:{port}/metrics",
        f'nesycd_grpc_server_calls_total{{code="OK",method="/{NAME}/Wait"}} 1.0',
    )
    text = ""
    async with asyncio.timeout(60):
        while counted not in text:  # a call is counted after its answer is sent
            text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=30).read())).decode()
    assert "nesycd_grpc_server_call_seconds_bucket" in text
    assert f'nesycd_grpc_server_calls_in_flight{{method="/{NAME}/Wait"}} 0.0' in text


async def test_the_settings_are_logged_without_secrets(launch):
    server = await launch(auth_token="hunter2").ready()
    server.process.send_signal(signal.SIGTERM)
    code, _, lines = await server.ended()
    (line,) = [line for line in lines if line["event"] == "settings"]
    assert code == 0 and line["grace_seconds"] == 20.0
    assert "hunter2" not in json.dumps(lines)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"host": "0.0.0.0"}, "NESYCD_HOST=0.0.0.0 listens beyond this machine without TLS"),
        ({"grace_seconds": "soon"}, "setting grace_seconds"),
        ({"tls_cert": "/nowhere/cert.pem", "tls_key": "/nowhere/key.pem"}, "cannot read the TLS file /nowhere/key.pem"),
    ],
)
async def test_a_wrong_setting_is_told_in_one_sentence(launch, settings, expected):
    process = launch(**settings).process
    _, err = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 2
    last = err.splitlines()[-1]
    assert last.startswith("cannot start: ") and expected in last
    assert "Traceback" not in err


async def test_a_taken_port_is_told_in_one_sentence(launch):
    first = await launch().ready()
    second = launch(port=str(first.port)).process
    _, err = await asyncio.to_thread(second.communicate, timeout=60)
    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1:{first.port}" in err.splitlines()[-1]
