"""What the command says where nothing runs, and how it reads what it is given."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from nesycd.runs.v1 import CreateRunResponse, EstimateRunResponse, Run

from cli import knowledge, stack
from cli.knowledge import files, names, options
from cli.main import load_spec, main, run_name
from cli.problems import Problem, explain
from cli.stack import Options, Stack, choose_ports
from services.common import errors


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NESYCD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NESYCD_TEACHER_UPSTREAM_URL", raising=False)
    return tmp_path / "home"


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs",),
        ("watch", "a"),
        ("cancel", "a"),
        ("resume", "a"),
        ("report",),
        ("ask", "Who?"),
        ("kb", "list"),
        ("kb", "search", "x"),
    ],
)
def test_where_nothing_was_started_each_command_says_how_to_start(home: Path, arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "run `nesycd up`" in result.output and str(home) in result.output


def test_a_check_says_what_of_a_valid_spec_has_no_effect_and_keeps_it_out_of_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = "evaluate.top_p has no effect: evaluate.temperature is 0"
    made = CreateRunResponse(run=Run(name="runs/x"), notes=[note])
    monkeypatch.setattr("cli.main.client.call", lambda *_: made)
    file = tmp_path / "spec.yaml"
    file.write_text("{name: x, data: {train: a, test: b}, evaluate: {top_p: 0.5}}")
    result = invoke("run", str(file), "--check")
    assert result.exit_code == 0 and "is a valid run spec" in result.stdout
    assert note in result.stderr
    assert json.loads(invoke("run", str(file), "--check", "--json").stdout) == {}


def test_a_spec_that_only_a_newer_service_knows_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.main.client.call", lambda *_: CreateRunResponse(run=Run(name="runs/x")))
    file = tmp_path / "spec.yaml"
    file.write_text("{name: x, data: {train: a, test: b}, new: 1}")
    result = invoke("run", str(file), "--detach")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "runs/x\n", "")


def test_a_plan_says_what_of_the_spec_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = "evaluate.top_p has no effect: evaluate.temperature is 0"
    monkeypatch.setattr("cli.plan.client.call", lambda *_, **__: EstimateRunResponse(notes=[note]))
    file = tmp_path / "spec.yaml"
    file.write_text("{name: x, data: {train: a, test: b}, evaluate: {top_p: 0.5}}")
    assert f"- {note}\n" in invoke("plan", str(file)).stdout


def test_status_and_down_where_nothing_was_started(home: Path) -> None:
    result = invoke("status")
    assert result.exit_code == 1 and "nesycd up" in result.output
    assert json.loads(invoke("status", "--json").output) == []
    assert not home.exists(), "looking makes nothing"


def test_the_doctor_says_what_to_do_and_gives_json(home: Path) -> None:
    findings = json.loads(invoke("doctor", "--json").output)
    names = [finding["what"] for finding in findings]
    assert len(set(names)) == len(names)
    assert {"python", "memory", "disk", "packages", "processes"} <= set(names)
    assert all(finding["mend"] for finding in findings if finding["level"] == "wrong")


def test_a_damaged_record_of_the_stack_is_named(home: Path) -> None:
    home.mkdir()
    (home / "stack.json").write_text("{")
    for arguments in (("runs",), ("up",), ("doctor",)):
        result = invoke(*arguments)
        assert result.exit_code == 1 and "stack.json" in result.output.replace("\n", "")


def test_a_home_that_cannot_be_made_is_told_in_one_sentence(home: Path) -> None:
    home.write_text("a file")
    result = invoke("up")
    assert result.exit_code == 1 and result.output.startswith("Error: ") and str(home) in result.output


def test_a_model_that_is_not_there_is_told_before_anything_starts(home: Path) -> None:
    result = invoke("up", "--base-model", "none")
    assert result.exit_code == 1 and str(home / "artifacts" / "models" / "none") in result.output
    assert not (home / "stack.json").exists()


def test_flags_of_the_stand_in_that_cannot_be_read_are_named(home: Path) -> None:
    result = invoke("up", "--standin", '--mode "scripted')
    assert result.exit_code == 2 and "--standin" in result.output


def test_paths_of_a_spec_count_from_its_folder_and_urls_stay(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: {train: t.jsonl, test: s3://bucket/x, expert: /abs/e.jsonl}\n")
    assert load_spec(tmp_path / "a.yaml")["data"] == {
        "train": str(tmp_path / "t.jsonl"), "test": "s3://bucket/x", "expert": "/abs/e.jsonl",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: [", "not valid YAML"),
        (b"- a", "mapping"),
        (b"", "mapping"),
        (b"a: 1\nb: Z\xfcrich", "a.yaml:2: not UTF-8"),
    ],
)
def test_a_spec_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(Problem, match=says):
        load_spec(tmp_path / "a.yaml")


@pytest.mark.parametrize("value", ["2026-01-01", "!!binary aGk=", "!!set {a, b}", ".nan"])
def test_a_value_that_no_spec_can_hold_is_told(home: Path, tmp_path: Path, value: str) -> None:
    (tmp_path / "a.yaml").write_text(f"name: a\nseed: {value}\ndata: {{train: a, test: b}}\n")
    assert invoke("run", str(tmp_path / "a.yaml")).exit_code == 1


def test_names_may_be_short() -> None:
    assert run_name("a") == run_name("runs/a") == "runs/a"
    assert knowledge.kb_name("a") == knowledge.kb_name("knowledgeBases/a") == "knowledgeBases/a"
    whole = "6f1d3a52-6c1b-5b0e-9d0a-6e65737963d0"
    assert names.entry_name(whole.upper(), "a") == f"knowledgeBases/a/entries/{whole}"
    assert names.entry_name(f"knowledgeBases/b/entries/{whole}", "a") == f"knowledgeBases/b/entries/{whole}"


@pytest.mark.parametrize("given", ["7", "6f1d3a5", "crabs are", "runs/a", "6f1d3a52-6c1b-5b0e-9d0a-6e65737963d0-0", ""])
def test_what_is_no_id_of_an_entry_is_told_without_asking_a_service(given: str) -> None:
    with pytest.raises(Problem, match=r"id|name|short"):
        names.entry_name(given, "a")


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(options.getpass, "getuser", unknown)
    assert options.user().startswith("uid-")


def test_the_files_ending_tells_the_format_unless_one_is_named() -> None:
    markdown, lines = files.EXCHANGE_FORMAT_MARKDOWN, files.EXCHANGE_FORMAT_JSONL
    assert files.exchange_format("a.md", None) == files.exchange_format("a.txt", "markdown") == markdown
    assert files.exchange_format("a.jsonl", None) == files.exchange_format("a.md", "jsonl") == lines


def test_a_port_that_is_taken_is_replaced_and_none_is_given_twice() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = choose_ports({"a": port, "b": port})
    assert port not in chosen.values() and len(set(chosen.values())) == 2


def test_every_listener_is_configured_for_loopback(tmp_path: Path) -> None:
    made = Stack(tmp_path)
    config = made._config(Options())
    assert f'"--bind" "{stack.HOST}"' in config and f'"--host" "{stack.HOST}"' in config
    assert "inet_http_server" not in config
    assert not [name for name in made._environment(Options()) if name.endswith(("_HOST", "ALLOW_INSECURE"))]


def test_signs_of_supervisors_language_in_a_path_are_only_a_path(tmp_path: Path) -> None:
    folder = tmp_path / '50% "mine"'
    folder.mkdir()
    config = Stack(folder)._config(Options())
    assert '50%% \\"mine\\"' in config and "50% " not in config


def test_a_long_home_gets_a_socket_that_the_system_can_open(tmp_path: Path) -> None:
    assert len(str(Stack(tmp_path / ("x" * 120))._socket)) < 100


def test_an_error_is_one_sentence_with_its_reason() -> None:
    assert (
        explain(errors.NotFound("there is no run 'a'", reason="RUN_NOT_FOUND")) == "there is no run 'a' [RUN_NOT_FOUND]"
    )
    away = explain(errors.Unavailable("failed to connect"))
    assert "nesycd up" in away
    assert errors.Unavailable("x").code is grpc.StatusCode.UNAVAILABLE
