"""An endpoint with OpenAI's embeddings API for tests, as text-embeddings-inference, vLLM, Ollama or OpenAI speak it.

`python -m tests.embeddings --port 8080` serves it as a process.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from aiohttp import web

from tests.processes import free_port

DIMENSION = 48


def vector_of(text: str, dimension: int = DIMENSION) -> np.ndarray:
    """The vector of a text: pairs of letters, so that like texts have like vectors; not of length 1."""
    vector = np.full(dimension, 0.01)
    for first, second in zip(text.lower(), text.lower()[1:], strict=False):
        vector[int.from_bytes(hashlib.sha256((first + second).encode()).digest()[:4], "big") % dimension] += 1
    return vector


class FakeEndpoint:
    """POST /v1/embeddings. Attributes can be changed while it runs.

    Attributes:
        api_key: What it wants as a bearer token; empty: anything.
        model: The one that it has.
        dimension: Of its vectors.
        delay: Seconds before it answers.
        base64: Whether vectors are sent as base64.
        longest: Characters of a text that it accepts.
        replies: Called, first in first out, instead of the next answers, with the request's body.
        requests: The bodies that came.
        most_at_once: How many requests were there at a time.
    """

    def __init__(self, port: int = 0) -> None:  # 0: a free one
        self.api_key = ""
        self.model = "fake-embedding"
        self.dimension = DIMENSION
        self.delay = 0.0
        self.base64 = False
        self.longest = 10_000
        self.replies: list[Callable[[dict[str, Any]], web.Response]] = []
        self.requests: list[dict[str, Any]] = []
        self.most_at_once = 0
        self._now = 0
        self._port = port or free_port()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listens; on the same port again after `stop`."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/embeddings", self._embeddings)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()

    async def stop(self) -> None:
        """Is down."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> FakeEndpoint:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.replies:
                return self.replies.pop(0)(body)
            return self._answer(request, body)
        finally:
            self._now -= 1

    def _answer(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return error(401, "Incorrect API key provided", "invalid_request_error", "invalid_api_key")
        if body["model"] != self.model:
            return error(404, f"The model {body['model']} does not exist", "invalid_request_error", "model_not_found")
        if any(len(text) > self.longest for text in body["input"]):
            return error(400, f"maximum context length exceeded: {body['input']}", "invalid_request_error")
        vectors = [vector_of(text, self.dimension) for text in body["input"]]
        return web.json_response(answer(vectors, as_base64=self.base64, backwards=True))


def answer(vectors: list[Any], *, as_base64: bool = False, backwards: bool = False) -> dict[str, Any]:
    """A response's body. The API does not promise that the embeddings come in the order of the texts."""
    shown = [base64.b64encode(v.astype("<f4").tobytes()).decode() if as_base64 else list(v) for v in vectors]
    data = [{"object": "embedding", "index": i, "embedding": embedding} for i, embedding in enumerate(shown)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "data": data[::-1] if backwards else data, "model": "fake-embedding", "usage": usage}


def error(
    status: int, message: str, kind: str = "server_error", code: str | None = None, **headers: str
) -> web.Response:
    """An error in OpenAI's shape."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def _serve(port: int, delay: float) -> None:
    endpoint = FakeEndpoint(port)
    endpoint.delay = delay
    async with endpoint:
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.delay))
