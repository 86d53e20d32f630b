"""The command against a service on another machine, which has TLS and wants a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.main import main
from tests.certificates import self_signed
from tests.processes import Process, service

TOKEN = "a-token-0123456789"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("elsewhere")
    cert, key = certificate
    process = service(
        "knowledge", folder, data_dir=str(folder / "data"), compiled="false", auth_token=TOKEN,
        tls_cert=str(cert), tls_key=str(key), tls_client_ca=str(cert),
    )  # fmt: skip

    def ready() -> bool:
        credentials = grpc.ssl_channel_credentials(cert.read_bytes(), key.read_bytes(), cert.read_bytes())
        with grpc.secure_channel(f"localhost:{process.port}", credentials) as channel:
            try:
                request = health_pb2.HealthCheckRequest(service="nesycd.knowledge.v1.KnowledgeService")
                return health_pb2_grpc.HealthStub(channel).Check(request, timeout=2).status == 1
            except grpc.RpcError:
                return False

    process.ready = ready
    process.start()
    yield process
    process.kill()


def run(server: Process, home: Path, *arguments: str, **env: str) -> Result:
    address = f"localhost:{server.port}"
    env = {"NESYCD_HOME": str(home), "NESYCD_KNOWLEDGE_ADDRESS": address, "COLUMNS": "200", **env}
    result = CliRunner().invoke(main, ["kb", *arguments], env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert TOKEN not in result.output
    return result


@pytest.fixture
def settings(certificate: tuple[Path, Path]) -> dict[str, str]:
    cert, key = map(str, certificate)
    return {
        "NESYCD_CLI_PEER_TLS_CA": cert, "NESYCD_CLI_PEER_TLS_CERT": cert, "NESYCD_CLI_PEER_TLS_KEY": key,
        "NESYCD_CLI_PEER_TOKEN": TOKEN,
    }  # fmt: skip


def test_a_base_is_made_and_searched_through_tls_with_the_token(
    server: Process, settings: dict[str, str], tmp_path: Path
) -> None:
    for arguments in (
        ("create", "animals"),
        ("add", "Crabs have 10 legs.", "--kb", "animals"),
        ("export", str(tmp_path / "animals.jsonl"), "--kb", "animals"),
        ("import", str(tmp_path / "animals.jsonl"), "--kb", "animals"),
    ):
        result = run(server, tmp_path, *arguments, **settings)
        assert result.exit_code == 0, result.output
    assert "Crabs have 10 legs." in run(server, tmp_path, "search", "crabs", "--kb", "animals", **settings).stdout


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"NESYCD_CLI_PEER_TOKEN": ""}, "NESYCD_CLI_PEER_TOKEN"),
        ({"NESYCD_CLI_PEER_TOKEN": "another-0123456789"}, "NESYCD_CLI_PEER_TOKEN"),
        ({"NESYCD_CLI_PEER_TLS_CERT": "", "NESYCD_CLI_PEER_TLS_KEY": ""}, "NESYCD_CLI_PEER_TLS_CA"),
        ({"NESYCD_CLI_PEER_TLS_CA": "", "NESYCD_CLI_PEER_TLS": "true"}, "NESYCD_CLI_PEER_TLS_CA"),
        ({"NESYCD_CLI_PEER_TLS_KEY": ""}, "must be set together"),
        ({"NESYCD_CLI_PEER_TLS_CA": "no-such-file.pem"}, "no-such-file.pem: No such file"),
    ],
    ids=["no token", "a wrong token", "no certificate", "an unknown authority", "half a pair", "no file"],
)
def test_what_is_wrong_is_told_in_one_sentence(
    server: Process, settings: dict[str, str], tmp_path: Path, changes: dict[str, str], told: str
) -> None:
    result = run(server, tmp_path, "list", **{**settings, **changes})
    assert result.exit_code == 1
    assert told in result.stderr and "Traceback" not in result.stderr, result.stderr
    assert "another-0123456789" not in result.stderr


@pytest.mark.parametrize(
    ("address", "direct"),
    [("localhost:50062", True), ("127.0.0.1:50062", True), ("[::1]:50062", True), ("dns:///localhost:50062", True),
     ("nesycd.example.com:443", False), ("dns:///nesycd.example.com:443", False), ("10.1.2.3:50062", False)],
)  # fmt: skip
def test_a_service_of_another_machine_is_called_through_the_environments_proxy_and_one_of_this_is_not(
    monkeypatch: pytest.MonkeyPatch, address: str, direct: bool
) -> None:
    from cli import client

    monkeypatch.setenv("NESYCD_KNOWLEDGE_ADDRESS", address)
    given, options = client.connection("knowledge")
    assert (given, options["direct"]) == (address, direct)


def test_a_service_of_this_machine_is_called_without_them(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli import client
    from cli.stack import Stack

    monkeypatch.delenv("NESYCD_KNOWLEDGE_ADDRESS", raising=False)
    monkeypatch.setattr(Stack, "addresses", lambda self: {"knowledge": "127.0.0.1:1"})
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    assert client.connection("knowledge") == ("127.0.0.1:1", {})
