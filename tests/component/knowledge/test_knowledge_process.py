"""The knowledge store as a process: killed, restarted, stopped; and with the real embedder."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import grpc
import pytest
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.processes import Process, service

KB = "knowledgeBases/kb"


def connect(process: Process) -> KnowledgeServiceStub:
    return KnowledgeServiceStub(grpc.insecure_channel(process.address))


def entries(stub: KnowledgeServiceStub) -> dict[str, pb.Entry]:
    found, token = {}, ""
    while True:
        page = stub.ListEntries(pb.ListEntriesRequest(parent=KB, page_size=1000, page_token=token))
        found.update({entry.name: entry for entry in page.entries})
        token = page.next_page_token
        if not token:
            return found


@pytest.fixture
def process(tmp_path: Path):
    one = service("knowledge", tmp_path, data_dir=tmp_path / "data", compiled="false", log_level="warning").start()
    yield one
    one.kill()


def test_killed_in_the_middle_of_writes_it_has_every_write_that_it_acknowledged(process: Process) -> None:
    stub = connect(process)
    stub.CreateKnowledgeBase(pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb"))
    acknowledged: dict[str, str] = {}
    batches: list[set[str]] = []
    rng = random.Random(0)
    for round_number in range(6):
        stub = connect(process)

        def write(number: int, stub: KnowledgeServiceStub = stub, round_number: int = round_number) -> None:
            try:
                for i in range(10_000):
                    text = f"write w{number}r{round_number}n{i}"
                    if number == 2:
                        requests = [pb.CreateEntryRequest(entry=pb.Entry(text=f"{text}k{k}")) for k in range(20)]
                        batches.append({request.entry.text for request in requests})
                        stub.BatchCreateEntries(pb.BatchCreateEntriesRequest(parent=KB, requests=requests))
                        acknowledged.update(dict.fromkeys(batches[-1], "new"))
                        continue
                    request = pb.CreateEntryRequest(parent=KB, entry=pb.Entry(text=text))
                    entry = stub.CreateEntry(request).entry
                    acknowledged[text] = "new"
                    if number == 1:
                        entry.title = "edited"
                        stub.UpdateEntry(pb.UpdateEntryRequest(entry=entry))
                        acknowledged[text] = "edited"
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error

        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        enough, deadline = len(acknowledged) + 10, time.monotonic() + 60
        while len(acknowledged) < enough:
            assert time.monotonic() < deadline, f"{len(acknowledged)} writes in a minute"
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.4))
        process.kill()
        for thread in threads:
            thread.join(20)
        process.start()
        stub = connect(process)
        by_text = {entry.text: entry for entry in entries(stub).values()}
        for text, state in acknowledged.items():
            assert text in by_text, f"lost in round {round_number}: {text}"
            if state == "edited":
                assert (by_text[text].title, by_text[text].revision) == ("edited", 2)
        for batch in batches:
            assert len(batch & by_text.keys()) in (0, len(batch)), "a batch is half there"
        sample = rng.choice(sorted(acknowledged))
        found = stub.SearchEntries(pb.SearchEntriesRequest(parent=KB, query=sample, top_k=1))
        assert found.results[0].entry.text == sample
        for entry in by_text.values():
            if entry.text == sample:
                revisions = stub.ListEntryRevisions(pb.ListEntryRevisionsRequest(parent=entry.name)).revisions
                assert [r.entry.revision for r in revisions] == list(range(entry.revision, 0, -1))


def test_a_second_process_on_the_same_folder_says_so_and_ends(process: Process, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="in use by another process"):
        service("knowledge", tmp_path / "second", data_dir=tmp_path / "data", compiled="false").start()


def test_it_stops_at_once_though_somebody_watches(process: Process) -> None:
    stub = connect(process)
    stub.CreateKnowledgeBase(pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb"))
    call = stub.WatchEntries(pb.WatchEntriesRequest(parent=KB))
    stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry=pb.Entry(text="one")))
    time.sleep(0.2)
    started = time.monotonic()
    assert process.stop() == 0
    assert time.monotonic() - started < 15, "the grace time of 20 s"
    with pytest.raises(grpc.RpcError) as error:
        list(call)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_with_minilm_a_search_finds_what_is_meant(tmp_path: Path) -> None:
    process = service("knowledge", tmp_path, data_dir=tmp_path / "data", embedder="minilm", log_level="warning").start()
    try:
        stub = connect(process)
        base = stub.CreateKnowledgeBase(pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb")).knowledge_base
        assert (base.embedder, base.embedding_dimension) == ("all-MiniLM-L6-v2", 384)
        for text in ("A spider has eight legs.", "Gold melts at 1064 degrees.", "Paris is the capital of France."):
            stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry=pb.Entry(text=text)))
        for mode in (pb.SEARCH_MODE_VECTOR, pb.SEARCH_MODE_UNSPECIFIED):
            request = pb.SearchEntriesRequest(
                parent=KB, query="How many limbs do arachnids walk on?", mode=mode, explain=True
            )
            best = stub.SearchEntries(request).results[0]
            assert best.entry.text == "A spider has eight legs."
            assert best.explanation
    finally:
        process.kill()
