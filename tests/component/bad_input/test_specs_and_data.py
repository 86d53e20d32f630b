"""Wrong run specs and data files: the place is named, what to do is told, and nothing is half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command import Home
from tests.tiny import make_tiny_model

Row = dict[str, Any]


def names(folder: Path) -> set[str]:
    """Every file beneath a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "place", "advice"),
    [
        ({"training": {"epoch": 3}}, "training.epoch: there is no such field", "remove it or correct its name"),
        ({"seed": "seven"}, "seed: must be a whole number", "'seven'"),
        ({"training": {"lora": {"rank": [16]}}}, "training.lora.rank: must be a whole number", "[16]"),
        ({"data": "train.jsonl"}, "data: must be a mapping of fields", "'train.jsonl'"),
    ],
)
def test_a_wrong_spec_names_the_field_and_makes_no_run(home: Home, change: Row, place: str, advice: str) -> None:
    path = home.spec("wrong-spec")
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    files = names(home.folder / "artifacts")
    said = home.nesycd("run", str(path), "--id", "wrong-spec", status=1).stderr
    assert "[INVALID_SPEC]" in said and place in said and advice in said
    assert len(said.strip().splitlines()) == 1
    assert "[RUN_NOT_FOUND]" in home.nesycd("watch", "wrong-spec", status=1).stderr
    assert names(home.folder / "artifacts") == files


def test_a_spec_that_is_no_yaml_names_the_line(home: Home) -> None:
    path = home.base / "broken.yaml"
    path.write_text("name: a\ndata: [\n")
    said = home.nesycd("run", str(path), status=1).stderr
    assert str(path) in said and "line 3" in said
    path.write_text("- a list\n")
    assert "docs/run-spec.md" in home.nesycd("run", str(path), status=1).stderr
    path.write_bytes("name: Zürich\n".encode("latin-1"))
    assert "UTF-8" in home.nesycd("run", str(path), status=1).stderr
    path.write_text("name: 2026-01-01\ndata: {train: a, test: b}\n")  # YAML makes a date of it
    assert "name" in home.nesycd("run", str(path), status=1).stderr


def lines(*rows: Row) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


ROW = {"id": "a", "task": "t", "question": "How many?", "answer": "3"}
WITHOUT = {key: value for key, value in ROW.items() if key != "answer"}


@pytest.mark.parametrize(
    ("content", "reason", "says"),
    [
        pytest.param(lines(ROW, {**WITHOUT, "id": "b"}), "INVALID_DATA", ("train.jsonl:2", "the row has no 'answer'"), id="no answer"),
        pytest.param(lines(ROW, {**ROW, "answer": " "}), "INVALID_DATA", ("train.jsonl:2", "'answer' is empty"), id="empty answer"),
        pytest.param(lines(ROW, ROW), "INVALID_DATA", ("train.jsonl:2", "id 'a' stands in line 1", "an id of its own"), id="same id"),
        pytest.param(
            lines(ROW) + b'{"id": "b", "task": "t", "question": "Z\xfcrich?", "answer": "x"}\n',
            "INVALID_DATA", ("train.jsonl:2", "0xfc", "save the file as UTF-8"), id="latin-1",
        ),
        pytest.param(lines(ROW).decode().encode("utf-16"), "INVALID_DATA", ("train.jsonl:1", "save it as UTF-8"), id="utf-16"),
        pytest.param(b"", "INVALID_DATA", ("train.jsonl:1", "no rows", "one JSON object a line"), id="empty"),
        pytest.param(b"id,task\n1,2\n", "INVALID_DATA", ("train.jsonl:1", "not a JSON object"), id="csv"),
        pytest.param(None, "DATA_NOT_FOUND", ("data.train: ", "train.jsonl", "a file that the worker can open"), id="missing"),
    ],
)  # fmt: skip
def test_wrong_data_names_file_and_line_and_leaves_no_row(
    home: Home, request: pytest.FixtureRequest, content: bytes | None, reason: str, says: tuple[str, ...]
) -> None:
    name = "data-" + request.node.callspec.id.replace(" ", "-")
    spec = home.spec(name)
    train = spec.parent / "train.jsonl"
    train.unlink()
    if content is not None:
        train.write_bytes(content)
    check_failed(home, spec, name, reason, says)


def test_a_base_model_that_is_not_there_is_named_with_where_it_should_be(home: Home) -> None:
    spec = home.spec("no-model", student={"base_model": "no-such-model"})
    where = str(home.folder / "artifacts" / "models")
    check_failed(home, spec, "no-model", "MODEL_NOT_FOUND", ("student.base_model", "'no-such-model'", where))


@pytest.mark.parametrize("method", ["zero-shot", "std-cot"])
def test_a_base_model_that_is_not_the_served_one_is_told_before_anything_is_paid(home: Home, method: str) -> None:
    make_tiny_model(home.folder / "artifacts" / "models" / "other", seed=1)
    run_id, calls = f"other-{method}", home.standin("/calls")["count"]
    spec = home.spec(run_id, method=method, student={"base_model": "other"})
    error = home.json("run", str(spec), "--id", run_id, status=1)["error"]
    assert (error["reason"], error["stage"]) == ("BASE_MODEL_NOT_SERVED", "prepare")
    assert "'other'" in error["message"] and "'tiny'" in error["message"]
    assert home.standin("/calls")["count"] == calls


def test_a_wrong_expert_file_is_told_before_anything_is_paid(home: Home) -> None:
    spec = home.spec("no-expert")
    (spec.parent / "expert.jsonl").write_bytes("Zürich".encode("latin-1"))
    check_failed(home, spec, "no-expert", "INVALID_DATA", ("expert.jsonl:1", "UTF-8"))


def check_failed(home: Home, spec: Path, run_id: str, reason: str, says: tuple[str, ...]) -> None:
    """The run fails in its first stage, with this reason; no file is left of it and no teacher was asked."""
    files, calls = names(home.folder / "artifacts"), home.standin("/calls")["count"]
    run = home.json("run", str(spec), "--id", run_id, status=1)
    assert run["state"] == "RUN_STATE_FAILED"
    assert (run["error"]["reason"], run["error"]["stage"]) == (reason, "prepare")
    for part in says:
        assert part in run["error"]["message"], run["error"]["message"]
    assert names(home.folder / "artifacts") == files
    assert home.standin("/calls")["count"] == calls


def test_a_run_that_failed_goes_on_when_its_data_is_mended(home: Home) -> None:
    spec = home.spec("mended", method="zero-shot", test=2)
    good = (spec.parent / "test.jsonl").read_bytes()
    (spec.parent / "test.jsonl").write_bytes(b"{}\n")
    said = home.nesycd("run", str(spec), "--id", "mended", status=1).stdout
    assert "[INVALID_DATA]" in said.replace("\n", "") and "nesycd resume mended" in said
    (spec.parent / "test.jsonl").write_bytes(good)
    assert home.json("resume", "mended")["state"] == "RUN_STATE_SUCCEEDED"
