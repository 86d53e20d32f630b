"""Which knowledge store `nesycd up` starts, and with which settings."""

from __future__ import annotations

import configparser
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import stack, watch, weaviate
from cli.main import main
from cli.stack import DEFAULT_PORTS, WEAVIATE_PORTS, Options, Stack

URL = "http://weaviate.example.com:8080"


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """What `up` asked for; nothing is started, and it is kept as if it had been."""
    monkeypatch.setenv("NESYCD_HOME", str(tmp_path / "home"))
    for name in ("STORE", "WEAVIATE_URL"):
        monkeypatch.delenv(f"NESYCD_KNOWLEDGE_{name}", raising=False)
    monkeypatch.delenv("NESYCD_TEACHER_UPSTREAM_URL", raising=False)
    asked: list[Options] = []

    def start(self: Stack, options: Options, say: object = None) -> Options:
        asked.append(options)
        return options

    monkeypatch.setattr(Stack, "start", start)
    monkeypatch.setattr(Stack, "options", lambda self: asked[-1] if asked else None)
    monkeypatch.setattr(watch, "until_ready", lambda *_: None)
    return asked


def up(*arguments: str) -> None:
    result = CliRunner().invoke(main, ["up", *arguments])
    assert result.exit_code == 0, result.output


def test_the_store_is_an_option_or_exported_and_is_kept(
    started: list[Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    up()
    assert started[-1].knowledge == "embedded" and not started[-1].own_weaviate
    up("--knowledge", "weaviate")
    up()
    assert started[-1].own_weaviate
    monkeypatch.setenv("NESYCD_KNOWLEDGE_STORE", "embedded")
    up()
    assert started[-1].knowledge == "embedded"
    up("--knowledge", "weaviate")
    assert started[-1].own_weaviate, "an option wins over what is exported"


def test_a_server_that_is_exported_is_used_and_remembered(
    started: list[Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NESYCD_KNOWLEDGE_WEAVIATE_URL", URL)
    up()
    assert started[-1].knowledge == "embedded", "an address alone chooses nothing"
    up("--knowledge", "weaviate")
    monkeypatch.delenv("NESYCD_KNOWLEDGE_WEAVIATE_URL")
    up()
    assert started[-1].weaviate_url == URL and not started[-1].own_weaviate
    up("--knowledge", "weaviate")
    assert started[-1].own_weaviate, "chosen anew, without an address"


def test_a_server_of_our_own_wants_a_key_and_keeps_its_settings_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weaviate, "find_server", lambda: Path("/opt/weaviate-server"))
    monkeypatch.setenv("NESYCD_KNOWLEDGE_WEAVIATE_API_KEY", "of another server")
    made = Stack(tmp_path)
    options = Options(knowledge="weaviate", ports={**DEFAULT_PORTS, **WEAVIATE_PORTS})
    config = configparser.RawConfigParser()
    config.read_string(made._config(options))
    key_file = tmp_path / "weaviate.key"
    key = key_file.read_text()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600 and len(key) >= 32
    server = config["program:weaviate"]
    assert f'AUTHENTICATION_APIKEY_ALLOWED_KEYS="{key}"' in server["environment"]
    assert 'GRPC_PORT="50071"' in server["environment"] and "--host" in server["command"]
    assert config["program:knowledge"]["environment"] == ""
    environment = made._environment(options)
    assert environment["NESYCD_KNOWLEDGE_WEAVIATE_API_KEY"] == key
    assert environment["NESYCD_KNOWLEDGE_WEAVIATE_GRPC_PORT"] == "50071"
    assert not any(name.startswith("AUTHENTICATION") for name in environment)


def test_another_store_is_no_server_of_ours(tmp_path: Path) -> None:
    for options in (Options(), Options(knowledge="weaviate", weaviate_url=URL)):
        assert "program:weaviate" not in Stack(tmp_path)._config(options)
    assert Stack(tmp_path)._environment(options)["NESYCD_KNOWLEDGE_WEAVIATE_URL"] == URL
    assert not (tmp_path / "weaviate.key").exists()


def test_without_a_server_up_says_how_to_get_one_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weaviate, "find_server", lambda: None)
    monkeypatch.setattr(Stack, "stop", lambda self: pytest.fail("stopped"))
    with pytest.raises(stack.Problem, match="make weaviate"):
        Stack(tmp_path).start(Options(knowledge="weaviate"))
