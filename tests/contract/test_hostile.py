"""Every method of every service is called with hostile messages: the answer is a status of the right kind, never
INTERNAL or UNKNOWN, and the server lives on.

The messages are made from the contracts' descriptors, so a new method or field is covered without a line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes import Process, running, service, serving, standin, valkey

SERVICES = ("teacher", "knowledge", "extraction", "student", "runs")
# DATA_LOSS and the like would be as wrong as INTERNAL: nothing here is damaged.
ALLOWED = {
    grpc.StatusCode[name]
    for name in (
        "OK INVALID_ARGUMENT NOT_FOUND ALREADY_EXISTS FAILED_PRECONDITION ABORTED OUT_OF_RANGE RESOURCE_EXHAUSTED "
        "UNIMPLEMENTED DEADLINE_EXCEEDED UNAVAILABLE CANCELLED"
    ).split()
}
NASTY = [
    "", " ", "\x00", "a\x00b", "\u202e right to left", "../../etc/passwd", "knowledgeBases/../x", "knowledgeBases/kb",
    "knowledgeBases/kb/entries/00000000-0000-0000-0000-000000000000", "adapters/../../x@1", "adapters/a@1", "base",
    "aliases/production", "runs/r1", "runs/..", "' OR 1=1 --", "status = ACTIVE AND (", 'tags:"', "x" * 70_000, "💥" * 500,
    "status = NOTHING", "-1", "NaN", "{}", "\ufeff", "AAAA====", "user", "assistant",
]  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    return st.sampled_from(NASTY) | st.text(st.characters(codec="utf-8"), max_size=50)


def scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kinds = FieldDescriptor
    match field.cpp_type:
        case kinds.CPPTYPE_STRING:
            return st.binary(max_size=100) if field.type == kinds.TYPE_BYTES else texts()
        case kinds.CPPTYPE_BOOL:
            return st.booleans()
        case kinds.CPPTYPE_DOUBLE | kinds.CPPTYPE_FLOAT:
            return st.floats(width=32) | st.sampled_from([float("nan"), float("inf"), -1.0, 0.0, 1e30])
        case kinds.CPPTYPE_INT32:
            return st.sampled_from([-(2**31), -1, 0, 1, 3, 2**31 - 1])
        case kinds.CPPTYPE_INT64:
            return st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1])
        case kinds.CPPTYPE_UINT32 | kinds.CPPTYPE_UINT64:
            return st.sampled_from([0, 1, 2**32 - 1])
        case kinds.CPPTYPE_ENUM:
            return st.sampled_from([0, 1, 2, 3, 99, -1])
    raise AssertionError(field.full_name)


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Any:
    """A message with some of its fields set to something hostile."""
    made = message_factory.GetMessageClass(descriptor)()
    if descriptor.full_name == "google.protobuf.Struct":
        made.update({draw(texts()): draw(texts() | st.floats(allow_nan=False) | st.booleans() | st.none())})
        return made
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
        if is_message and (depth > 3 or field.message_type.GetOptions().map_entry):
            continue
        value = messages(field.message_type, depth + 1) if is_message else scalar(field)
        if field.is_repeated:
            items = draw(st.lists(value, max_size=3))
            getattr(made, field.name).extend(items)
        elif is_message:
            getattr(made, field.name).CopyFrom(draw(value))
        else:
            setattr(made, field.name, draw(value))
    return made


def methods() -> list[tuple[str, MethodDescriptor]]:
    found = []
    for name in SERVICES:
        file = importlib.import_module(f"nesycd.{name}.v1").DESCRIPTOR
        found += [(name, m) for s in file.services_by_name.values() for m in s.methods]
    return found


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    from tests.tiny import make_tiny_model

    folder = tmp_path_factory.mktemp("hostile")
    make_tiny_model(folder / "artifacts" / "models" / "tiny")
    artifacts = (folder / "artifacts").as_uri()
    broker, paid = valkey(folder / "valkey"), standin(folder, "--mode", "scripted")
    redis_url = f"redis://{broker.address}/0"
    knowledge = service("knowledge", folder, data_dir=str(folder / "kb"), embedder="none")
    teacher = service(
        "teacher", folder, redis_url=redis_url, upstream_url=f"http://{paid.address}", upstream_api_key="k"
    )
    teacher.env |= {"NESYCD_TEACHER_DEFAULT_MODEL": "stand-in", "NESYCD_TEACHER_MAX_ATTEMPTS": "1"}
    made = {
        "teacher": teacher,
        "knowledge": knowledge,
        "extraction": service("extraction", folder, teacher_address=teacher.address, knowledge_address=knowledge.address),
        "student": service(
            "student", folder, base_model="tiny", artifacts_url=artifacts, state_dir=str(folder / "state"),
            knowledge_address=knowledge.address, dtype="float32", max_new_tokens="8",
        ),
        "runs": service("runs", folder, redis_url=redis_url, artifacts_url=artifacts),
    }  # fmt: skip
    with running(broker, paid, *made.values()):
        yield made


@pytest.fixture(scope="module")
def channels(servers: dict[str, Process]) -> Iterator[dict[str, grpc.Channel]]:
    opened = {name: grpc.insecure_channel(process.address) for name, process in servers.items()}
    yield opened
    for channel in opened.values():
        channel.close()


@pytest.mark.parametrize(("name", "method"), methods(), ids=lambda x: getattr(x, "name", x))
def test_a_hostile_message_gets_a_status_of_the_right_kind_and_the_server_lives_on(
    name: str, method: MethodDescriptor, servers: dict[str, Process], channels: dict[str, grpc.Channel]
) -> None:
    response_class = message_factory.GetMessageClass(method.output_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    style = (
        ("stream" if method.client_streaming else "unary") + "_" + ("stream" if method.server_streaming else "unary")
    )
    call = getattr(channels[name], style)(
        path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=response_class.FromString
    )

    @settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(messages(method.input_type), min_size=1, max_size=3))
    def attack(requests: list[Any]) -> None:
        code = grpc.StatusCode.OK
        try:
            answer = call(
                iter(requests) if method.client_streaming else requests[0],
                timeout=0.4 if method.server_streaming else 2,
            )
            if method.server_streaming:
                for _, response in zip(range(10), answer, strict=False):
                    if response.DESCRIPTOR.fields_by_name.get("error") and response.HasField("error"):
                        assert response.error.code not in (2, 13, 15), response.error
                answer.cancel()
        except grpc.RpcError as error:
            code = error.code()
            assert code in ALLOWED, (code, error.details())
            assert "Traceback" not in (error.details() or "")

    attack()
    assert servers[name].popen is not None and servers[name].popen.poll() is None, "the server died"
    full_name = method.containing_service.full_name
    assert servers[name].port is not None and serving(servers[name].port, full_name), "the server is not ready any more"
