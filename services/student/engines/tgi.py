"""text-generation-inference, through huggingface_hub's client.

https://huggingface.co/docs/text-generation-inference/basic_tutorials/using_cli and `/docs` of such a server.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx2
from huggingface_hub import AsyncInferenceClient, set_async_client_factory
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, OverloadedError, TextGenerationError

from services.common.errors import NesycdError
from services.common.http import proxy_for
from services.student.engines.base import Decoding, Job
from services.student.engines.servers import (
    BEHIND_PROXY,
    Passing,
    Piece,
    Served,
    from_status,
    not_on_engine,
    refused,
    unavailable,
)
from services.student.settings import Settings

_MAX_SEED = 2**63
_FINISH: dict[str, Any] = {"eos_token": "stop", "stop_sequence": "stop", "length": "length"}
_BROKEN = "answers with what is no completion"


class _Shared(httpx2.AsyncBaseTransport):
    """Connections that outlive the client that uses them.

    The hub's client closes a stream's connection only when it is closed itself; so there is one for each completion, and
    what is dear, certificates and connections, they share.
    """

    def __init__(self, url: str, key: str) -> None:
        # The hub's client takes a proxy from the environment only where it makes its connections itself.
        self.transport = httpx2.AsyncHTTPTransport(
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=4), proxy=proxy_for(url)
        )
        self._key = key

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends a request, and refuses what is no answer to it."""
        if not self._key:
            # Without a key of ours the client sends the hub's token that it finds on this machine.
            request.headers.pop("authorization", None)
        response = await self.transport.handle_async_request(request)
        kind = response.headers.get("content-type", "")
        if 300 <= response.status_code < 400 or (response.status_code == 200 and kind.startswith("text/html")):
            await response.aclose()
            raise from_status(response.status_code, None, None) if response.status_code != 200 else unavailable(_BROKEN)
        return response


