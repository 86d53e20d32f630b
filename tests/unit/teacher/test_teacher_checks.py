"""What is refused before anything is paid, and what is not an answer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import InvalidArgument
from services.teacher.backends import Trouble, UpstreamError, from_status, read_completion
from services.teacher.checks import check_question, valid_text
from services.teacher.reasons import public_error
from services.teacher.settings import Settings
from services.teacher.types import Answer, Completion, Finish, Message, Question, Sampling, Spent

SETTINGS = Settings(upstream_url="http://127.0.0.1:1", max_characters=1000)
GOOD = Question((Message("user", "why?"),), "m", Sampling(0.8, 1.0, 100))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}, "required": ["a"]}


def sampled(**change: Any) -> dict[str, Any]:
    return {"sampling": replace(GOOD.sampling, **change)}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"messages": ()}, "messages"),
        ({"messages": (Message("user", "x"),) * 65}, "messages"),
        ({"messages": (Message("user", "x" * 1001),)}, "messages"),
        ({"messages": (Message("user", " \n"),)}, "messages"),
        ({"messages": (Message("user", "x"), Message("tool", "x"))}, "messages[1].role"),
        (sampled(temperature=-0.1), "sampling.temperature"),
        (sampled(temperature=math.nan), "sampling.temperature"),
        (sampled(temperature=math.inf), "sampling.temperature"),
        (sampled(top_p=0.0), "sampling.top_p"),
        (sampled(top_p=1.1), "sampling.top_p"),
        (sampled(max_tokens=0), "sampling.max_tokens"),
        (sampled(max_tokens=10**6), "sampling.max_tokens"),
        (sampled(seed=-1), "sampling.seed"),
        (sampled(stop=("",)), "sampling.stop"),
        (sampled(stop=("x",) * 17), "sampling.stop"),
        ({"sample": -1}, "sample"),
        ({"model": "m\n"}, "model"),
        ({"run": "r" * 257}, "run"),
        ({"caller": "\x00"}, "caller"),
        ({"budget_usd": -1.0}, "run_budget_usd"),
        ({"budget_usd": math.nan}, "run_budget_usd"),
        ({"budget_usd": 1.0}, "run"),
        ({"schema_name": "a b"}, "response_format.name"),
        ({"schema": {"type": "thing"}}, "response_format.json_schema"),
        ({"schema": {"type": "object", "minimum": math.nan}}, "response_format.json_schema"),
        ({"schema": {"$ref": "http://127.0.0.1:1/schema"}}, "response_format.json_schema"),
        ({"schema": {"$ref": "#"}}, "response_format.json_schema"),
        ({"schema": {"$ref": "#/nowhere"}}, "response_format.json_schema"),
        ({"schema": {"pattern": "("}}, "response_format.json_schema"),
        ({"schema": {"description": "x" * 64_001}}, "response_format.json_schema"),
    ],
)
def test_a_wrong_request_is_refused_and_the_field_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_question(replace(GOOD, **change), SETTINGS)
    assert caught.value.violations[0][0] == field


def test_a_right_request_passes() -> None:
    check_question(replace(GOOD, schema=SCHEMA, run="runs/r", budget_usd=1.0), SETTINGS)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"a": "b"}', ""),
        ('  {"a": "b"}\n', ""),
        ('```json\n{"a": "b"}\n```', ""),
        ('```\n{"a": "b"}```', ""),
        ("", "it is empty"),
        ('{"a": ', "it is not JSON"),
        ('Here you are: {"a": "b"}', "it is not JSON"),
        ('{"a": NaN}', "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"b": "secret"}', "it breaks the schema's rule 'required'"),
        ('{"a": ""}', "it breaks the schema's rule 'minLength'"),
        ('["secret"]', "it breaks the schema's rule 'type'"),
    ],
)
def test_only_json_that_holds_the_schema_is_valid_and_nothing_is_quoted(text: str, wrong: str) -> None:
    got, why = valid_text(Completion(text, "", Finish.STOP, "m"), SCHEMA)
    assert why == wrong
    if not wrong:
        assert got == '{"a": "b"}'


@given(st.recursive(st.none() | st.text(max_size=5) | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["choices", "message", "content", "finish_reason", "usage", "model"]), inner), max_leaves=10))  # fmt: skip
def test_any_json_is_read_or_broken(body: Any) -> None:
    for candidate in (body, {"choices": body}, {"choices": [{"message": body}]}, {"choices": [body], "usage": body}):
        try:
            read_completion(candidate, "m")
        except UpstreamError as error:
            assert error.trouble is Trouble.BROKEN


@pytest.mark.parametrize(
    ("status", "code", "trouble"),
    [
        (400, "", Trouble.REQUEST), (401, "", Trouble.KEY), (402, "", Trouble.QUOTA), (403, "", Trouble.KEY),
        (404, "", Trouble.MODEL), (408, "", Trouble.SERVER), (413, "", Trouble.REQUEST), (422, "", Trouble.REQUEST),
        (429, "", Trouble.RATE_LIMITED), (429, "insufficient_quota", Trouble.QUOTA), (500, "", Trouble.SERVER),
        (502, "", Trouble.SERVER), (529, "", Trouble.SERVER), (302, "", Trouble.REQUEST),
    ],
)  # fmt: skip
def test_a_status_has_its_class(status: int, code: str, trouble: Trouble) -> None:
    assert from_status(status, None, {"error": {"code": code, "message": "the prompt"}}).trouble is trouble
    assert from_status(status, "3", "no json").retry_after == 3


@pytest.mark.parametrize("trouble", Trouble)
def test_what_is_told_of_trouble_never_quotes_the_provider(trouble: Trouble) -> None:
    error = from_status(400, None, {"error": {"code": "you said: the prompt", "message": "the prompt"}})
    error.trouble = trouble
    told = public_error(error, "m", 3)
    assert "the prompt" not in told.message + str(told.metadata)


def test_a_stored_answer_comes_back_as_it_was() -> None:
    answer = Answer("t", "r", "m", Sampling(0.5, 0.9, 10, 3, ("x",)), Spent(1, 2, 3), "calls/k", 2)
    back = Answer.from_json(answer.to_json())
    assert back == replace(answer, attempts=0)
    assert back.cached


@pytest.mark.parametrize("stored", ["{", "[]", "null", "{}", '{"version": 2}', '{"version": 1, "sampling": {}}'])
def test_what_is_not_a_stored_answer_is_said(stored: str) -> None:
    with pytest.raises(ValueError):
        Answer.from_json(stored)


def test_the_key_is_not_shown() -> None:
    settings = Settings(upstream_url="http://x", upstream_api_key="sk-secret", redis_url="redis://:pw@h")
    shown = str(settings) + str(settings.describe())
    assert "sk-secret" not in shown
    assert "pw" not in shown
