"""Adapters, knowledge bases and questions that the student cannot use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from nesycd.knowledge.v1 import KnowledgeServiceStub, ListEntriesRequest
from nesycd.student.v1 import (
    Alias,
    AnswerRequest,
    Decoding,
    ListAdaptersRequest,
    LoadAdapterRequest,
    SetAliasRequest,
    StudentServiceStub,
)

from services.common.errors import NesycdError, from_rpc_error
from tests.command import Home
from tests.component.student.files import make_adapter

CODE = grpc.StatusCode
CONTEXT = 1024  # tokens of the tiny student; each is one character


@pytest.fixture(scope="module")
def stub(home: Home) -> Iterator[StudentServiceStub]:
    with grpc.insecure_channel(home.address("student")) as channel:
        yield StudentServiceStub(channel)


def failure(call: Callable[[], Any]) -> NesycdError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


# --- adapters


@pytest.fixture(scope="module")
def adapter(home: Home) -> Path:
    """The folder of a good adapter of the served model, as runs publish them."""
    return make_adapter(home.folder / "artifacts", "adapters/bad@1", home.folder / "artifacts" / "models" / "tiny")


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "adapter_model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "adapter_model.safetensors").write_bytes(content)


def cut_short(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes()[:100])


def lose_a_file(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def another_base(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "base_model": "another", "base_digest": "0" * 64}))


def nothing_there(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("harm", "code", "reason", "says"),
    [
        (flip_a_byte, CODE.DATA_LOSS, "ADAPTER_DAMAGED", "adapter_model.safetensors has another SHA-256"),
        (cut_short, CODE.DATA_LOSS, "ADAPTER_DAMAGED", "publish it again"),
        (lose_a_file, CODE.DATA_LOSS, "ADAPTER_DAMAGED", "adapter_config.json is missing"),
        (another_base, CODE.FAILED_PRECONDITION, "ADAPTER_BASE_MISMATCH", "'another'"),
        (nothing_there, CODE.NOT_FOUND, "ADAPTER_NOT_FOUND", "adapters/bad@1"),
    ],
)
def test_an_adapter_that_cannot_be_served_is_refused_and_nothing_changes(
    home: Home,
    stub: StudentServiceStub,
    adapter: Path,
    harm: Callable[[Path], None],
    code: grpc.StatusCode,
    reason: str,
    says: str,
) -> None:
    files = {path: path.read_bytes() for path in adapter.iterdir()}
    before, states = stub.ListAdapters(ListAdaptersRequest()), home.folder / "artifacts" / "students" / "tiny"
    kept = sorted(states.rglob("*"))
    harm(adapter)
    try:
        error = failure(lambda: stub.LoadAdapter(LoadAdapterRequest(adapter="adapters/bad@1"), timeout=20))
    finally:
        for path, content in files.items():
            path.write_bytes(content)
    assert (error.code, error.reason) == (code, reason)
    assert "adapters/bad@1" in error.message and says in error.message
    assert stub.ListAdapters(ListAdaptersRequest()) == before
    assert sorted(states.rglob("*")) == kept
    # An alias never stands for what is not loaded.
    alias = Alias(name="aliases/production", adapter="adapters/bad@1")
    error = failure(lambda: stub.SetAlias(SetAliasRequest(alias=alias), timeout=20))
    assert error.reason == "ADAPTER_NOT_LOADED" and "LoadAdapter" in error.message
    assert stub.ListAdapters(ListAdaptersRequest()) == before


def test_asking_with_an_adapter_or_alias_that_is_not_there_says_so(home: Home) -> None:
    said = home.nesycd("ask", "How many?", "--adapter", "adapters/none@1", status=1).stderr
    assert "adapters/none@1" in said and "[ADAPTER_NOT_FOUND]" in said
    said = home.nesycd("ask", "How many?", "--adapter", "aliases/none", status=1).stderr
    assert "aliases/none" in said and "[ALIAS_NOT_FOUND]" in said


# --- knowledge bases


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "How many legs?", "--kb", "no-such-base"),
        ("kb", "search", "legs", "--kb", "no-such-base"),
        ("kb", "add", "A yeti has 2 legs.", "--kb", "no-such-base"),
        ("kb", "show", "knowledgeBases/no-such-base/entries/3f2504e0-4f89-41d3-9a0c-0305e82c3301"),
    ],
)
def test_a_knowledge_base_that_does_not_exist_is_named(home: Home, arguments: tuple[str, ...]) -> None:
    said = home.nesycd(*arguments, status=1).stderr
    assert "knowledgeBases/no-such-base" in said and "[NOT_FOUND]" in said
    assert len(said.strip().splitlines()) == 1


def test_a_knowledge_base_is_not_made_by_an_import_that_names_it_wrongly(home: Home) -> None:
    file = home.base / "facts.jsonl"
    file.write_text('{"text": "A yeti has 3 legs."}\n')
    said = home.nesycd("kb", "import", str(file), "--kb", "no-such-base", status=1).stderr
    assert "knowledgeBases/no-such-base" in said
    assert "knowledgeBases/no-such-base" not in {base["name"] for base in home.json("kb", "list")}


# --- questions


def test_a_deadline_that_is_too_short_is_told_and_harms_nobody(stub: StudentServiceStub) -> None:
    request = AnswerRequest(question="How many legs do 3 spiders have?", decoding=Decoding(max_new_tokens=200))
    error = failure(lambda: stub.Answer(request, timeout=0.004))
    assert (error.code, error.reason) == (CODE.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert stub.Answer(request, timeout=60).text


def test_a_question_longer_than_the_context_is_refused_whole(home: Home, stub: StudentServiceStub) -> None:
    long = "Which of these is it? " + "x" * CONTEXT
    error = failure(lambda: stub.Answer(AnswerRequest(question=long), timeout=20))
    assert (error.code, error.reason) == (CODE.INVALID_ARGUMENT, "QUESTION_TOO_LONG")
    assert [field for field, _ in error.violations] == ["request.question"]
    assert "shorten the question" in error.message and "xxx" not in error.message
    assert int(error.metadata["tokens"]) > int(error.metadata["budget"])
    said = home.nesycd("ask", long, status=1).stderr
    assert "[QUESTION_TOO_LONG]" in said and "xxx" not in said


def test_long_knowledge_is_left_out_and_the_question_never_cut(home: Home, stub: StudentServiceStub) -> None:
    home.nesycd("kb", "create", "long")
    texts = [f"A yeti of kind {i} has 3 legs. " + "It lives far away from here. " * 10 for i in range(3)]
    for text in texts:
        home.nesycd("kb", "add", text, "--kb", "long")
    question = "How many legs does a yeti have? " + "Think of it well. " * 12
    request = AnswerRequest(question=question, decoding=Decoding(max_new_tokens=32))
    request.retrieval.knowledge_base, request.retrieval.top_k = "knowledgeBases/long", 3
    answer = stub.Answer(request, timeout=60)
    assert answer.dropped_entries >= 1 and len(answer.entries) == 3 - answer.dropped_entries
    assert len(question) < answer.prompt_tokens <= CONTEXT - 32
    # A question that leaves no room for any entry is still asked whole.
    request.question = "y" * (CONTEXT - 32 - 40)
    request.ClearField("retrieval")
    request.given_entries.extend(texts)
    answer = stub.Answer(request, timeout=60)
    assert answer.dropped_entries == 3 and answer.prompt_tokens >= len(request.question)


@pytest.mark.parametrize("question", ["", "   \n"])
def test_an_empty_question_is_refused(home: Home, question: str) -> None:
    said = home.nesycd("ask", question, status=1).stderr
    assert "question must not be empty" in said


def test_a_wrong_entry_is_refused_and_none_is_made(home: Home) -> None:
    home.nesycd("kb", "create", "strict")
    for text, says in (("", "text"), ("x" * 9000, "text")):
        said = home.nesycd("kb", "add", text, "--kb", "strict", status=1).stderr
        assert says in said and "[INVALID_ARGUMENT]" in said and "xxxxxxxxxx" not in said
    with grpc.insecure_channel(home.address("knowledge")) as channel:
        assert not KnowledgeServiceStub(channel).ListEntries(ListEntriesRequest(parent="knowledgeBases/strict")).entries