class TgiServer:
    """`AsyncInferenceClient.text_generation` against {engine_url}. See `Server`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model = ""
        self._key = settings.engine_api_key.get_secret_value()
        self._shared = _Shared(settings.engine_url, self._key)
        # The hub's own clients follow redirects, which would take the key to an address that nobody configured, and
        # refuse the team's server in the hub's offline mode.
        set_async_client_factory(lambda: httpx2.AsyncClient(transport=self._shared, follow_redirects=False))

    def _client(self) -> AsyncInferenceClient:
        return AsyncInferenceClient(
            self._settings.engine_url.rstrip("/"),
            provider="hf-inference",
            token=self._key or None,
            timeout=self._settings.engine_timeout_seconds,
        )

    async def close(self) -> None:
        """See `Server`."""
        await self._shared.transport.aclose()

    async def describe(self) -> Served:
        """See `Server`. GET /info."""
        async with self._client() as client:
            try:
                info = await client.get_endpoint_info()
            except Exception as error:
                raise _as_ours(error, reading=True) from None
        if not isinstance(info, dict) or not isinstance(info.get("model_id"), str):
            raise unavailable("does not say what it serves: it is no text-generation-inference")
        wanted, self._model = self._settings.engine_model, info["model_id"]
        if wanted and wanted != self._model:
            raise refused(f"has model {self._model[:100]!r}, and NESYCD_STUDENT_ENGINE_MODEL says {wanted!r}")
        total, most_read = info.get("max_total_tokens"), info.get("max_input_tokens") or info.get("max_input_length")
        if not isinstance(total, int):
            return Served(self._model, 0)
        # A prompt may have so many tokens, however few are to follow it.
        return Served(self._model, min(total, most_read + 1) if isinstance(most_read, int) else total)

    async def check(self, model: str) -> None:
        """See `Server`. It lists no adapters: one is asked for a token."""
        try:
            async with aclosing(self.write(Job("Hello", Decoding(max_new_tokens=1)), model)) as pieces:
                async for _ in pieces:
                    pass
        except Passing:
            raise
        except NesycdError as error:
            raise not_on_engine(
                model, f"does not answer with it: start it with --lora-adapters {model}=PATH. {error.message}"
            ) from error

    async def load(self, name: str, path: str) -> str:
        """See `Server`. It cannot."""
        raise not_on_engine(
            name,
            f"loads adapters at its start only: start it with --lora-adapters NAME={path}, and set "
            f'NESYCD_STUDENT_ENGINE_MODELS={{"{name}": "NAME"}}',
        )

    async def unload(self, name: str) -> None:
        """See `Server`. There is never one."""

    async def write(self, job: Job, model: str) -> AsyncGenerator[Piece, None]:
        """See `Server`."""
        decoding = job.decoding
        sampling: dict[str, Any] = {}
        if decoding.temperature > 0:
            # Values that mean "all" are refused there.
            sampling = {
                "temperature": decoding.temperature,
                "top_p": decoding.top_p if decoding.top_p < 1 else None,
                "top_k": decoding.top_k or None,
                "seed": decoding.seed % _MAX_SEED,
            }
        async with self._client() as client:
            reading = False
            try:
                events: Any = await client.text_generation(
                    job.prompt,
                    details=True,
                    stream=True,
                    adapter_id=model if model != self._model else None,
                    do_sample=decoding.temperature > 0,
                    max_new_tokens=decoding.max_new_tokens,
                    return_full_text=False,
                    stop=[job.stop_before] if job.stop_before else None,
                    **sampling,
                )
                reading = True
                async for event in events:
                    yield _piece(event)
            except Exception as error:
                raise _as_ours(error, reading) from None


def _piece(event: Any) -> Piece:
    """A token of a stream; the last one tells how it ended.

    Raises:
        TypeError, AttributeError, ValueError: It is none.
    """
    token, details = event.token, event.details
    text, value = token.text, token.logprob
    if not isinstance(text, str) or isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise TypeError("no token")
    text = "" if token.special else text
    tokens = ((text, max(-9999.0, min(0.0, float(value)))),)
    if details is None:
        return Piece(text, tokens)
    if details.finish_reason not in _FINISH:
        raise ValueError("no end")
    read, written = (
        value if isinstance(value, int) and value >= 0 else None
        for value in (details.input_length, details.generated_tokens)
    )
    return Piece(text, tokens, _FINISH[details.finish_reason], read, written)


def _as_ours(error: Exception, reading: bool) -> NesycdError:
    """What became of a request, as one of ours.

    Args:
        error: What the client raised; a defect of ours is raised again.
        reading: Whether an answer was being read.
    """
    if isinstance(error, NesycdError):
        return error
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    for one in chain:
        if isinstance(one, HfHubHTTPError | httpx2.HTTPStatusError):
            try:
                body = one.response.json()
            except (ValueError, httpx2.StreamError):  # it was not read
                body = None
            return from_status(one.response.status_code, one.response.headers.get("Retry-After"), body)
    if isinstance(error, OverloadedError):
        return Passing("is overloaded")
    if isinstance(error, TextGenerationError):
        return unavailable(f"failed in the middle of a text ({type(error).__name__}); its log tells why")
    if any(isinstance(one, httpx2.ProxyError) for one in chain):
        return Passing(BEHIND_PROXY)
    if any(isinstance(one, httpx2.ConnectError | httpx2.ConnectTimeout) for one in chain):
        return Passing("cannot be reached")
    if isinstance(error, InferenceTimeoutError | httpx2.TimeoutException):
        return unavailable("did not answer in time")
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return refused("has no address: correct NESYCD_STUDENT_ENGINE_URL")
    if isinstance(error, httpx2.HTTPError | httpx2.StreamError):
        return Passing("broke the connection")
    if reading and isinstance(error, ValueError | TypeError | AttributeError | KeyError):
        return unavailable(_BROKEN)
    raise error
