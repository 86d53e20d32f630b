"""Any server with OpenAI's completions API and plain prompts: vLLM, SGLang, llama.cpp.

https://platform.openai.com/docs/api-reference/completions/create, and for adapters that are loaded at run time
https://docs.vllm.ai/en/latest/features/lora/ and https://docs.sglang.io/docs/advanced_features/lora
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Any, TypeGuard

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from services.common.errors import NesycdError
from services.common.http import http_session, parse_json, read_json
from services.student import reasons
from services.student.engines.base import Job
from services.student.engines.servers import (
    BEHIND_PROXY,
    Passing,
    Piece,
    Served,
    UnknownModel,
    from_status,
    not_on_engine,
    refused,
    unavailable,
)
from services.student.settings import Settings

_MAX_RESPONSE_BYTES = 16 * 1024 * 1024
_MAX_SEED = 2**31 - 1
_FINISH: dict[str, Any] = {"stop": "stop", "length": "length", "eos": "stop"}
_BROKEN = "answers with what is no completion"


class OpenAiServer:
    """POST {engine_url}/v1/completions. See `Server`."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.engine_url.rstrip("/").removesuffix("/v1")
        self._settings = settings
        self._model = settings.engine_model
        self._sglang = False
        self._loading = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = http_session(
                self._root,
                self._settings.engine_api_key,
                seconds=self._settings.engine_timeout_seconds,
                connect_seconds=self._settings.engine_connect_timeout_seconds,
            )
        return self._http

    async def close(self) -> None:
        """See `Server`."""
        if self._http is not None:
            await self._http.close()

    # --- what it serves ---------------------------------------------------------------------------

    async def describe(self) -> Served:
        """See `Server`. Models without a parent are base models; `max_model_len` is vLLM's and SGLang's."""
        cards = await self._cards()
        bases = [name for name, card in cards.items() if not card.get("parent")]
        if not self._settings.engine_model and len(bases) != 1:
            raise refused(f"has not one model but {_names(bases)}: say which in NESYCD_STUDENT_ENGINE_MODEL")
        self._model = self._settings.engine_model or bases[0]
        if self._model not in cards:
            raise refused(f"has no model {self._model!r}, only {_names(bases)}: correct NESYCD_STUDENT_ENGINE_MODEL")
        # It calls an adapter "model:adapter".
        self._sglang = cards[self._model].get("owned_by") == "sglang"
        length = cards[self._model].get("max_model_len")
        return Served(self._model, length if _is_count(length) else 0)

    async def _cards(self) -> dict[str, dict[str, Any]]:
        status, retry_after, body = await self._call("GET", "/v1/models")
        if status != 200:
            raise from_status(status, retry_after, body)
        cards = body.get("data") if isinstance(body, dict) else None
        found = {
            card["id"]: card
            for card in (cards if isinstance(cards, list) else ())
            if isinstance(card, dict) and isinstance(card.get("id"), str)
        }
        if not found:
            raise unavailable("names no models")
        return found

    async def check(self, model: str) -> None:
        """See `Server`."""
        cards = await self._cards()
        if model not in cards and model.partition(":")[2] not in cards:
            raise not_on_engine(model, f"has no such model, only {_names(cards)}: correct NESYCD_STUDENT_ENGINE_MODELS")

    # --- adapters ---------------------------------------------------------------------------------

    async def load(self, name: str, path: str) -> str:
        """See `Server`."""
        # One at a time: of many that find it missing, the first loads it.
        async with self._loading:
            if name not in await self._cards():
                await self._load(name, path)
        return f"{self._model}:{name}" if self._sglang else name

    async def _load(self, name: str, path: str) -> None:
        where = "/load_lora_adapter" if self._sglang else "/v1/load_lora_adapter"
        status, retry_after, body = await self._call("POST", where, {"lora_name": name, "lora_path": path})
        if status == 200 or name in await self._cards():  # another student was faster
            return
        said = _message(body)
        if status in (404, 405) and path not in said:
            raise not_on_engine(
                name,
                "loads no adapters at run time: start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, SGLang "
                "with --enable-lora; or start it with the adapter and name that in NESYCD_STUDENT_ENGINE_MODELS",
            )
        error = from_status(status, retry_after, body)
        if isinstance(error, Passing) or status in (401, 403):
            raise error
        raise not_on_engine(name, f"does not load it from {path} (HTTP {status}): {said[:300] or 'see its log'}")

    async def unload(self, name: str) -> None:
        """See `Server`."""
        where = "/unload_lora_adapter" if self._sglang else "/v1/unload_lora_adapter"
        status, retry_after, body = await self._call("POST", where, {"lora_name": name})
        if status != 200 and name in await self._cards():  # else another student was faster
            raise from_status(status, retry_after, body)

    # --- writing ----------------------------------------------------------------------------------

    def _payload(self, job: Job, model: str) -> dict[str, Any]:
        decoding = job.decoding
        payload: dict[str, Any] = {
            "model": model,
            "prompt": job.prompt,
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": decoding.seed % _MAX_SEED,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        extra = self._settings.engine_extra_fields
        if extra:
            # Servers take what is not said from the model's generation_config, or have values of their own.
            payload |= {"top_k": decoding.top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}
        elif decoding.top_k:
            raise refused("is told no top_k, for NESYCD_STUDENT_ENGINE_EXTRA_FIELDS is false: ask without it")
        if job.stop_before:
            payload["stop"] = [job.stop_before]
        if job.scored:
            payload |= {"logprobs": 1, **({"n_probs": 1} if extra else {})}  # the second is llama.cpp's name
        return payload

    async def write(self, job: Job, model: str) -> AsyncGenerator[Piece, None]:
        """See `Server`."""
        response = await self._open("POST", "/v1/completions", self._payload(job, model))
        try:
            if response.status != 200:
                body = await _read(response)
                error = from_status(response.status, response.headers.get("Retry-After"), body, model)
                adapter = model.partition(":")[2]
                if self._sglang and response.status == 400 and adapter and adapter in _message(body):
                    # What others call 404. Only looked for in the text, which may repeat the prompt.
                    error = UnknownModel(error.message, reason=reasons.ENGINE_REFUSED, subject="engine")
                raise error
            if response.content_type != "text/event-stream":
                yield _piece(await _read(response))
                return
            size = 0
            async for line in response.content:
                size += len(line)
                if size > _MAX_RESPONSE_BYTES:
                    raise unavailable("does not stop writing")
                if line.startswith(b"data:"):
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        return
                    yield _piece(parse_json(data))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _transport(error) from None
        except HttpProcessingError:  # a line without end
            raise unavailable(_BROKEN) from None
        finally:
            # Half read, it is closed, and the server stops writing.
            response.close()

    async def _open(self, method: str, path: str, payload: Any = None) -> aiohttp.ClientResponse:
        try:
            # No redirects: the key must not travel to an address that nobody configured.
            return await self._session().request(method, self._root + path, json=payload, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _transport(error) from None

    async def _call(self, method: str, path: str, payload: Any = None) -> tuple[int, str | None, Any]:
        """Status, Retry-After and parsed body of a short call."""
        response = await self._open(method, path, payload)
        try:
            return response.status, response.headers.get("Retry-After"), await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _transport(error) from None
        finally:
            response.release()


def _transport(error: Exception) -> NesycdError:
    # The library's text names addresses and sometimes the body; the class of trouble is enough.
    if isinstance(error, aiohttp.InvalidURL):
        return refused("has no address: correct NESYCD_STUDENT_ENGINE_URL")
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return Passing(BEHIND_PROXY)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Passing("cannot be reached")
    if isinstance(error, TimeoutError):
        return unavailable("did not answer in time")
    return Passing("broke the connection")


async def _read(response: aiohttp.ClientResponse) -> Any:
    return await read_json(response, _MAX_RESPONSE_BYTES, unavailable("does not stop writing"))


def _message(body: Any) -> str:
    """The text of an error: vLLM's, or SGLang's. Only of calls that hold no prompt."""
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    said = error.get("message") if isinstance(error, dict) else body.get("error_message") or body.get("message")
    return said if isinstance(said, str) else ""


def _names(names: Any) -> str:
    listed = sorted(names)
    return ", ".join(name[:100] for name in listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _piece(event: Any) -> Piece:
    """A chunk of a stream; or all of a completion, from a server that does not stream.

    Raises:
        Unavailable: It is none.
    """
    if isinstance(event, dict) and event.get("error"):
        raise from_status(_error_status(event["error"]), None, event)
    try:
        usage = event.get("usage") or {}
        counts = {name: usage[name] for name in ("prompt_tokens", "completion_tokens") if _is_count(usage.get(name))}
        choices = event["choices"]
        if not choices:
            return Piece(**counts)
        choice = choices[0]
        text, finish = choice["text"] or "", choice.get("finish_reason")
        if not isinstance(text, str) or (finish is not None and finish not in _FINISH):
            raise TypeError
        return Piece(text, _tokens(choice.get("logprobs")), _FINISH.get(finish or ""), **counts)
    except (AttributeError, IndexError, KeyError, TypeError):
        raise unavailable(_BROKEN) from None


def _error_status(error: Any) -> int:
    """The status that an error in the middle of a stream stands for."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _tokens(logprobs: Any) -> tuple[tuple[str, float], ...]:
    """Tokens with their logarithms: in lists beside each other, or one by one as llama.cpp has them."""
    if not logprobs:
        return ()
    if "content" in logprobs:
        pairs = [(token["token"], token["logprob"]) for token in logprobs["content"] or ()]
    else:
        pairs = list(zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True))
    return tuple((text, _logarithm(value)) for text, value in pairs if isinstance(text, str))


def _logarithm(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise TypeError("no number")
    return max(-9999.0, min(0.0, float(value)))
