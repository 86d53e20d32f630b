"""Redis over TLS: everything works, and a server whose certificate nobody signed gets no password and no message. Real Valkey, real workers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from jobs.app import make_app
from jobs.settings import Settings
from tests.certificates import self_signed
from tests.component.jobs.conftest import World
from tests.processes import free_port

ZERO_SHOT = {"method": "zero-shot", "evaluate": {"conditions": ["zero_shot"]}}


@contextlib.contextmanager
def speaking_tls(port: int, certificate: tuple[Path, Path]) -> Iterator[int]:
    """A port that speaks TLS and passes everything on to another one: Valkey's package is built without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    own = free_port()
    started = threading.Event()
    loop = asyncio.new_event_loop()

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", own, ssl=context):
            started.set()
            await asyncio.Event().wait()

    def work() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    task = loop.create_task(main())
    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert started.wait(10)
        yield own
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


def test_a_run_and_a_submission_go_through_a_redis_that_speaks_tls(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path / "tls")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with speaking_tls(world.broker.port or 0, certificate) as port:
        url = f"rediss://localhost:{port}/0"
        for queues in ("nesycd.cpu,nesycd.gpu", "nesycd.runs"):
            world.worker(queues, NESYCD_JOBS_REDIS_URL=url, SSL_CERT_FILE=str(certificate[0]))
        app = make_app(Settings(redis_url=url))
        spec = {"name": "tls", "data": {"train": world.data(2, "t"), "test": world.data(2)}, **ZERO_SHOT}
        sent = app.send_task("nesycd.run", args=[spec], kwargs={"run_id": "tls"})
        assert sent.get(timeout=100) == {"run": "runs/tls"}
        world.wait_over("tls")
        app.close()


def test_a_redis_whose_certificate_nobody_signed_is_not_spoken_to(world: World, tmp_path: Path) -> None:
    with speaking_tls(world.broker.port or 0, self_signed(tmp_path / "tls")) as port:
        worker = world.worker(NESYCD_JOBS_REDIS_URL=f"rediss://:secret@localhost:{port}/0")
        world.wait(lambda: b"certificate verify failed" in worker.log.read_bytes())
        assert b"secret" not in worker.log.read_bytes()
        client = redis.Redis(port=world.broker.port or 0)
        assert not client.client_list(_type="pubsub") and not client.keys("*")
        client.close()
