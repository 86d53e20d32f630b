from __future__ import annotations

import grpc
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nesycd.common.v1 import Status
from nesycd.extraction.v1 import BatchExtractKnowledgeRequest

from services.common import errors

CLASSES = [cls for cls in errors._CLASSES.values() if cls is not errors.NesycdError]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_status_read_back_is_the_same_error(cls):
    error = cls("what, where, what to do", reason="SOME_REASON", metadata={"row": "3"}, retry_after=2.5)
    read = errors.from_status_proto(errors.status_proto(error))
    assert type(read) is cls
    assert (read.message, read.reason, read.metadata, read.retry_after) == (
        "what, where, what to do", "SOME_REASON", {"row": "3"}, 2.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (errors.InvalidArgument("no", violations=[("a", "x"), ("b[1].c", "y")]), ("violations",)),
        (errors.NotFound("no", resource_type="kb", resource_name="knowledgeBases/x"), ("resource_type", "resource_name")),
        (errors.ResourceExhausted("no", subject="run:1"), ("subject",)),
        (errors.FailedPrecondition("no", subject="adapters/a@1"), ("subject",)),
    ],
)  # fmt: skip
def test_the_special_details_survive(error, fields):
    read = errors.from_status_proto(errors.status_proto(error))
    for field in fields:
        assert getattr(read, field) == getattr(error, field)


def test_every_class_has_the_code_of_its_name():
    assert {cls.code for cls in errors._CLASSES.values()} == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def test_every_default_reason_is_in_the_catalogue():
    assert {cls.default_reason for cls in errors._CLASSES.values()} <= set(errors.REASONS)
    assert all(reason.meaning and reason.remedy for reason in errors.REASONS.values())


def test_a_reason_is_registered_once(monkeypatch):
    monkeypatch.setattr(errors, "REASONS", dict(errors.REASONS))
    assert errors.register_reason("KB_IS_FULL", "It is full.", "Empty it.") == "KB_IS_FULL"
    errors.register_reason("KB_IS_FULL", "It is full.", "Empty it.")
    with pytest.raises(ValueError, match="KB_IS_FULL"):
        errors.register_reason("KB_IS_FULL", "Something else.", "Empty it.")
    with pytest.raises(ValueError, match="UPPER_SNAKE"):
        errors.register_reason("kb-is-full", "It is full.", "Empty it.")


@given(st.text(max_size=5000), st.lists(st.tuples(st.text(max_size=400), st.text(max_size=400)), max_size=60))
def test_any_text_fits_the_trailers(message, violations):
    error = errors.InvalidArgument(message, violations=violations, metadata={message: message})
    status = errors.status_proto(error)
    assert status.ByteSize() <= 3000
    assert errors.from_status_proto(status).reason == "INVALID_ARGUMENT"


def test_a_message_of_a_contract_travels_with_the_error_where_it_fits():
    for text, there in (("short", True), ("x" * 5000, False)):
        error = errors.Aborted("changed", reason="ETAG_MISMATCH").attach(Status(code=9, message=text))
        again = errors.from_status_proto(errors.status_proto(error))
        assert (again.find(Status) is not None) is there
        assert (again.reason, again.find(BatchExtractKnowledgeRequest)) == ("ETAG_MISMATCH", None)
    passed_on = errors.from_status_proto(errors.status_proto(errors.Aborted("x").attach(Status(message="y"))))
    assert errors.from_status_proto(errors.status_proto(passed_on)).find(Status).message == "y"


def test_lone_surrogates_in_a_message_do_not_break_it():
    assert errors.status_proto(errors.NotFound("a\ud800b", resource_name="\udfff")).message == "a?b"


def test_a_pydantic_error_names_fields_and_not_values():
    class Inner(pydantic.BaseModel):
        top_k: int

    class Spec(pydantic.BaseModel):
        items: list[Inner]

    with pytest.raises(pydantic.ValidationError) as caught:
        Spec.model_validate({"items": [{"top_k": "very secret"}]})
    error = errors.InvalidArgument.from_pydantic(caught.value, what="run spec", prefix="run.spec")
    assert error.violations[0][0] == "run.spec.items[0].top_k"
    assert "very secret" not in str(error) + str(error.violations)


def test_what_a_peer_says_of_its_own_defects_is_not_passed_on():
    def failed(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="text")

    assert isinstance(errors.from_exception(failed(grpc.StatusCode.UNAVAILABLE)), errors.Unavailable)
    assert isinstance(errors.from_exception(failed(grpc.StatusCode.NOT_FOUND)), errors.NotFound)
    for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAUTHENTICATED):
        assert errors.from_exception(failed(code)) is None
