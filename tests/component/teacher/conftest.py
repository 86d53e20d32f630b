"""Real processes for the teacher proxy's tests: Valkey and the proxy; and a teacher that speaks the real wire format."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nesycd.teacher.v1 import GenerateRequest, Message, TeacherServiceStub

from tests import processes
from tests.processes import Process, free_port

ROOT = Path(__file__).parents[3]
KEY = "sk-a-key-that-nobody-may-see"
PROMPT = "a-prompt-that-nobody-may-see"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Process]:
    server = processes.valkey(tmp_path / "valkey")
    with processes.running(server):
        yield server


Reply = Callable[[dict[str, Any]], web.Response]


def completion(text: str, finish: str = "stop", **message: Any) -> web.Response:
    return web.json_response(
        {
            "id": "c",
            "object": "chat.completion",
            "model": "teacher-1",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
        }
    )


def refusal(status: int, code: str = "", retry_after: str | None = None, message: str = "") -> web.Response:
    headers = {"Retry-After": retry_after} if retry_after is not None else {}
    # Providers repeat the prompt in such texts.
    error = {"message": message or f"you said {PROMPT}", "type": "error", "code": code or None}
    return web.json_response({"error": error}, status=status, headers=headers)


class Teacher:
    """Answers what the test says next, else "answer N", once it may; keeps what it was asked."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.next: deque[web.Response] = deque()
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.latency = 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self.now = self.most = 0

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        self.asked.set()
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.latency)
            await self.may_answer.wait()
        finally:
            self.now -= 1
        reply = self.next.popleft() if self.next else completion(f"answer {len(self.bodies)}")
        if self.bodies[-1].get("stream") and reply.status == 200:
            return await self.stream(request, json.loads(reply.text or ""))
        return reply

    async def stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """The same as server-sent events, three characters a piece; "CUT" in the text cuts the connection, "END" is a line without one."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        (choice,) = body["choices"]
        message = choice["message"]
        text = message.pop("content")

        async def send(delta: dict[str, Any], finish: str | None = None, **more: Any) -> None:
            event = {"model": body["model"], "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())

        await send(message)
        for at in range(0, len(text), 3):
            if text[at : at + 3] == "CUT":
                assert request.transport
                request.transport.close()
                return response
            if text[at : at + 3] == "END":
                for _ in range(64):
                    await response.write(b"x" * 65_536)
                return response
            await send({"content": text[at : at + 3]})
            await asyncio.sleep(0.02)
        await send({}, choice["finish_reason"])
        usage = {"choices": [], "usage": body["usage"]}
        await response.write(f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n".encode())
        return response


@pytest.fixture
async def teacher() -> AsyncIterator[Teacher]:
    fake = Teacher()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", fake.chat)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", fake.port).start()
    yield fake
    await runner.cleanup()


class ProxyProcess:
    """`python -m services.teacher`."""

    def __init__(self, log: Path, valkey: Process, teacher: Teacher, **settings: Any) -> None:
        self.port = free_port()
        self.log = log
        chosen = {
            "port": self.port,
            "upstream_url": teacher.url,
            "upstream_api_key": KEY,
            "redis_url": f"redis://{valkey.address}/0",
            "backoff_seconds": 0.05,
            "lease_seconds": 1,
            "default_model": "teacher-1",
            "prices": json.dumps({"teacher-1": [10, 20]}),
            "log_level": "debug",
            **settings,
        }
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("NESYCD_")}
        self._env |= {f"NESYCD_TEACHER_{name.upper()}": str(value) for name, value in chosen.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.aio.Channel | None = None

    async def start(self) -> TeacherServiceStub:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "services.teacher"]
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._env, stderr=log)  # noqa: ASYNC220
        await self.disconnect()
        self._channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{self.port}",
            # Processes on one machine share channels by their address and would keep the backoff of a killed one.
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50),
                     ("grpc.max_reconnect_backoff_ms", 100)],
        )  # fmt: skip
        health = health_pb2_grpc.HealthStub(self._channel)
        request = health_pb2.HealthCheckRequest(service="nesycd.teacher.v1.TeacherService")
        for _ in range(200):
            reply = await health.Check(request, wait_for_ready=True, timeout=60)
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return TeacherServiceStub(self._channel)
            await asyncio.sleep(0.05)
        raise TimeoutError(self.log.read_text())

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    async def terminate(self) -> int:
        assert self._process
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait, 60)

    async def disconnect(self) -> None:
        if self._channel:
            await self._channel.close()
            self._channel = None


@pytest.fixture
async def make_proxy(tmp_path: Path, valkey: Process, teacher: Teacher) -> AsyncIterator[Callable[..., ProxyProcess]]:
    made: list[ProxyProcess] = []

    def make(**settings: Any) -> ProxyProcess:
        made.append(ProxyProcess(tmp_path / f"proxy-{len(made)}.log", valkey, teacher, **settings))
        return made[-1]

    yield make
    for proxy in made:
        proxy.kill()
        await proxy.disconnect()
        said = proxy.log.read_text()
        # Whatever a test does, and above all when something fails.
        assert PROMPT not in said
        assert KEY not in said
        assert "Traceback" not in said


def ask(text: str = PROMPT, **fields: Any) -> GenerateRequest:
    return GenerateRequest(messages=[Message(role="user", content=text)], **fields)
