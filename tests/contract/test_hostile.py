"""Every method of every service is called with hostile messages: the answer is a status of the right kind, never
INTERNAL or UNKNOWN, and the server lives on.

The messages are made from the contracts' descriptors, so a new method or field is covered without a line here.
"""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from services.common.pages import encode_page_token
from tests.processes import ROOT, Process, running, service, serving, standin, valkey

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
    "status = NOTHING", "-1", "NaN", "{}", "\ufeff", "AAAA====", "user", "assistant", "x" * 1_000_000, "\u2028", "\x1b[31m", "*", "tags:*",
]  # fmt: skip
# What is there in the knowledge store, so that messages get beyond the check of their names.
KB = "knowledgeBases/kb"
ENTRY_IDS = [f"{digit * 8}-1111-4111-8111-111111111111" for digit in "12"]
ENTRIES = [f"{KB}/entries/{entry_id}" for entry_id in ENTRY_IDS]
NAMES = [
    KB, "knowledgeBases/no", *ENTRIES, ENTRIES[0].upper(), f"{ENTRIES[0]}/revisions/1", f"{ENTRIES[0]}/revisions/-1", ENTRY_IDS[0],
    f"{ENTRIES[0]}/revisions/{2**64}", f"{KB}/entries/00000000-0000-0000-0000-000000000000", f"{KB}/../kb", f"{KB}/entries/%2e%2e",
]  # fmt: skip
# Nothing secret is in a token, so anybody can make one of the right form with something else in it.
TOKENS = [
    encode_page_token(kind, payload)
    for kind in ("knowledgeBases", "entries:kb:", f"revisions:kb:{ENTRY_IDS[0]}", "watch:kb", "reviews:kb", "runs", "runs:")
    for payload in (1, -1, 2**70, "x", "\0", None, [], {}, True, 1.5, "\udc80")
]  # fmt: skip
FILTERS = [
    "status = ACTIVE",
    "NOT tags:a",
    "counters.used >= 0",
    "source.run:*",
    'tags:"\'"',
    'kind = FACT OR tags:"\0"',
    "(" * 31 + "tags:x" + ")" * 31,
]
PATHS = ["*", "text", "status", "tags", "superseded_by", "counters.used", "title", "\0", "a" * 10_000]
LIKELY = {
    **dict.fromkeys(("name", "parent", "entry", "others", "exclude_entries", "superseded_by"), NAMES),
    **dict.fromkeys(("page_token", "watch_token"), TOKENS),
    "filter": FILTERS, "paths": PATHS, "entry_id": ENTRY_IDS, "knowledge_base_id": ["kb", "new"], "query": ["eagle", "wings 🦅", "\u202e"],
    "text": ["An eagle has 2 wings", "An eagle has 3 wings"], "adapter": ["", "base", "adapters/a@1", "aliases/production"],
}  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    return st.sampled_from(NASTY) | st.text(st.characters(codec="utf-8"), max_size=50)


def scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kinds = FieldDescriptor
    match field.cpp_type:
        case kinds.CPPTYPE_STRING:
            if field.type == kinds.TYPE_BYTES:
                return st.binary(max_size=100)
            return st.sampled_from(LIKELY[field.name]) | texts() if field.name in LIKELY else texts()
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
            return st.sampled_from([*field.enum_type.values_by_number, 99, -1])
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
    folder = tmp_path_factory.mktemp("hostile")
    # In a process of its own: triton, which comes with torch, complains at the end of one that runs tests that it was not tidied up.
    tiny = [sys.executable, "-m", "tests.tiny", str(folder / "artifacts" / "models" / "tiny")]
    subprocess.run(tiny, cwd=ROOT, check=True, capture_output=True)
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
    if name == "knowledge":
        make_knowledge(channels[name])
    attack(channels[name], method, 25 if name == "knowledge" else 12)
    unharmed(servers[name], method)


def make_knowledge(channel: grpc.Channel) -> None:
    """What LIKELY speaks of, where it is not there or not there any more."""
    stub = KnowledgeServiceStub(channel)
    with contextlib.suppress(grpc.RpcError):
        stub.CreateKnowledgeBase(pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb"), timeout=10)
    for entry_id, text in zip(ENTRY_IDS, ("An eagle has wings", "A crab has claws"), strict=True):
        with contextlib.suppress(grpc.RpcError):
            request = pb.CreateEntryRequest(parent=KB, entry={"text": text, "tags": ["a"]}, entry_id=entry_id)
            stub.CreateEntry(request, timeout=10)


def attack(channel: grpc.Channel, method: MethodDescriptor, examples: int) -> None:
    """Calls a method with hostile messages; every answer must be of the right kind."""
    response_class = message_factory.GetMessageClass(method.output_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    style = (
        ("stream" if method.client_streaming else "unary") + "_" + ("stream" if method.server_streaming else "unary")
    )
    call = getattr(channel, style)(
        path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=response_class.FromString
    )

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(messages(method.input_type), min_size=1, max_size=3))
    def send(requests: list[Any]) -> None:
        try:
            answer = call(
                iter(requests) if method.client_streaming else requests[0],
                timeout=0.4 if method.server_streaming else 5,
            )
            if method.server_streaming:
                for _, response in zip(range(10), answer, strict=False):
                    if response.DESCRIPTOR.fields_by_name.get("error") and response.HasField("error"):
                        assert response.error.code not in (2, 13, 15), response.error
                answer.cancel()
        except grpc.RpcError as error:
            assert error.code() in ALLOWED, (error.code(), error.details())
            assert "Traceback" not in (error.details() or "")

    send()


def unharmed(process: Process, method: MethodDescriptor) -> None:
    """The server runs, and is ready."""
    assert process.popen is not None and process.popen.poll() is None, "the server died"
    assert process.port is not None and serving(process.port, method.containing_service.full_name), (
        "the server is not ready any more"
    )
