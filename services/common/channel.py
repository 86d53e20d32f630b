"""Channels to other services: what every call of ours sends along, and when it is repeated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import grpc

from services.common import context
from services.common.certificates import Certificates

IDEMPOTENT_METHODS: tuple[str, ...] = (
    "nesycd.teacher.v1.TeacherService/Generate",
    "nesycd.teacher.v1.TeacherService/GetUsage",
    "nesycd.extraction.v1.ExtractionService/ExtractKnowledge",
    "nesycd.knowledge.v1.KnowledgeService/GetKnowledgeBase",
    "nesycd.knowledge.v1.KnowledgeService/ListKnowledgeBases",
    "nesycd.knowledge.v1.KnowledgeService/GetEntry",
    "nesycd.knowledge.v1.KnowledgeService/ListEntries",
    "nesycd.knowledge.v1.KnowledgeService/SearchEntries",
    "nesycd.knowledge.v1.KnowledgeService/ListEntryRevisions",
    "nesycd.knowledge.v1.KnowledgeService/GetEntryRevision",
    "nesycd.knowledge.v1.KnowledgeService/ListReviews",
    "nesycd.knowledge.v1.KnowledgeService/ExportEntries",
    "nesycd.knowledge.v1.KnowledgeService/ExportAudit",
    "nesycd.knowledge.v1.KnowledgeService/GetKnowledgeBaseStatistics",
    "nesycd.knowledge.v1.KnowledgeService/WatchEntries",
    "nesycd.student.v1.StudentService/Answer",
    "nesycd.student.v1.StudentService/AnswerStream",
    "nesycd.student.v1.StudentService/ListAdapters",
    "nesycd.runs.v1.RunService/GetRun",
    "nesycd.runs.v1.RunService/ListRuns",
    "nesycd.runs.v1.RunService/WatchRun",
)
"""Methods that may be repeated without harm: they only read, their answer is stored under the request's key, or what they write is the same again:
an extraction's entries have ids that are made of their content, and a source is named once."""

DIRECT: tuple[str, int] = ("grpc.enable_http_proxy", 0)
"""Option of a channel to a service that is beside us. By itself gRPC asks a proxy of the environment for them, by names that no proxy knows."""

_LAST_LOOK_SECONDS = 60.0


