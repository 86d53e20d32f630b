"""The stand-in teacher as a process of its own, over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from huggingface_hub import InferenceClient

from method.prompts import KNOWLEDGE_SCHEMA, Row, knowledge_messages, rationale_messages

ROOT = Path(__file__).parents[3]
ROW = Row("r", "legs", "How many legs do 3 scorpions have?", "24")
TRUTH = "Scorpions have 8 legs. 3 times 8 is 24. Therefore, the answer is 24."


@dataclass
class Server:
    url: str
    log: Path
    process: subprocess.Popen[str]

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]


def start(log: Path, *flags: str) -> Server:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.standin_teacher", "--port", "0", "--log", str(log), *flags],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "listening on http://127.0.0.1:" in line, line
    return Server(line.split()[-1], log, process)


def stop(server: Server) -> int:
    server.process.send_signal(signal.SIGTERM)
    try:
        return server.process.wait(60)
    finally:
        server.process.kill()
        server.process.wait()
        assert server.process.stderr is not None
        server.process.stderr.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(tmp_path_factory.mktemp("standin") / "calls.jsonl")
    yield server
    assert stop(server) == 0


@pytest.fixture
async def http() -> Any:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def server(shared: Server, http: aiohttp.ClientSession) -> Server:
    await control(http, shared, reset=True)
    return shared


async def control(http: aiohttp.ClientSession, server: Server, **faults: Any) -> int:
    async with http.post(f"{server.url}/control", json=faults) as response:
        return response.status


def chat(row: Row = ROW, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": rationale_messages(row), **more}


async def test_chat_completion_is_true_counted_and_in_the_book(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{server.url}/v1/chat/completions", json=chat(seed=7, n=1)) as response:
        reply = await response.json()
    assert reply["choices"][0]["message"]["content"] == TRUTH
    assert reply["choices"][0]["finish_reason"] == "stop"
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 20
    call = server.calls()[-1]
    assert (call["kind"], call["status"], call["fault"]) == ("rationale", 200, None)
    assert call["completion_tokens"] == usage["completion_tokens"]
    assert "scorpions" not in server.log.read_text(encoding="utf-8")


async def test_knowledge_comes_as_json(server: Server, http: aiohttp.ClientSession) -> None:
    body = {
        "model": "m",
        "messages": knowledge_messages(ROW, "18"),
        "response_format": {"type": "json_schema", "json_schema": {"name": "k", "schema": KNOWLEDGE_SCHEMA}},
    }
    async with http.post(f"{server.url}/v1/chat/completions", json=body) as response:
        reply = await response.json()
    assert json.loads(reply["choices"][0]["message"]["content"])["knowledge"] == ["Scorpions have 8 legs."]


async def test_stream_carries_the_same_text_and_the_usage(server: Server, http: aiohttp.ClientSession) -> None:
    body = chat(stream=True, stream_options={"include_usage": True})
    async with http.post(f"{server.url}/v1/chat/completions", json=body) as response:
        lines = (await response.text()).split("\n\n")
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == TRUTH
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] > 5


async def test_text_generation_client_is_answered(server: Server) -> None:
    client = InferenceClient(base_url=server.url)
    prompt = rationale_messages(ROW)[0]["content"]
    whole = await asyncio.to_thread(client.text_generation, prompt, details=True, max_new_tokens=200, seed=3)
    assert (whole.generated_text, whole.details.finish_reason) == (TRUTH, "eos_token")
    short = await asyncio.to_thread(client.text_generation, prompt, details=True, max_new_tokens=4)
    assert (short.details.finish_reason, short.details.generated_tokens) == ("length", 4)
    pieces = await asyncio.to_thread(
        lambda: list(client.text_generation(prompt, details=True, stream=True, max_new_tokens=200))
    )
    assert "".join(piece.token.text for piece in pieces) == pieces[-1].generated_text == TRUTH
    answer = await asyncio.to_thread(client.chat_completion, rationale_messages(ROW), model="m", seed=1)
    assert answer.choices[0].message.content == TRUTH


@pytest.mark.parametrize(
    ("faults", "status", "code"),
    [
        ({"error_rate": 1}, 500, "server_error"),
        ({"rate_limit_rate": 1, "retry_after": 2}, 429, "rate_limit_exceeded"),
        ({"down": True}, 503, "service_unavailable"),
        ({"api_key": "secret"}, 401, "invalid_api_key"),
        ({"fail_next": 1, "fail_status": 502}, 502, "requested_failure"),
    ],
)
async def test_fault_on_request_gives_its_error(
    server: Server, http: aiohttp.ClientSession, faults: dict[str, Any], status: int, code: str
) -> None:
    assert await control(http, server, **faults) == 200
    async with http.post(f"{server.url}/v1/chat/completions", json=chat()) as response:
        assert response.status == status
        assert (await response.json())["error"]["code"] == code
        assert response.headers.get("Retry-After") == ("2" if status == 429 else None)
    assert server.calls()[-1]["status"] == status


async def test_right_key_is_let_in(server: Server, http: aiohttp.ClientSession) -> None:
    await control(http, server, api_key="secret")
    headers = {"Authorization": "Bearer secret"}
    async with http.post(f"{server.url}/v1/chat/completions", json=chat(), headers=headers) as response:
        assert response.status == 200


async def test_failures_are_over_after_as_many_as_were_asked_for(server: Server, http: aiohttp.ClientSession) -> None:
    await control(http, server, fail_next=2)
    statuses = []
    for _ in range(3):
        async with http.post(f"{server.url}/v1/chat/completions", json=chat()) as response:
            statuses.append(response.status)
    assert statuses == [503, 503, 200]


async def test_repeated_request_has_new_luck_with_errors(server: Server, http: aiohttp.ClientSession) -> None:
    await control(http, server, error_rate=0.5)
    statuses = set()
    for _ in range(30):
        async with http.post(f"{server.url}/v1/chat/completions", json=chat(user="luck")) as response:
            statuses.add(response.status)
    assert statuses == {200, 500}


async def test_rate_limit_lets_a_second_of_calls_through(server: Server, http: aiohttp.ClientSession) -> None:
    await control(http, server, rate_limit=3)

    async def status() -> int:
        async with http.post(f"{server.url}/v1/chat/completions", json=chat()) as response:
            return response.status

    assert [await status() for _ in range(3)] == [200, 200, 200]
    # At once, and more than are allowed in the seconds that a slow machine takes for them.
    assert 429 in await asyncio.gather(*(status() for _ in range(40)))


@pytest.mark.parametrize("stream", [False, True])
async def test_dropped_connection_is_an_error_for_the_caller(
    server: Server, http: aiohttp.ClientSession, stream: bool
) -> None:
    await control(http, server, drop_rate=1)
    with pytest.raises(aiohttp.ClientError):
        async with http.post(f"{server.url}/v1/chat/completions", json=chat(stream=stream)) as response:
            await response.read()
    assert server.calls()[-1]["fault"] == "drop"


async def test_truncated_answer_says_so(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{server.url}/v1/chat/completions", json=chat(max_tokens=5)) as response:
        reply = await response.json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 5
    await control(http, server, truncate_rate=1)
    async with http.post(f"{server.url}/v1/chat/completions", json=chat()) as response:
        reply = await response.json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert TRUTH.startswith(reply["choices"][0]["message"]["content"])


async def test_lies_are_told_on_request(server: Server, http: aiohttp.ClientSession) -> None:
    await control(http, server, wrong_answer_rate=1, invalid_json_rate=1)
    async with http.post(f"{server.url}/v1/chat/completions", json=chat()) as response:
        text = (await response.json())["choices"][0]["message"]["content"]
    assert "the answer is" in text
    assert not text.endswith("24.")
    body = {"model": "m", "messages": knowledge_messages(ROW, "18")}
    async with http.post(f"{server.url}/v1/chat/completions", json=body) as response:
        text = (await response.json())["choices"][0]["message"]["content"]
    try:
        assert "knowledge" not in json.loads(text)
    except ValueError:
        pass


async def test_garbage_is_no_json(server: Server, http: aiohttp.ClientSession) -> None:
    await control(http, server, garbage_rate=1)
    async with http.post(f"{server.url}/v1/chat/completions", json=chat()) as response:
        assert response.status == 200
        assert (await response.text()).startswith("<html>")


async def test_latency_is_waited_for(server: Server, http: aiohttp.ClientSession) -> None:
    await control(http, server, latency=0.3)
    began = time.monotonic()
    async with http.post(f"{server.url}/v1/chat/completions", json=chat()) as response:
        assert response.status == 200
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    "changes", [{"error_rat": 1}, {"error_rate": 2}, {"latency": "long"}, {"latency": float("nan")}]
)
async def test_bad_control_request_names_the_place_and_changes_nothing(
    server: Server, http: aiohttp.ClientSession, changes: dict[str, Any]
) -> None:
    async with http.post(f"{server.url}/control", data=json.dumps(changes)) as response:
        assert response.status == 400
        assert next(iter(changes)) in (await response.json())["error"]
    async with http.get(f"{server.url}/control") as response:
        assert (await response.json())["error_rate"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"{}",
        b'{"messages": []}',
        b'{"messages": [1]}',
        b'{"messages": [{"role": "user", "content": "x"}], "n": 2}',
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
        b'{"messages": [{"role": "user", "content": "x"}], "stop": [1]}',
        b'{"messages": [{"role": "user", "content": "x"}], "response_format": "json"}',
    ],
)
async def test_bad_request_gets_400(server: Server, http: aiohttp.ClientSession, body: bytes) -> None:
    async with http.post(f"{server.url}/v1/chat/completions", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"]


async def test_unknown_question_gets_404(server: Server, http: aiohttp.ClientSession) -> None:
    body = chat(Row("x", "t", "Why?", "Because"))
    async with http.post(f"{server.url}/v1/chat/completions", json=body) as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "question_not_found"


async def test_killed_server_goes_on_with_its_book(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    log = tmp_path / "calls.jsonl"
    server = start(log)
    for _ in range(2):
        async with http.post(f"{server.url}/v1/chat/completions", json=chat()) as response:
            assert response.status == 200
    server.process.kill()
    stop(server)
    assert len(server.calls()) == 2
    server = start(log)
    try:
        async with http.get(f"{server.url}/calls") as response:
            counts = await response.json()
        assert (counts["count"], counts["answered"], counts["answered_again"]) == (2, 2, 1)
    finally:
        assert stop(server) == 0


async def test_replay_answers_with_the_recording(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    recorded = ROOT / "examples" / "bbh" / "recorded.jsonl"
    server = start(tmp_path / "calls.jsonl", "--mode", "replay", "--replay", str(recorded))
    try:
        row = json.loads(recorded.read_text(encoding="utf-8").splitlines()[40])
        body = chat(Row(row["id"], row["task"], row["question"], ""))
        async with http.post(f"{server.url}/v1/chat/completions", json=body) as response:
            reply = await response.json()
        assert reply["choices"][0]["message"]["content"] == row["teacher_response"]
    finally:
        assert stop(server) == 0


def test_replay_without_a_file_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.standin_teacher", "--mode", "replay", "--log", str(tmp_path / "c.jsonl")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 2
    assert "--mode replay needs --replay FILE" in done.stderr
