from __future__ import annotations

import json
import logging

import pytest

from services.common import context, logs


@pytest.fixture
def lines(capsys):
    logs.configure("info")
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_with_time_level_logger_and_request_id(lines):
    token = context.request_id.set("r-7")
    logs.get_logger("teacher").info("cache hit", key="abc", prompt_tokens=12)
    context.request_id.reset(token)
    (line,) = lines()
    assert (line["event"], line["level"], line["logger"]) == ("cache hit", "info", "nesycd.teacher")
    assert (line["request_id"], line["key"], line["prompt_tokens"]) == ("r-7", "abc", 12)
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "key", ["prompt", "messages", "content", "api_key", "authorization", "token", "Authorization", "upstream_api_key", "question"]
)  # fmt: skip
def test_payloads_and_secrets_are_redacted_at_any_depth(lines, key):
    logs.get_logger("x").warning("e", **{key: "hidden"}, nested={"list": [{key: "hidden"}]})
    (line,) = lines()
    assert "hidden" not in json.dumps(line)
    assert line[key] == logs.REDACTED


def test_secrets_inside_text_are_redacted(lines):
    logs.get_logger("x").warning(
        "call to http://bob:hunter2@host/ failed", header="Bearer abc.def", note="key sk-1234567890 refused"
    )
    text = json.dumps(lines())
    assert not any(secret in text for secret in ("hunter2", "abc.def", "sk-1234567890"))


def test_an_exception_is_logged_by_type_and_place_and_not_by_text(lines):
    try:
        try:
            raise KeyError("inner hidden")
        except KeyError as inner:
            raise RuntimeError("outer hidden") from inner
    except RuntimeError:
        logs.get_logger("x").exception("failed")
        logging.getLogger("some.library").exception("failed too")
    ours, theirs = lines()
    for line in (ours, theirs):
        assert line["error_type"] == "RuntimeError"
        assert "test_common_logs.py" in line["error_at"][-1]
        assert line["error_causes"][0]["error_type"] == "KeyError"
        assert "hidden" not in json.dumps(line)


def test_libraries_log_from_warning_on(lines):
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("problem %s", 3)
    (line,) = lines()
    assert line["event"] == "problem 3"


def test_an_object_is_named_and_not_shown(lines):
    class Holder:
        def __repr__(self) -> str:
            return "hidden"

    logs.get_logger("x").info("e", holder=Holder())
    (line,) = lines()
    assert "hidden" not in json.dumps(line) and "Holder" in line["holder"]


def test_debug_is_silent_unless_asked_for(lines, capsys):
    logs.get_logger("x").debug("e")
    assert lines() == []
    logs.configure("debug")
    logs.get_logger("x").debug("e")
    assert "nesycd.x" in capsys.readouterr().err