def connect(
    address: str,
    *,
    retry: bool = True,
    idempotent: Iterable[str] = IDEMPOTENT_METHODS,
    max_attempts: int = 4,
    timeout: float | None = None,
    wait_for_ready: bool | None = None,
    tls: bool = False,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    token: str | None = None,
    direct: bool = True,
    max_message_bytes: int = 16 * 1024 * 1024,
) -> grpc.aio.Channel:
    """Opens a channel, which connects at once, that passes on the id of the current call and what is left of its deadline.

    Calls are spread over all addresses that the name resolves to (round robin). Idempotent methods are repeated when the
    server is UNAVAILABLE, with growing pauses or after the pause that the server asks for, within the deadline.

    Args:
        address: ``host:port``, or any gRPC target such as ``dns:///student:50064``.
        retry: Whether idempotent methods are repeated.
        idempotent: ``package.Service/Method`` names, or ``package.Service`` for all of a service's methods.
        max_attempts: Attempts of one call, the first one included; gRPC allows up to 5.
        timeout: Seconds for calls that come without a timeout of their own; what the current call has left wins where
            it is less.
        wait_for_ready: Whether calls wait for the server to be there instead of failing at once.
        tls: Use TLS with the system's authorities; implied by ``tls_ca``.
        tls_ca: PEM file with the authority that signed the server's certificate.
        tls_cert: PEM file with the client's certificate, for mutual TLS.
        tls_key: PEM file with its key. Files that are renewed are used by the calls that begin afterwards.
        token: Bearer token to send.
        direct: Whether no proxy of the environment is asked; between services none ever is.
        max_message_bytes: Largest response.

    Returns:
        A channel for the generated stubs; close it, or use it in ``async with``.

    Raises:
        CertificateError: A TLS file cannot be used.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", json.dumps(_service_config(idempotent if retry else (), max_attempts))),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Notice a peer that vanished without closing its connection.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # A service that was restarted is found again within seconds, not after gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 3_000),
        # So long a connection may take, with TLS, whatever its name says: a peer that is far away or busy is no peer that is away.
        ("grpc.min_reconnect_backoff_ms", 3_000),
        # A name is looked up again as soon as a connection ends, for the addresses of new replicas, not after gRPC's 30 seconds.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ]
    if direct:
        options.append(DIRECT)
    files = Certificates(tls_cert, tls_key, tls_ca) if tls or tls_ca or tls_cert else None

    def open_channel() -> grpc.aio.Channel:
        if files is None:
            inner = grpc.aio.insecure_channel(address, options)
        else:
            credentials = grpc.ssl_channel_credentials(files.authorities, files.key, files.certificate)
            inner = grpc.aio.secure_channel(address, credentials, options)
        # The peer's name is looked up now. gRPC fails calls without a repetition while a name has never been found, and in a new pod the
        # first lookup may fail; until its first call comes this is done again.
        inner.get_state(try_to_connect=True)
        return inner

    return _ContextChannel(open_channel, files, token, timeout, wait_for_ready)


def _service_config(idempotent: Iterable[str], max_attempts: int) -> dict[str, Any]:
    """See https://github.com/grpc/proposal/blob/master/A6-client-retries.md."""
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    names = [
        {"service": service, "method": method} if method else {"service": service}
        for service, _, method in (name.strip("/").partition("/") for name in idempotent)
    ]
    if names and max_attempts > 1:
        policy = {
            "maxAttempts": min(max_attempts, 5),
            "initialBackoff": "0.1s",
            "maxBackoff": "2s",
            "backoffMultiplier": 3,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["methodConfig"] = [{"name": names, "retryPolicy": policy}]
    return config


class _ContextChannel(grpc.aio.Channel):
    """Adds request id, token and deadline to every call, and opens another channel when the TLS files are renewed: gRPC reads them once.

    A channel around the channel, because gRPC's client interceptors give streams a call object of another, weaker class.
    """

    def __init__(
        self,
        open_channel: Callable[[], grpc.aio.Channel],
        files: Certificates | None,
        token: str | None,
        timeout: float | None,
        wait_for_ready: bool | None,
    ) -> None:
        self._open = open_channel
        self._files = files
        self._inner = open_channel()
        self._authorization = (("authorization", f"Bearer {token}"),) if token else ()
        self._timeout = timeout
        self._wait_for_ready = wait_for_ready

    def _current(self) -> grpc.aio.Channel:
        """The channel for a call that begins."""
        if self._files is not None and self._files.renew():
            old, self._inner = self._inner, self._open()
            # It ends when nobody holds it. Calls that run go on without it, but one that still looks for a connection needs it.
            asyncio.get_running_loop().call_later(_LAST_LOOK_SECONDS, lambda _held: None, old)
        return self._inner

    def _bind(self, kind: str, *how: Any, **codec: Any) -> Callable[..., Any]:
        def bound(
            request: Any = None,
            *,
            timeout: float | None = None,
            metadata: Any = None,
            wait_for_ready: bool | None = None,
            **kwargs: Any,
        ) -> Any:
            call = getattr(self._current(), kind)(*how, **codec)
            return call(
                request,
                timeout=_least(self._timeout if timeout is None else timeout, context.remaining()),
                metadata=self._metadata(metadata),
                wait_for_ready=self._wait_for_ready if wait_for_ready is None else wait_for_ready,
                **kwargs,
            )

        return bound

    def _metadata(self, given: Any) -> tuple[tuple[str, str | bytes], ...]:
        pairs = tuple(given or ())
        keys = {key for key, _ in pairs}
        request_id = context.request_id.get()
        if request_id and context.REQUEST_ID_KEY not in keys:
            pairs += ((context.REQUEST_ID_KEY, request_id),)
        return pairs if "authorization" in keys else pairs + self._authorization

    # What the generated stubs pass differs between versions of gRPC, so it is passed on as it comes.
    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._bind("unary_unary", method, *args, **kwargs)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._bind("unary_stream", method, *args, **kwargs)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._bind("stream_unary", method, *args, **kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._bind("stream_stream", method, *args, **kwargs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()


def _least(one: float | None, other: float | None) -> float | None:
    given = [seconds for seconds in (one, other) if seconds is not None]
    # A deadline in the past, and not this very moment, so that a call that is too late is never made.
    return (min(given) or -1.0) if given else None
