"""The way to a Weaviate server: client, deadlines, and what is said when it is down.

The client alone waits for a minute for a server that is dead. Here every call has a deadline; one that takes long makes
us look whether the server still answers; and while it does not, calls fail at once, until it is ready again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import structlog
import weaviate
from grpc_health.v1 import health_pb2, health_pb2_grpc
from weaviate import WeaviateAsyncClient, exceptions
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.config import GrpcConfig, Proxies

from services.common.channel import DIRECT
from services.common.errors import FailedPrecondition, NesycdError, Unavailable, disk_full
from services.knowledge import reasons

MINIMUM_VERSION = (1, 36)
_PATIENCE = 0.5  # seconds before a call without an answer makes us look for the server
_PAUSE = 1.0  # seconds between two looks at a server that is down
_READY_PATIENCE = 2.0
_TIMEOUTS_UNTIL_DOWN = 3
# The channel comes back soon after the server does; the default waits up to two minutes.
_CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    DIRECT,
]
_MISSING = ("tenant not found", "could not find class", "tenant not active")
_NO_SPACE = ("no space left", "read-only", "readonly", "disk usage")
_FAILURES = (exceptions.WeaviateBaseError, httpx.HTTPError, grpc.RpcError, OSError)
_log = structlog.get_logger(__name__)


class MissingError(Exception):
    """A tenant or a collection is not there."""


class Connection:
    """One client of one server.

    Args:
        url: `http://host:8080` or `https://...`.
        grpc_host: Where its gRPC port is; empty: the url's host.
        grpc_port: Its gRPC port.
        grpc_secure: Whether that port speaks TLS; None: where the url is https. Certificates are checked with the
            system's authorities, or with the file that SSL_CERT_FILE names.
        api_key: Sent with every call; empty: none.
        start_timeout: Seconds that `open` waits for a server that is not up yet.
        timeout: Seconds that a call may take.
    """

    def __init__(
        self,
        url: str,
        *,
        grpc_host: str = "",
        grpc_port: int = 50051,
        grpc_secure: bool | None = None,
        api_key: str = "",
        start_timeout: float = 60.0,
        timeout: float = 10.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FailedPrecondition(
                "NESYCD_KNOWLEDGE_WEAVIATE_URL is not an address like http://weaviate:8080: correct it",
                subject="NESYCD_KNOWLEDGE_WEAVIATE_URL",
            )
        secure = parts.scheme == "https"
        self.url = url
        self._host = parts.hostname
        self._port = parts.port or (443 if secure else 80)
        self._secure = secure
        self._grpc_host = grpc_host or parts.hostname
        self._grpc_port = grpc_port
        self._grpc_secure = secure if grpc_secure is None else grpc_secure
        self._api_key = api_key
        self._start_timeout = start_timeout
        self.timeout = timeout
        self._client: WeaviateAsyncClient | None = None
        self._http: httpx.AsyncClient | None = None
        self._down_until = 0.0  # of time.monotonic(); 0: it is up
        self._is_looking = False
        self._timeouts = 0

    @property
    def where(self) -> str:
        """The addresses, for messages."""
        return f"{self._host}:{self._port} (gRPC {self._grpc_host}:{self._grpc_port})"

    @property
    def client(self) -> WeaviateAsyncClient:
        """The client; `open` must have returned."""
        if self._client is None:
            raise Unavailable("the store is not open", retry_after=1.0, reason=reasons.STORE_UNAVAILABLE)
        return self._client

    async def open(self) -> None:
        """Connects to both ports, and waits for a server that is not up yet.

        Raises:
            FailedPrecondition: The server refuses the API key, or is too old.
            Unavailable: It was not ready in time.
        """
        base_url = f"{'https' if self._secure else 'http'}://{self._host}:{self._port}"
        self._http = httpx.AsyncClient(base_url=base_url, timeout=_READY_PATIENCE)
        end = time.monotonic() + self._start_timeout
        while True:
            try:
                async with asyncio.timeout(self.timeout):
                    await self._connect()
                return
            except (*_FAILURES, Unavailable, TimeoutError) as error:
                await self._drop()
                if isinstance(error, exceptions.UnexpectedStatusCodeError) and error.status_code in (401, 403):
                    raise self._refused() from error
                if time.monotonic() >= end:
                    await self.close()
                    raise Unavailable(
                        f"Weaviate at {self.where} was not ready within {self._start_timeout:g} s: see whether it runs "
                        "and whether both ports can be reached, or raise NESYCD_KNOWLEDGE_WEAVIATE_START_TIMEOUT_SECONDS",
                        reason=reasons.STORE_UNAVAILABLE,
                        retry_after=5.0,
                    ) from error
                _log.info("waiting for Weaviate", where=self.where, error=type(error).__name__)
                await asyncio.sleep(min(_PAUSE, max(0.05, end - time.monotonic())))

    async def _connect(self) -> None:
        if not await self._ready():
            raise Unavailable("not ready")
        credentials = _authorities() if self._grpc_secure else None
        await self._check_grpc(credentials)
        self._client = client = weaviate.use_async_with_custom(
            http_host=self._host,
            http_port=self._port,
            http_secure=self._secure,
            grpc_host=self._grpc_host,
            grpc_port=self._grpc_port,
            grpc_secure=self._grpc_secure,
            auth_credentials=Auth.api_key(self._api_key) if self._api_key else None,
            additional_config=AdditionalConfig(
                timeout=Timeout(init=self.timeout, query=self.timeout, insert=self.timeout),
                # httpx reads the variables of certificates and proxies itself. A proxy does not help: the ports are also looked at
                # directly, so NO_PROXY must have a server that is not the cluster's own (docs/install.md).
                trust_env=True,
                proxies=Proxies(),
                grpc_config=GrpcConfig(channel_options=_CHANNEL_OPTIONS, credentials=credentials),
            ),
            # They would ask a package index for newer clients.
            skip_init_checks=True,
        )
        await client.connect()
        version = str((await client.get_meta()).get("version", ""))
        numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])
        if numbers < MINIMUM_VERSION:
            raise FailedPrecondition(
                f"Weaviate at {self.where} is of version {version}: "
                f"{'.'.join(map(str, MINIMUM_VERSION))} or later is needed",
                subject="NESYCD_KNOWLEDGE_WEAVIATE_URL",
            )

    async def _check_grpc(self, credentials: grpc.ChannelCredentials | None) -> None:
        """Raises an RpcError where the port does not answer, or speaks TLS and we do not; the client would not notice."""
        where = f"{self._grpc_host}:{self._grpc_port}"
        secure = (credentials or grpc.ssl_channel_credentials()) if self._grpc_secure else None
        opened = (
            grpc.aio.secure_channel(where, secure, [DIRECT]) if secure else grpc.aio.insecure_channel(where, [DIRECT])
        )
        async with opened as channel:
            request = health_pb2.HealthCheckRequest()
            await health_pb2_grpc.HealthStub(channel).Check(request, timeout=_READY_PATIENCE)

    def _refused(self) -> FailedPrecondition:
        return FailedPrecondition(
            f"Weaviate at {self.where} refuses the API key: "
            "set NESYCD_KNOWLEDGE_WEAVIATE_API_KEY to a key that may read and write",
            reason=reasons.STORE_ACCESS_DENIED,
            subject="NESYCD_KNOWLEDGE_WEAVIATE_API_KEY",
        )

    async def _drop(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def close(self) -> None:
        """Closes the client."""
        await self._drop()
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    # -- calls

    @asynccontextmanager
    async def calls(self, seconds: float | None = None) -> AsyncIterator[None]:
        """Everything that is asked of the server happens within this.

        Args:
            seconds: What it may take; None: the setting.

        Raises:
            Unavailable: The server is down or took too long. What a write did is unknown then.
            ResourceExhausted: Its disk is full.
            FailedPrecondition: It refuses the API key.
            MissingError: A tenant or collection is not there.
        """
        if self._down_until:
            await self._look()
        watchers: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(seconds or self.timeout) as scope:
                watch = asyncio.get_running_loop().call_later(
                    _PATIENCE, lambda: watchers.append(asyncio.create_task(self._end_if_dead(scope)))
                )
                try:
                    yield
                finally:
                    watch.cancel()
                    for watcher in watchers:
                        watcher.cancel()
        except TimeoutError as error:
            self._timeouts += 1
            if self._timeouts >= _TIMEOUTS_UNTIL_DOWN:
                self._trip()
            raise self._unavailable("gave no answer in time") from error
        except _FAILURES as error:
            raise self._translated(error) from error
        self._timeouts = 0

    async def _end_if_dead(self, scope: asyncio.Timeout) -> None:
        """Ends a call whose server is gone, long before its deadline: the client would go on trying."""
        while True:
            if not await self._listens():
                break
            await asyncio.sleep(_PATIENCE)
        self._trip()
        with contextlib.suppress(RuntimeError):  # the call ended meanwhile
            scope.reschedule(0.0)

    async def _listens(self) -> bool:
        """Whether somebody accepts connections on both ports; a slow answer is no death."""
        for host, port in ((self._host, self._port), (self._grpc_host, self._grpc_port)):
            try:
                async with asyncio.timeout(_READY_PATIENCE):
                    _, writer = await asyncio.open_connection(host, port)
                writer.close()
            except TimeoutError:
                continue
            except OSError:
                return False
        return True

    def _trip(self) -> None:
        if not self._down_until:
            _log.warning("Weaviate is down", where=self.where)
        self._down_until = time.monotonic() + _PAUSE

    async def _look(self) -> None:
        """Lets calls through again when the server is ready; one caller looks, the others are told to come back."""
        if self._is_looking or time.monotonic() < self._down_until:
            raise self._unavailable("is down")
        self._is_looking = True
        try:
            if not await self._ready():
                self._trip()
                raise self._unavailable("is down")
            self._down_until = 0.0
            self._timeouts = 0
            _log.info("Weaviate is up again", where=self.where)
        finally:
            self._is_looking = False

    async def _ready(self) -> bool:
        if self._http is None:
            return False
        try:
            response = await self._http.get("/v1/.well-known/ready")
        except (httpx.HTTPError, OSError):
            return False
        return response.status_code == 200 and await self._listens()

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(
            f"Weaviate at {self.where} {what}: repeat the request later",
            reason=reasons.STORE_UNAVAILABLE,
            retry_after=_PAUSE,
        )

    def _translated(self, error: BaseException) -> NesycdError | MissingError:
        if isinstance(error, exceptions.WeaviateInvalidInputError):
            raise error  # a defect of ours
        text = str(error).lower()
        status = error.status_code if isinstance(error, exceptions.UnexpectedStatusCodeError) else 0
        if any(part in text for part in _MISSING):
            return MissingError(str(error))
        if status in (401, 403) or "unauthenticated" in text or "permission_denied" in text:
            return self._refused()
        if any(part in text for part in _NO_SPACE):
            return disk_full()
        if isinstance(error, exceptions.WeaviateConnectionError | httpx.TransportError | OSError):
            self._trip()
        _log.warning("Weaviate failed", where=self.where, error=type(error).__name__, text=str(error)[:200])
        return self._unavailable("failed")


def _authorities() -> grpc.ChannelCredentials | None:
    """The authorities that httpx reads by itself, for gRPC."""
    file = os.environ.get("SSL_CERT_FILE")
    return grpc.ssl_channel_credentials(Path(file).read_bytes()) if file else None
