"""The HTTP face of the stand-in: the OpenAI chat API and text-generation-inference's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import time
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from examples.standin_teacher.calls import CallLog
from examples.standin_teacher.faults import Faults, RateLimiter, hits, updated
from examples.standin_teacher.teachers import Lies, Teacher, UnknownQuestion, number_of, understand

MODEL = "standin-teacher"
_TOKEN = re.compile(r"\s*(?:\w{1,6}|[^\w\s])|\s+$")


def tokenize(text: str) -> list[str]:
    """Cuts a text into pieces of about the size of an LLM's tokens; joined they are the text again."""
    return _TOKEN.findall(text)


@dataclass(frozen=True)
class _Prompt:
    """What the two APIs have in common."""

    text: str
    prompt_tokens: int
    max_tokens: int | None
    stop: tuple[str, ...]
    stream: bool
    seed: int | None


@dataclass(frozen=True)
class _Answer:
    call: str
    pieces: list[str]
    finish: str  # stop or length
    cut: bool  # the connection is to be cut in the middle

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class _Refused(Exception):
    """A call that gets an error instead of an answer."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


_OTHER_QUESTIONS = (
    "Scripted, it knows the questions of examples/families; recorded answers to others are given with "
    '`nesycd up --standin "--mode replay --replay FILE"`; any other question needs a real teacher, `nesycd up --teacher-url URL`.'
)


class _Dropped(Exception):
    """A call whose connection is cut."""


class _Garbage(Exception):
    """A call whose answer is no JSON."""


class StandIn:
    """One stand-in teacher.

    Args:
        teacher: Knows the answers.
        faults: What is wrong with it at the start.
        log: The book of calls.
        mode: scripted or replay, for ``/info``.
    """

    def __init__(self, teacher: Teacher, faults: Faults, log: CallLog, *, mode: str) -> None:
        self._teacher = teacher
        self._initial = faults
        self._faults = faults
        self._log = log
        self._mode = mode
        self._limiter = RateLimiter()

    def application(self) -> web.Application:
        """The web application with all routes."""
        app = web.Application(client_max_size=16 * 2**20)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.get("/v1/models", self._models),
                web.post("/", self._generate),
                web.post("/generate", self._generate),
                web.post("/generate_stream", self._generate),
                web.get("/info", self._info),
                web.get("/health", self._health),
                web.get("/calls", self._calls),
                web.get("/control", self._show_control),
                web.post("/control", self._control),
            ]
        )
        return app

    # --- one call, whatever the API ---------------------------------------------------------------------------------

    async def _answer(self, request: web.Request, body: dict[str, Any], prompt: _Prompt) -> _Answer:
        """Decides what a call gets, writes it into the book, and returns it or raises what is to happen instead."""
        faults = self._faults
        canonical = json.dumps([request.path, body], sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        attempt = self._log.attempt(digest)
        ask = understand(prompt.text)
        fail_now = faults.fail_next > 0
        if fail_now:
            self._faults = updated(faults, {"fail_next": faults.fail_next - 1})
        if faults.latency:
            await asyncio.sleep(faults.latency)

        async def book(status: int, **more: Any) -> str:
            return await self._log.write(digest=digest, kind=ask.kind, status=status, path=request.path, **more)

        def hit(what: str, *, each_time: bool = False) -> bool:
            return hits(getattr(faults, what), faults.seed, what, digest, 0 if each_time else attempt)

        refused: _Refused | None = None
        if faults.api_key and request.headers.get("Authorization") != f"Bearer {faults.api_key}":
            refused = _Refused(401, "invalid_api_key", "Incorrect API key provided.")
        elif faults.down:
            refused = _Refused(503, "service_unavailable", "The server is down, as it was told to be.")
        elif fail_now:
            refused = _Refused(faults.fail_status, "requested_failure", "This call fails, as it was told to.")
            if faults.fail_status == 429:
                refused.retry_after = faults.retry_after
        elif (faults.rate_limit and not self._limiter.admit(faults.rate_limit)) or hit("rate_limit_rate"):
            refused = _Refused(429, "rate_limit_exceeded", "Rate limit reached.", faults.retry_after)
        elif hit("error_rate"):
            refused = _Refused(500, "server_error", "The server had an error, as it was told to.")
        if refused is None:
            # A wrong answer stays wrong with another budget or seed: it depends on the question, not on the request.
            about = hashlib.sha256(f"{ask.kind}\n{ask.question}".encode()).hexdigest()
            lies = Lies(
                wrong_answer=hits(faults.wrong_answer_rate, faults.seed, "wrong_answer", about),
                wrong_fact=hits(faults.wrong_fact_rate, faults.seed, "wrong_fact", about),
            )
            turn = number_of(f"{faults.seed}:{ask.kind}:{ask.question}")
            try:
                text = self._teacher.reply(ask, turn=turn, lies=lies)
            except UnknownQuestion as error:
                refused = _Refused(
                    404,
                    "question_not_found",
                    f"The stand-in teacher, in mode {self._mode}, cannot answer: {error}. {_OTHER_QUESTIONS}",
                )
        if refused is not None:
            await book(refused.status, fault=refused.code)
            raise refused

        if hit("drop_rate") and not prompt.stream:
            await book(0, fault="drop")
            raise _Dropped
        if hit("garbage_rate"):
            await book(200, fault="garbage")
            raise _Garbage
        fault = None
        if ask.kind != "rationale" and hit("invalid_json_rate", each_time=True):
            text, fault = _spoilt(text, number_of(digest)), "invalid_json"
        elif ask.kind == "rationale" and lies.wrong_answer:
            fault = "wrong_answer"
        elif ask.kind == "knowledge" and lies.wrong_fact:
            fault = "wrong_fact"
        for stop in prompt.stop:
            text = text.split(stop, 1)[0]
        pieces = tokenize(text)
        budget = len(pieces) if prompt.max_tokens is None else prompt.max_tokens
        if hit("truncate_rate", each_time=True):
            budget = min(budget, len(pieces) // 2)
        finish = "stop"
        if len(pieces) > budget:
            pieces, finish, fault = pieces[:budget], "length", "truncate"
        cut = hit("drop_rate")
        if cut:
            fault = "drop"
        call = await book(200, fault=fault, prompt_tokens=prompt.prompt_tokens, completion_tokens=len(pieces))
        return _Answer(call, pieces, finish, cut)

    # --- OpenAI -----------------------------------------------------------------------------------------------------

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await _read(request)
            prompt = _chat_prompt(body)
            answer = await self._answer(request, body, prompt)
        except _Refused as error:
            kind = "invalid_request_error" if error.status < 500 else "server_error"
            fields = {"message": error.message, "type": kind, "param": None, "code": error.code}
            return _refusal(error, {"error": fields})
        except _Dropped:
            return _drop(request)
        except _Garbage:
            return _garbage()
        head = {
            "id": f"chatcmpl-{answer.call}",
            "created": int(time.time()),
            "model": body.get("model") or MODEL,
            "system_fingerprint": MODEL,
        }
        completion = len(answer.pieces)
        usage = {
            "prompt_tokens": prompt.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": prompt.prompt_tokens + completion,
        }
        reasoning = {"reasoning_content": "I look up each fact first."} if self._faults.reasoning else {}
        if not prompt.stream:
            message = {"role": "assistant", "content": answer.text, "refusal": None, **reasoning}
            choice = {"index": 0, "message": message, "finish_reason": answer.finish, "logprobs": None}
            return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

        def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            return {**head, "object": "chat.completion.chunk", "choices": [choice]}

        events = [chunk({"role": "assistant", "content": "", **reasoning})]
        events += [chunk({"content": piece}) for piece in answer.pieces]
        if answer.cut:
            return await _stream(request, events[: len(events) // 2 + 1], cut=True)
        events.append(chunk({}, answer.finish))
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        return await _stream(request, events, end="[DONE]")

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "examples"}
        return web.json_response({"object": "list", "data": [model]})

    # --- text-generation-inference ----------------------------------------------------------------------------------

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await _read(request)
            prompt = _generate_prompt(body, stream=request.path == "/generate_stream")
            answer = await self._answer(request, body, prompt)
        except _Refused as error:
            kind = {429: "overloaded", 400: "validation", 422: "validation"}.get(error.status, "generation")
            return _refusal(error, {"error": error.message, "error_type": kind})
        except _Dropped:
            return _drop(request)
        except _Garbage:
            return _garbage()
        count = len(answer.pieces)
        finish = "length" if answer.finish == "length" else "eos_token"
        tokens = [
            {"id": number_of(piece) % 50_000, "text": piece, "logprob": 0.0, "special": False}
            for piece in answer.pieces
        ]
        if prompt.stream:
            details: dict[str, Any] = {
                "finish_reason": finish,
                "generated_tokens": count,
                "input_length": prompt.prompt_tokens,
                "seed": prompt.seed,
            }
            events: list[dict[str, Any]] = [
                {"index": index, "token": token, "generated_text": None, "details": None}
                for index, token in enumerate(tokens, 1)
            ]
            if answer.cut:
                return await _stream(request, events[: len(events) // 2 + 1], cut=True)
            if events:
                events[-1] |= {"generated_text": answer.text, "details": details}
            return await _stream(request, events)
        reply: dict[str, Any] = {"generated_text": answer.text}
        if (body.get("parameters") or {}).get("details"):
            reply["details"] = {
                "finish_reason": finish,
                "generated_tokens": count,
                "seed": prompt.seed,
                "prefill": [],
                "tokens": tokens,
                "best_of_sequences": None,
            }
        # The compatibility route answers with a list.
        return web.json_response([reply] if request.path == "/" else reply)

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "model_id": MODEL,
                "model_sha": None,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": 128,
                "max_best_of": 1,
                "max_stop_sequences": 4,
                "max_input_tokens": 8192,
                "max_total_tokens": 16384,
                "validation_workers": 1,
                "max_client_batch_size": 1,
                "router": f"examples.standin_teacher ({self._mode})",
                "version": "3.3.4",
                "sha": None,
                "docker_label": None,
            }
        )

    # --- for tests --------------------------------------------------------------------------------------------------

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _calls(self, request: web.Request) -> web.Response:
        return web.json_response(self._log.summary())

    async def _show_control(self, request: web.Request) -> web.Response:
        return web.json_response(self._visible())

    async def _control(self, request: web.Request) -> web.Response:
        """Changes faults: a JSON object of the names in ``Faults``; ``{"reset": true}`` goes back to the start first."""
        try:
            changes = await _read(request)
            base = self._initial if changes.pop("reset", False) is True else self._faults
            self._faults = updated(base, changes)
        except _Refused as error:
            return web.json_response({"error": error.message}, status=400)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            message = f"{place}: {first['msg']}. The names are: {', '.join(Faults.model_fields)}, reset."
            return web.json_response({"error": message}, status=400)
        return web.json_response(self._visible())

    def _visible(self) -> dict[str, Any]:
        values = self._faults.model_dump()
        values["api_key"] = "(set)" if values["api_key"] else ""
        return values


def _spoilt(text: str, turn: int) -> str:
    """JSON that will not pass: cut off, of another shape, or wrapped in talk."""
    if turn % 3 == 0:
        return text[: max(1, len(text) // 2)]
    if turn % 3 == 1:
        return json.dumps({"thoughts": "I would rather say it in my own words."})
    return f"Sure! Here is what you asked for: {text[1:]}"


async def _read(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.text())
    except (ValueError, UnicodeDecodeError) as error:
        raise _Refused(400, "invalid_json", "The request's body is not JSON.") from error
    if not isinstance(body, dict):
        raise _Refused(400, "invalid_json", "The request's body is not a JSON object.")
    return body


def _whole(value: Any, name: str, least: int | None = None) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise _Refused(
            400, "invalid_value", f"{name} must be a whole number{f' of at least {least}' if least else ''}."
        )
    return value


def _stops(value: Any, name: str) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise _Refused(400, "invalid_value", f"{name} must be a text or a list of texts.")
    return tuple(stops)


def _content(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise _Refused(400, "invalid_value", "messages must be objects with a role and a content.")
    return content


def _chat_prompt(body: dict[str, Any]) -> _Prompt:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _Refused(400, "missing_required_parameter", "messages must be a list of at least one message.")
    if body.get("n") not in (None, 1):
        raise _Refused(400, "invalid_value", "n must be 1.")
    form = body.get("response_format")
    if form is not None and (
        not isinstance(form, dict) or form.get("type") not in ("text", "json_object", "json_schema")
    ):
        raise _Refused(400, "invalid_value", "response_format.type must be text, json_object or json_schema.")
    contents = [_content(message) for message in messages]
    users = [text for text, message in zip(contents, messages, strict=True) if message.get("role") == "user"]
    limit = _whole(body.get("max_completion_tokens", body.get("max_tokens")), "max_tokens", 1)
    return _Prompt(
        text=users[-1] if users else contents[-1],
        prompt_tokens=sum(len(tokenize(text)) + 4 for text in contents),
        max_tokens=limit,
        stop=_stops(body.get("stop"), "stop"),
        stream=body.get("stream") is True,
        seed=_whole(body.get("seed"), "seed"),
    )


def _generate_prompt(body: dict[str, Any], *, stream: bool) -> _Prompt:
    inputs = body.get("inputs")
    parameters = body.get("parameters") or {}
    if not isinstance(inputs, str) or not inputs.strip():
        raise _Refused(422, "validation", "Input validation error: `inputs` cannot be empty")
    if not isinstance(parameters, dict):
        raise _Refused(422, "validation", "Input validation error: `parameters` must be an object")
    return _Prompt(
        text=inputs,
        prompt_tokens=len(tokenize(inputs)),
        # text-generation-inference's own default.
        max_tokens=_whole(parameters.get("max_new_tokens"), "max_new_tokens", 1) or 100,
        stop=_stops(parameters.get("stop"), "stop"),
        stream=stream or body.get("stream") is True,
        seed=_whole(parameters.get("seed"), "seed"),
    )


def _refusal(error: _Refused, body: dict[str, Any]) -> web.Response:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    return web.json_response(body, status=error.status, headers=headers)


def _drop(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _garbage() -> web.Response:
    return web.Response(text="<html><body>It works!</body></html>", content_type="text/html")


async def _stream(
    request: web.Request, events: list[dict[str, Any]], *, end: str | None = None, cut: bool = False
) -> web.StreamResponse:
    """Sends server-sent events; ``cut`` breaks the connection behind them."""
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    for event in events:
        await response.write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())
    if cut:
        await asyncio.sleep(0)
        if request.transport is not None:
            request.transport.abort()
        return response
    if end:
        await response.write(f"data: {end}\n\n".encode())
    await response.write_eof()
    return response
