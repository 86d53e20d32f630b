"""Any server with OpenAI's embeddings API: vLLM, text-embeddings-inference, Ollama, llama.cpp, OpenAI.

https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from typing import Any

import aiohttp
import numpy as np
from pydantic import SecretStr

from services.common import context
from services.common.errors import FailedPrecondition, NesycdError, Unavailable, deadline_exceeded
from services.common.http import error_codes, http_session, parse_retry_after, read_json
from services.knowledge import reasons
from services.knowledge.embedders import Embedder, Turns, Urgency
from services.knowledge.stores import Vector

_CONNECT_SECONDS = 5.0
_REBUILD_SECONDS = 120.0  # nobody waits, and a batch of long texts takes a processor long
_ATTEMPTS = 4
_BACKOFF_SECONDS = 0.5  # the first delay's upper end; doubles
_MAX_BATCH_CHARACTERS = 64_000
_MIN_CHARACTERS = 256  # a text as short as this is not refused for its length
_MAX_RESPONSE_BYTES = 64 * 1024 * 1024
_PREFIX = "NESYCD_KNOWLEDGE_EMBEDDER"


class _Refused(Exception):
    """The server rejects the request as it is: perhaps a text is too long for its model."""

    def __init__(self, error: FailedPrecondition) -> None:
        self.error = error


class OpenAiEmbedder(Embedder):
    """POST {url}/v1/embeddings.

    Args:
        url: The server's address, with or without /v1.
        model: Its name there.
        api_key: Sent as a bearer token where it is not empty; never printed.
        query_prefix: See Embedder.
        document_prefix: See Embedder.
        batch_size: Most texts of one request.
        concurrency: Most requests at a time; the vectors of a rebuild leave one of several for others.
        timeout: Seconds that a query or a write waits for its vectors, with all tries.
    """

    remote = True

    def __init__(
        self,
        url: str,
        model: str,
        api_key: SecretStr,
        *,
        query_prefix: str = "",
        document_prefix: str = "",
        batch_size: int = 32,
        concurrency: int = 4,
        timeout: float = 10.0,
    ) -> None:
        super().__init__(query_prefix=query_prefix, document_prefix=document_prefix)
        self._url = f"{url.rstrip('/').removesuffix('/v1')}/v1/embeddings"
        self._model = model
        self._api_key = api_key
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._timeout = timeout
        self._turns = Turns(concurrency)
        self._http: aiohttp.ClientSession | None = None

    async def _load(self) -> tuple[str, int]:
        self.dimension = 0  # whatever it is now
        # Some servers load the model at the first request: this one may take long.
        (vector,) = await self._embed(["dimension"], Urgency.REBUILD)
        # Of another model under the same name, the dimension is what can be seen.
        return f"{self._model}/{len(vector)}", len(vector)

    async def _embed(self, texts: list[str], urgency: Urgency) -> list[Vector]:
        seconds = _REBUILD_SECONDS if urgency is Urgency.REBUILD else self._timeout
        left = context.remaining()
        if left is not None:
            # A write is committed without vectors rather than too late.
            seconds = min(seconds, left / 2 if urgency is Urgency.WRITE else left)
        tasks = [
            asyncio.create_task(self._batch(batch, urgency, time.monotonic() + seconds))
            for batch in _batches(texts, self._batch_size)
        ]
        try:
            async with asyncio.timeout(seconds):
                parts = await asyncio.gather(*tasks)
        except TimeoutError:
            if context.remaining() == 0.0:
                raise deadline_exceeded() from None
            raise _unavailable(f"did not answer within {seconds:.3g} seconds") from None
        finally:
            for task in tasks:
                task.cancel()
        return [vector for part in parts for vector in part]

    async def _batch(self, texts: list[str], urgency: Urgency, deadline: float) -> list[Vector]:
        """The vectors of a batch, with all tries."""
        attempt = 0
        while True:
            try:
                async with self._turns.take(urgency):
                    return await self._ask(texts)
            except _Refused as refused:
                if len(texts) > 1:
                    middle = len(texts) // 2
                    first = await self._batch(texts[:middle], urgency, deadline)
                    return first + await self._batch(texts[middle:], urgency, deadline)
                if len(texts[0]) <= _MIN_CHARACTERS:
                    raise refused.error from None
                # Models of this process cut long texts, too.
                texts = [texts[0][: len(texts[0]) // 2]]
            except Unavailable as error:
                attempt += 1
                backoff = _BACKOFF_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
                wait = backoff if error.retry_after is None else error.retry_after
                if attempt == _ATTEMPTS or time.monotonic() + wait >= deadline:
                    raise _unavailable(error.message, max(wait, 1.0)) from None
                await asyncio.sleep(wait)

    async def _ask(self, texts: list[str]) -> list[Vector]:
        """One request.

        Raises:
            Unavailable: It makes sense to repeat it.
            FailedPrecondition: It does not.
            _Refused: Perhaps with shorter texts.
        """
        payload = {"model": self._model, "input": texts, "encoding_format": "float"}
        try:
            # No redirects: the key must not travel to an address that nobody configured.
            async with self._session().post(self._url, json=payload, allow_redirects=False) as response:
                status, retry_after = response.status, response.headers.get("Retry-After")
                body = await read_json(response, _MAX_RESPONSE_BYTES, _broken("is too long"))
        except TimeoutError:
            raise _unavailable("did not accept the connection in time") from None
        except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError):
            raise _unavailable("is behind a proxy that cannot be reached, or lets nobody through") from None
        except (aiohttp.ClientError, OSError):
            # The library's text names addresses and sometimes the body.
            raise _unavailable("cannot be reached, or the connection broke") from None
        if status != 200:
            raise _from_status(status, parse_retry_after(retry_after), body)
        return _read_vectors(body, len(texts), self.dimension)

    def _session(self) -> aiohttp.ClientSession:
        # Made at the first call, because a session belongs to the running event loop.
        if self._http is None:
            self._http = http_session(
                self._url,
                self._api_key,
                seconds=_REBUILD_SECONDS,
                connect_seconds=_CONNECT_SECONDS,
                connections=self._concurrency,
            )
        return self._http

    async def close(self) -> None:
        """Closes the connections."""
        if self._http is not None:
            await self._http.close()


def _batches(texts: list[str], size: int) -> list[list[str]]:
    """Texts in their order, in batches of bounded size."""
    batches: list[list[str]] = [[]]
    characters = 0
    for text in texts:
        if batches[-1] and (len(batches[-1]) == size or characters + len(text) > _MAX_BATCH_CHARACTERS):
            batches.append([])
            characters = 0
        batches[-1].append(text)
        characters += len(text)
    return batches


def _read_vectors(body: Any, count: int, dimension: int) -> list[Vector]:
    """Reads an embeddings response.

    Args:
        body: The parsed response.
        count: How many texts were sent.
        dimension: The dimension that vectors must have; 0: any, all the same.

    Returns:
        Unit vectors in the order of the texts, which need not be that of the response.
    """
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise _broken("is no list of embeddings")
    if len(data) != count:
        raise _broken(f"has {len(data)} embeddings for {count} texts")
    # The index may be left out; then the order is that of the texts.
    indices = [item.get("index", place) for place, item in enumerate(data)]
    if not all(isinstance(index, int) for index in indices) or set(indices) != set(range(count)):
        raise _broken("numbers its embeddings wrongly")
    by_index = {index: _read_vector(item.get("embedding")) for index, item in zip(indices, data, strict=True)}
    vectors = [by_index[i] for i in range(count)]
    dimension = dimension or len(vectors[0])
    for vector in vectors:
        if len(vector) != dimension:
            # Repeating does not help: the endpoint's model was exchanged.
            raise FailedPrecondition(
                f"the embedder's endpoint gives vectors of {len(vector)} numbers, it gave {dimension} before: "
                f"correct {_PREFIX}_URL or {_PREFIX}_MODEL, or restart the knowledge store to make all vectors anew",
                reason=reasons.EMBEDDER_MISCONFIGURED,
            )
    return vectors


def _read_vector(embedding: Any) -> Vector:
    """A list of numbers, or the base64 of little-endian float32, to length 1."""
    try:
        if isinstance(embedding, str):
            raw = np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float64)
        else:
            raw = np.asarray(embedding, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise _broken("has embeddings that are no lists of numbers") from None
    with np.errstate(over="ignore"):  # it is infinite then
        length = np.linalg.norm(raw)
    if raw.ndim != 1 or not raw.size or not np.isfinite(length) or length == 0.0:
        raise _broken("has embeddings that are no lists of finite numbers, or only zeros")
    return (raw / length).astype(np.float32)


def _from_status(status: int, retry_after: float | None, body: Any) -> NesycdError | _Refused:
    """The error of an HTTP status and the provider's error code."""
    codes = error_codes(body)
    shown = ", ".join([f"HTTP {status}", *codes[:1]])
    if status == 402 or "insufficient_quota" in codes:
        return _misconfigured(f"says that the account's quota is used up ({shown}): raise it")
    if status in (401, 403):
        return _misconfigured(f"refused the key ({shown}): set {_PREFIX}_API_KEY")
    if status in (404, 405) or 300 <= status < 400:
        return _misconfigured(
            f"has no embeddings there, or not of this model ({shown}): set {_PREFIX}_URL and {_PREFIX}_MODEL"
        )
    if status in (408, 409, 424, 425, 429) or status >= 500:
        what = "limits the rate" if status == 429 else "failed"
        return _unavailable(f"{what} ({shown})", retry_after)
    return _Refused(_misconfigured(f"rejected the request ({shown}): check {_PREFIX}_MODEL, or look at its log"))


def _misconfigured(what: str) -> FailedPrecondition:
    return FailedPrecondition(f"the embedder's endpoint {what}", reason=reasons.EMBEDDER_MISCONFIGURED)


def _unavailable(what: str, retry_after: float | None = None) -> Unavailable:
    message = what if what.startswith("the embedder's") else f"the embedder's endpoint {what}"
    return Unavailable(message, reason=reasons.EMBEDDER_UNAVAILABLE, retry_after=retry_after)


def _broken(what: str) -> Unavailable:
    return _unavailable(f"answered, but the response {what}: check {_PREFIX}_URL if it lasts")
