"""Start-up and drain of every server.

async def main() -> None:
    settings = Settings()
    servicer = TeacherServicer(...)
    await serve(settings, [Service(NAME, teacher_pb2.DESCRIPTOR, add_TeacherServiceServicer_to_server, servicer)])

if __name__ == "__main__":
    run(main)
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import grpc
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server
from pydantic import ValidationError

from services.common import logs
from services.common.certificates import CertificateError, Certificates
from services.common.errors import NesycdError
from services.common.interceptors import CallInterceptor, Gate
from services.common.settings import ServerSettings

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_LAST_SECONDS = 0.5
"""Part of the grace time kept for telling the callers of unfinished calls that the server stops."""

_COLLECT_AFTER = 20_000
"""New objects until the collector looks at the young ones; Python's 700 are fewer than one import block makes of a kind."""

_CONNECTION_AGE_MS = 30_000

_CLOSE_SECONDS = 5.0
"""Time that ``close`` gets at least, to flush what it holds."""

_log = logs.get_logger("server")


class StartError(Exception):
    """The server cannot start; the message is one sentence that says what to change."""


@dataclass(frozen=True)
class Service:
    """One gRPC service that a server offers.

    Attributes:
        name: Full name, such as ``nesycd.teacher.v1.TeacherService``; also its name in health.v1.
        descriptor: ``DESCRIPTOR`` of the generated module that holds it, for reflection; None where there is none.
        add: The generated ``add_..._to_server``.
        servicer: Its implementation, with async methods.
    """

    name: str
    descriptor: FileDescriptor | None
    add: Callable[[Any, grpc.aio.Server], None]
    servicer: object


