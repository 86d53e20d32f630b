"""TLS files that are renewed under a running process."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import grpc
import pytest
import structlog

from services.common.certificates import CertificateError, Certificates
from services.common.channel import connect
from services.common.server import Server, Service, StartError
from services.common.settings import ServerSettings
from tests.certificates import self_signed
from tests.processes import free_port
from tests.unit.common.conftest import NAME, Client, Echo, add_echo


class Secret:
    """The volume of a Secret: files are links into a folder that is exchanged as a whole, as kubelet does it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.version = folder, 0
        folder.mkdir()
        self.renew()
        self.files = folder / "cert.pem", folder / "key.pem"
        for file in self.files:
            file.symlink_to(Path("..data") / file.name)

    def renew(self) -> None:
        self.version += 1
        self_signed(self.folder / str(self.version))
        (self.folder / "new").symlink_to(str(self.version))
        os.replace(self.folder / "new", self.folder / "..data")

    @property
    def pem(self) -> bytes:
        return self.files[0].read_bytes()


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    return Secret(tmp_path / "tls")


async def shown(server: Server) -> bytes:
    """The certificate that the server shows to a new connection."""

    def look() -> str:
        return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=5)

    return (await asyncio.to_thread(look)).encode()


def serving(echo: Echo, secret: Secret, **settings: object) -> Server:
    cert, key = secret.files
    return Server(
        ServerSettings(grace_seconds=0, tls_cert=cert, tls_key=key, **settings),  # type: ignore[arg-type]
        [Service(NAME, None, add_echo, echo)],
    )


async def test_a_server_shows_a_renewed_certificate_to_new_connections_without_a_restart(echo, secret):
    async with serving(echo, secret) as server:
        assert await shown(server) == (old := secret.pem)
        secret.renew()
        assert await shown(server) == secret.pem != old


async def test_the_metrics_port_shows_the_renewed_certificate_too(echo, secret):
    async with serving(echo, secret, metrics_port=(port := free_port())) as server:
        secret.renew()
        await shown(server)
        metrics = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=5)
        assert metrics.encode() == secret.pem


async def test_with_mutual_tls_calls_go_on_when_both_sides_get_certificates_of_a_new_authority(echo, secret):
    cert, key = secret.files
    async with (
        serving(echo, secret, tls_client_ca=cert) as server,
        connect(server.address, retry=False, tls_ca=cert, tls_cert=cert, tls_key=key) as channel,
    ):
        client = Client(channel)
        assert (await client.unary("before")).value == "before"
        secret.renew()
        assert (await client.unary("after", timeout=10)).value == "after"
        # Who has but the old one gets in no more.
        old = secret.folder / "1"
        async with connect(
            server.address, retry=False, tls_ca=cert, tls_cert=old / "cert.pem", tls_key=old / "key.pem"
        ) as left_behind:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Client(left_behind).unary(timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("kind", ("Unary", "ServerStream", "Both"))
async def test_a_call_that_runs_is_not_ended_by_a_renewal(echo, secret, kind, monkeypatch):
    monkeypatch.setattr("services.common.channel._LAST_LOOK_SECONDS", 0)
    cert, _ = secret.files
    running, go = asyncio.Event(), asyncio.Event()

    async def slow(_call):
        running.set()
        await go.wait()
        return "done"

    echo.actions["slow"] = slow
    async with serving(echo, secret) as server, connect(server.address, retry=False, tls_ca=cert) as channel:
        client = Client(channel)
        call = asyncio.create_task(client.call(kind, "slow"))
        await running.wait()
        secret.renew()
        assert (await client.unary("another", timeout=10)).value == "another"
        await asyncio.sleep(0.05)  # the old channel is gone by now
        go.set()
        assert (await call)[-1] == "done"


async def test_a_key_that_is_not_the_certificates_leaves_the_old_pair_in_use_and_is_told_once(echo, secret, tmp_path):
    cert, key = secret.files
    old = secret.pem
    _, other = self_signed(tmp_path / "other")
    with structlog.testing.capture_logs() as told:
        async with serving(echo, secret) as server:
            key.unlink()
            key.write_bytes(other.read_bytes())
            assert [await shown(server) for _ in range(3)] == [old] * 3
            (warning,) = [line for line in told if line["log_level"] == "warning"]
            assert str(cert) in warning["detail"] and str(key) in warning["detail"]
            # The other half comes later.
            cert.unlink()
            cert.write_bytes((tmp_path / "other" / "cert.pem").read_bytes())
            assert await shown(server) == secret.pem != old


def test_files_are_read_again_only_when_they_have_changed(secret):
    cert, key = secret.files
    files = Certificates(cert, key, cert)
    assert not files.renew() and files.certificate == secret.pem
    secret.renew()
    assert files.renew() and not files.renew()
    assert files.certificate == files.authorities == secret.pem and files.key == key.read_bytes()


def test_a_file_that_is_gone_for_a_moment_changes_nothing(secret):
    cert, key = secret.files
    files = Certificates(cert, key, None)
    content = key.read_bytes()
    key.unlink()
    assert not files.renew() and files.key == content
    key.write_bytes(content)
    assert files.renew() and files.key == content


async def test_a_server_does_not_start_with_files_that_do_not_fit(echo, secret, tmp_path):
    cert, key = secret.files
    _, other = self_signed(tmp_path / "other")
    for wrong in ({"tls_key": other}, {"tls_cert": key}, {"tls_client_ca": key}):
        server = Server(
            ServerSettings(**{"tls_cert": cert, "tls_key": key, **wrong}), [Service(NAME, None, add_echo, echo)]
        )
        with pytest.raises(StartError, match=str(next(iter(wrong.values())))):
            await server.start()


def test_a_client_without_its_files_says_which_is_missing(tmp_path):
    with pytest.raises(CertificateError, match=str(tmp_path / "ca.crt")):
        connect("localhost:1", tls_ca=tmp_path / "ca.crt")
