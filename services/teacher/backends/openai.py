"""Any server with OpenAI's chat API: OpenAI, vLLM, SGLang, llama.cpp."""

from __future__ import annotations

from typing import Any

import aiohttp

from services.common.http import http_session, parse_json, read_json
from services.teacher.backends import OnText, Trouble, UpstreamError, from_status, read_completion
from services.teacher.settings import Settings
from services.teacher.types import Completion, Question, Sampling


class OpenAiBackend:
    """POST {upstream_url}/v1/chat/completions."""

    def __init__(self, settings: Settings) -> None:
        base = settings.upstream_url.rstrip("/").removesuffix("/v1")
        self._url = f"{base}/v1/chat/completions"
        self._settings = settings
        self._http: aiohttp.ClientSession | None = None

    def _session(self) -> aiohttp.ClientSession:
        # Made at the first call, because a session belongs to the running event loop.
        if self._http is None:
            self._http = http_session(
                self._url,
                self._settings.upstream_api_key,
                seconds=self._settings.request_timeout_seconds,
                connect_seconds=self._settings.connect_timeout_seconds,
            )
        return self._http

    def _payload(self, question: Question, sampling: Sampling, stream: bool) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "model": question.model,
            "messages": [{"role": message.role, "content": message.content} for message in question.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._settings.max_tokens_field: sampling.max_tokens,
            "seed": sampling.seed,
        }
        if stream:
            payload |= {"stream": True, "stream_options": {"include_usage": True}}
        if sampling.stop:
            payload["stop"] = list(sampling.stop)
        if question.schema is not None:
            schema = {"name": question.schema_name or "answer", "schema": question.schema}
            payload["response_format"] = {"type": "json_schema", "json_schema": schema}
        return payload

    async def complete(self, question: Question, sampling: Sampling, on_text: OnText | None = None) -> Completion:
        """See Backend.complete."""
        payload = self._payload(question, sampling, stream=on_text is not None)
        limit = self._settings.max_response_bytes
        try:
            # No redirects: the key must not travel to an address that nobody configured.
            async with self._session().post(self._url, json=payload, allow_redirects=False) as response:
                if on_text and response.status == 200 and response.content_type == "text/event-stream":
                    return read_completion(await _read_stream(response, limit, on_text), question.model)
                too_long = UpstreamError(Trouble.BROKEN, response.status, maybe_paid=True)
                body = await read_json(response, limit, too_long)
                status, retry_after = response.status, response.headers.get("Retry-After")
        except TimeoutError as error:
            connected = not isinstance(error, aiohttp.ConnectionTimeoutError)
            raise UpstreamError(Trouble.TIMEOUT, maybe_paid=connected) from None
        except aiohttp.http_exceptions.HttpProcessingError as error:  # a line of a stream that does not end
            raise UpstreamError(Trouble.BROKEN, maybe_paid=True) from error
        except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as error:
            # Nothing went through it.
            status = error.status if isinstance(error, aiohttp.ClientHttpProxyError) else 0
            raise UpstreamError(Trouble.PROXY, status) from None
        except (aiohttp.ClientError, OSError) as error:
            # The library's text names addresses and sometimes the body; the class of trouble is enough.
            connected = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
            raise UpstreamError(Trouble.TRANSPORT, maybe_paid=connected) from None
        if status != 200:
            raise from_status(status, retry_after, body)
        return read_completion(body, question.model)

    async def close(self) -> None:
        """See Backend.close."""
        if self._http is not None:
            await self._http.close()


async def _read_stream(response: aiohttp.ClientResponse, limit: int, on_text: OnText) -> dict[str, Any]:
    """Reads server-sent events, and puts their pieces together to what an unstreamed response would have been."""
    text, reasoning = [], []
    whole: dict[str, Any] = {"usage": None, "model": None}
    finish = None
    size = 0
    ended = False
    async for line in response.content:
        size += len(line)
        if size > limit:
            raise UpstreamError(Trouble.BROKEN, response.status, maybe_paid=True)
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            ended = True
            break
        event = parse_json(data)
        if not isinstance(event, dict) or event.get("error"):
            raise UpstreamError(Trouble.SERVER, response.status, maybe_paid=True)
        whole = {name: event.get(name) or before for name, before in whole.items()}
        try:
            for choice in event.get("choices") or ():
                delta = choice.get("delta") or {}
                finish = choice.get("finish_reason") or finish
                reasoning.append(delta.get("reasoning_content") or delta.get("reasoning") or "")
                if piece := delta.get("content"):
                    text.append(piece)
                    on_text(piece)
        except (AttributeError, TypeError):
            raise UpstreamError(Trouble.BROKEN, response.status, maybe_paid=True) from None
    if not ended and finish is None:
        # It ended early: what came is not an answer.
        raise UpstreamError(Trouble.TRANSPORT, maybe_paid=True)
    try:
        message = {"content": "".join(text), "reasoning_content": "".join(reasoning)}
    except TypeError:
        raise UpstreamError(Trouble.BROKEN, response.status, maybe_paid=True) from None
    return {**whole, "choices": [{"message": message, "finish_reason": finish}]}