class Server:
    """A server with health, reflection, metrics and the common interceptor.

    Services use `serve`; tests may use it directly: ``async with Server(settings, services) as server: server.address``.

    Args:
        settings: Where to listen and the limits.
        services: What to offer.
        ready: Awaited once the server listens; the services are SERVING when it returns.
        close: Awaited after the last call, to close what the servicers hold.
    """

    def __init__(
        self,
        settings: ServerSettings,
        services: Sequence[Service],
        *,
        ready: Callable[[], Awaitable[None]] | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.settings = settings
        self.port = 0
        self._services = services
        self._ready = ready
        self._close = close
        self._gate = Gate(settings.max_concurrent_calls)
        self._health = health.aio.HealthServicer()
        self._metrics: tuple[Any, threading.Thread] | None = None
        self._server: grpc.aio.Server | None = None
        self._stopped = False
        self._hurried = asyncio.Event()

    @property
    def address(self) -> str:
        """``host:port`` that it listens on."""
        return _address(self.settings.host, self.port)

    async def start(self) -> int:
        """Listens; "" is SERVING from now on, the services are not.

        Returns:
            The port.

        Raises:
            StartError: The port is taken, or a TLS file cannot be used.
        """
        token = self.settings.auth_token
        self._server = grpc.aio.server(
            interceptors=[CallInterceptor(self._gate, token.get_secret_value() if token else None)],
            options=[
                ("grpc.max_receive_message_length", self.settings.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # Or a second server on the same port would silently take half of the calls.
                ("grpc.so_reuseport", 0),
                # Lets clients send the keepalive pings of services.common.channel.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                # Clients connect anew now and then: they find replicas that were added, and leave one that drains; running calls go on.
                ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
            ],
        )
        for service in self._services:
            service.add(service.servicer, self._server)
            await self._health.set(service.name, _NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(self._reflected(), self._server)
        self.port = self._bind(self._server)
        self._metrics = self._serve_metrics()
        await self._server.start()
        _log.info(
            "listening",
            address=self.address,
            services=[service.name for service in self._services],
            tls=bool(self.settings.tls_cert),
        )
        return self.port

    async def make_ready(self) -> None:
        """Awaits ``ready`` and lets the services be SERVING."""
        started = time.monotonic()
        if self._ready is not None:
            await self._ready()
        # What is loaded now stays: the collector need not walk through it again and again while calls wait.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER)
        self._gate.ready = True
        for service in self._services:
            await self._health.set(service.name, _SERVING)
        _log.info("ready", address=self.address, seconds=round(time.monotonic() - started, 3))

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Drains: NOT_SERVING, no new calls, the running ones get the grace time, then ``close``.

        Args:
            grace_seconds: Instead of the setting.
        """
        if self._server is None or self._stopped:
            return
        self._stopped = True
        grace = self.settings.grace_seconds if grace_seconds is None else grace_seconds
        until = time.monotonic() + grace
        await self._health.enter_graceful_shutdown()
        self._gate.stopping.set()
        _log.info("draining", grace_seconds=grace)
        await _wait(self._hurried, min(self.settings.drain_delay_seconds, grace))
        # The port stays open while calls run, so that health checks see NOT_SERVING and new calls get a reason.
        self._gate.refusing = True
        idle = await self._gate.wait_idle(max(0.0, until - time.monotonic() - min(_LAST_SECONDS, grace / 2)))
        unfinished = 0 if idle else self._gate.expire()
        self._gate.end_infrastructure()
        # Returns once the last responses are sent.
        await self._server.stop(max(0.0, until - time.monotonic()))
        await self._run_close(max(_CLOSE_SECONDS, until - time.monotonic()))
        if self._metrics is not None:
            httpd, thread = self._metrics
            await asyncio.to_thread(httpd.shutdown)
            httpd.server_close()
            thread.join(1)
        _log.info("stopped", unfinished_calls=unfinished)

    def hurry(self) -> None:
        """Ends the calls that a drain waits for."""
        self._gate.refusing = True
        self._hurried.set()
        self._gate.expire()

    async def __aenter__(self) -> Self:
        await self.start()
        try:
            await self.make_ready()
        except BaseException:
            await self.stop(0)
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    def _reflected(self) -> list[str]:
        names = [reflection.SERVICE_NAME, health.SERVICE_NAME]
        for service in self._services:
            if service.descriptor is None:
                continue
            if service.name not in {one.full_name for one in service.descriptor.services_by_name.values()}:
                raise StartError(f"{service.descriptor.name} holds no service {service.name}")
            names.append(service.name)
        return names

    def _bind(self, server: grpc.aio.Server) -> int:
        address = _address(self.settings.host, self.settings.port)
        try:
            if self.settings.tls_cert is None or self.settings.tls_key is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, self._credentials())
        except RuntimeError:
            port = 0
        if not port:
            prefix = self.settings.model_config.get("env_prefix", "")
            raise StartError(
                f"cannot listen on {address}: the port is taken, or the address is not this machine's; change {prefix}PORT or "
                f"{prefix}HOST, or end the process that uses it"
            )
        return port

    def _credentials(self) -> grpc.ServerCredentials:
        """Those of the TLS files, for every new connection as they are then."""
        settings = self.settings
        try:
            files = Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        except CertificateError as error:
            raise StartError(str(error)) from error

        def configuration() -> grpc.ServerCertificateConfiguration:
            return grpc.ssl_server_certificate_configuration([(files.key, files.certificate)], files.authorities)

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            # gRPC asks in a thread of its own.
            if not files.renew():
                return None
            self._renew_metrics()
            return configuration()

        return grpc.dynamic_ssl_server_credentials(
            configuration(), renewed, require_client_authentication=settings.tls_client_ca is not None
        )

    def _serve_metrics(self) -> tuple[Any, threading.Thread] | None:
        settings = self.settings
        if not settings.metrics_port:
            return None
        try:
            return start_http_server(
                settings.metrics_port,
                addr=settings.metrics_host,
                certfile=str(settings.tls_cert) if settings.tls_cert else None,
                keyfile=str(settings.tls_key) if settings.tls_key else None,
            )
        except OSError as error:
            raise StartError(
                f"cannot serve metrics on {settings.metrics_host}:{settings.metrics_port}: {error.strerror}; "
                f"change {settings.model_config.get('env_prefix', '')}METRICS_PORT, or set it to 0"
            ) from error

    def _renew_metrics(self) -> None:
        if self._metrics is None or self.settings.tls_cert is None:
            return
        try:
            self._metrics[0].socket.context.load_cert_chain(self.settings.tls_cert, self.settings.tls_key)
        except OSError as error:
            _log.warning("metrics keep the certificate from before", **logs.describe_exception(error))

    async def _run_close(self, seconds: float) -> None:
        if self._close is None:
            return
        try:
            await asyncio.wait_for(self._close(), seconds)
        except TimeoutError:
            _log.warning("close took too long", seconds=seconds)
        except Exception as error:  # the process ends anyway: say so, and go on
            _log.error("close failed", **logs.describe_exception(error))


async def serve(
    settings: ServerSettings,
    services: Sequence[Service],
    *,
    ready: Callable[[], Awaitable[None]] | None = None,
    close: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains and returns; a second signal does not wait any longer.

    Args:
        settings: Where to listen and the limits.
        services: What to offer.
        ready: Awaited once the server listens, to load what the services need; until it returns their health is
            NOT_SERVING and calls get UNAVAILABLE (NOT_READY).
        close: Awaited after the last call.

    Raises:
        StartError: It cannot listen.
        Exception: Whatever ``ready`` raises.
    """
    logs.configure(settings.log_level)
    signals = _Signals()
    server = Server(settings, services, ready=ready, close=close)
    await server.start()
    _log.info("settings", **settings.describe())
    try:
        with signals:
            readying = asyncio.create_task(server.make_ready())
            stopping = asyncio.create_task(signals.first.wait())
            await asyncio.wait({readying, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if readying.done():
                readying.result()
                await stopping
            else:
                readying.cancel()
            draining = asyncio.create_task(server.stop())
            hurry = asyncio.create_task(signals.second.wait())
            await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
            if hurry.done():
                _log.warning("second signal: the running calls are ended")
                server.hurry()
            hurry.cancel()
            await draining
    finally:
        await server.stop(0)


def run(main: Coroutine[Any, Any, None] | Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a server's ``main`` with logging set up; ends the process with 2 and one sentence if it cannot start.

    Args:
        main: The coroutine, or better the function that makes it: then errors of the settings are reported, too.
    """
    logs.configure(os.environ.get("NESYCD_LOG_LEVEL", "info").lower())

    async def entry() -> None:
        await (main() if callable(main) else main)

    try:
        asyncio.run(entry())
    except ValidationError as error:
        _give_up("; ".join(_setting_problem(item) for item in error.errors(include_url=False, include_input=False)))
    except (StartError, CertificateError) as error:
        _give_up(str(error))
    except NesycdError as error:
        _give_up(error.message)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # No call's exception comes here, so the text holds no caller's input; the redaction takes secrets out of it.
        _log.error("server failed", detail=str(error)[:500], **logs.describe_exception(error))
        sys.exit(1)


class _Signals:
    """Turns SIGTERM and SIGINT into events while it is entered."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._received)
        return self

    def __exit__(self, *_exc: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().remove_signal_handler(number)

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _setting_problem(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    return f"setting {where}: {item['msg']}" if where else item["msg"].removeprefix("Value error, ")


def _give_up(sentence: str) -> NoReturn:
    print(f"cannot start: {sentence}", file=sys.stderr)
    sys.exit(2)
