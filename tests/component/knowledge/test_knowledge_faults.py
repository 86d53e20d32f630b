"""kill -9 of the service and of the store in the middle of writes; a store that is down or stopped; a clock that jumps back.

What was acknowledged is there, what was not is there whole or not at all. `make test` tries a round or two,
`make test-faults` twenty.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.processes import service
from tests.weaviate import WeaviateServer

KB = "knowledgeBases/kb"
VICTIMS = ("embedded", "weaviate: the service", "weaviate: the store")
OUTAGE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
TOGETHER = 30  # entries of an atomic import
CLOCK = """
import os, runpy, time
back = int(os.environ["TEST_CLOCK_BACK_SECONDS"])
real = time.time_ns  # not time.time, which gRPC makes its deadlines of
time.time_ns = lambda: real() - back * 10**9
runpy.run_module("services.knowledge", run_name="__main__")
"""


class World:
    """A knowledge service over a store of its own; either can be killed."""

    def __init__(self, store: str, folder: Path) -> None:
        self.server: WeaviateServer | None = None
        settings = {"data_dir": str(folder / "data")}
        if store == "weaviate":
            self.server = WeaviateServer(folder / "weaviate")
            settings = {**self.server.settings(), "weaviate_timeout_seconds": "4"}
        self.process = service("knowledge", folder, compiled="false", log_level="warning", **settings)

    def start(self) -> World:
        if self.server is not None:
            self.server.start()
        self.process.start()
        return self

    def end(self) -> None:
        self.process.kill()
        if self.server is not None:
            self.server.kill()

    @contextlib.contextmanager
    def stub(self) -> Iterator[KnowledgeServiceStub]:
        with grpc.insecure_channel(self.process.address, [("grpc.enable_retries", 0)]) as channel:
            yield KnowledgeServiceStub(channel)

    def kill_and_start(self, victim: str) -> None:
        if victim.endswith("the store"):
            assert self.server is not None
            self.server.kill()
            time.sleep(0.3)
            self.server.start()
        else:
            self.process.kill()
            self.process.start()

    def recovered(self, patience: float = 60) -> None:
        """Waits until a write and a search succeed; nobody helps."""
        deadline = time.monotonic() + patience
        while True:
            try:
                with self.stub() as stub:
                    stub.RecordFeedback(pb.RecordFeedbackRequest(parent=KB), timeout=10)
                    stub.SearchEntries(pb.SearchEntriesRequest(parent=KB, query="x"), timeout=10)
                    stub.UpdateKnowledgeBase(
                        pb.UpdateKnowledgeBaseRequest(knowledge_base={"name": KB, "title": str(time.monotonic_ns())}),
                        timeout=10,
                    )
                return
            except grpc.RpcError as error:
                assert error.code() in OUTAGE, error
                assert time.monotonic() < deadline, f"it did not recover: {error.details()}"
                time.sleep(0.3)


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(request.param.partition(":")[0], tmp_path)
    try:
        made.start()
        with made.stub() as stub:
            stub.CreateKnowledgeBase(pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb"))
        yield made
    finally:
        made.end()


def every_entry(stub: KnowledgeServiceStub) -> dict[str, pb.Entry]:
    """All entries, by text."""
    found: dict[str, pb.Entry] = {}
    token = ""
    while True:
        page = stub.ListEntries(pb.ListEntriesRequest(parent=KB, page_size=1000, page_token=token), timeout=60)
        for entry in page.entries:
            assert entry.text not in found, f"{entry.text} is there twice"
            found[entry.text] = entry
        token = page.next_page_token
        if not token:
            return found


class Writers:
    """Writes of every kind, from threads of their own, and what was acknowledged of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.created: dict[str, str] = {}  # text -> title
        self.imports: dict[str, bool] = {}  # prefix -> acknowledged
        self.feedback = 0
        self.unsure: str = ""  # the request id whose outcome nobody knows
        self.counted: list[str] = []  # names of the entries that all get the same feedback
        self.pairs: list[tuple[str, str, bool]] = []  # old, new, resolved
        self.writes = 0
        self.failed: list[str] = []
        self.stop = threading.Event()
        self.round = 0

    def prepare(self) -> None:
        with self.world.stub() as stub:
            entries = [pb.Entry(text=f"counted {name}") for name in ("alpha", "beta", "gamma", "delta")]
            for entry in entries:
                self.counted.append(stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry=entry)).entry.name)

    def run(self, seconds: float, then: Callable[[], None]) -> None:
        """Writes until something kills the service or the store: so many seconds after the eleventh acknowledged write."""
        self.round += 1
        enough, deadline = self.writes + 11, time.monotonic() + 60
        self.stop.clear()
        kinds = (self._create, self._import, self._feed_back, self._resolve)
        threads = [threading.Thread(target=self._until_killed, args=(kind,)) for kind in kinds]
        for thread in threads:
            thread.start()
        while self.writes < enough and not self.failed:
            assert time.monotonic() < deadline, f"{self.writes} writes in a minute"
            time.sleep(0.01)
        time.sleep(seconds)
        then()
        self.stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a call hangs"
        failed, self.failed = self.failed, []
        assert not failed, failed

    def _until_killed(self, write: Callable[[KnowledgeServiceStub, int], None]) -> None:
        try:
            with self.world.stub() as stub:
                for number in range(1_000):
                    if self.stop.is_set():
                        return
                    write(stub, number)
                    self.writes += 1
        except grpc.RpcError as error:
            if error.code() not in OUTAGE:
                self.failed.append(f"{write.__name__}: {error.code()} {error.details()}")
        except Exception as error:
            self.failed.append(f"{write.__name__}: {error!r}")

    def _create(self, stub: KnowledgeServiceStub, number: int) -> None:
        text = f"created r{self.round}n{number}"
        entry = stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry=pb.Entry(text=text)), timeout=20).entry
        self.created[text] = ""
        entry.title = "edited"
        stub.UpdateEntry(pb.UpdateEntryRequest(entry=entry, author="Ada"), timeout=20)
        self.created[text] = "edited"

    def _import(self, stub: KnowledgeServiceStub, number: int) -> None:
        prefix = f"imported r{self.round}n{number}"
        self.imports[prefix] = False
        data = "".join(json.dumps({"text": f"{prefix}i{i}"}) + "\n" for i in range(TOGETHER)).encode()
        messages = [
            pb.ImportEntriesRequest(options={"parent": KB, "atomic": True, "reviewed": True}),
            pb.ImportEntriesRequest(data=data),
        ]
        report = stub.ImportEntries(iter(messages), timeout=20)
        assert report.created == TOGETHER
        self.imports[prefix] = True

    def _feed_back(self, stub: KnowledgeServiceStub, number: int) -> None:
        self.unsure = f"r{self.round}n{number}"
        self._send_feedback(stub)
        self.feedback += 1
        self.unsure = ""

    def _send_feedback(self, stub: KnowledgeServiceStub) -> None:
        feedback = [pb.RecordFeedbackRequest.Feedback(entry=name, used=1, helpful=2) for name in self.counted]
        stub.RecordFeedback(pb.RecordFeedbackRequest(parent=KB, feedback=feedback, request_id=self.unsure), timeout=20)

    def _resolve(self, stub: KnowledgeServiceStub, number: int) -> None:
        old, new = (f"{kind} r{self.round}n{number}" for kind in ("old", "new"))
        replaced = stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry={"text": old}), timeout=20).entry
        waits = pb.Entry(text=new, status=pb.ENTRY_STATUS_DRAFT)
        draft = stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry=waits), timeout=20).entry
        self.pairs.append((old, new, False))
        request = pb.ResolveReviewRequest(name=draft.name, decision=pb.REVIEW_DECISION_REPLACE, others=[replaced.name])
        stub.ResolveReview(request, timeout=20)
        self.pairs[-1] = (old, new, True)

    def check(self) -> None:
        """Every acknowledged write is there, none is half there."""
        with self.world.stub() as stub:
            there = every_entry(stub)
            for text, title in self.created.items():
                assert text in there, f"lost: {text}"
                if title:
                    assert (there[text].title, there[text].revision) == (title, 2), f"the edit of {text} is lost"
            for prefix, acknowledged in self.imports.items():
                count = sum(f"{prefix}i{i}" in there for i in range(TOGETHER))
                assert count in ((TOGETHER,) if acknowledged else (0, TOGETHER)), f"{count} of {TOGETHER} of {prefix}"
            for old, new, resolved in self.pairs:
                state = (there[old].status, there[new].status)
                done = (pb.ENTRY_STATUS_SUPERSEDED, pb.ENTRY_STATUS_ACTIVE)
                waits = (pb.ENTRY_STATUS_ACTIVE, pb.ENTRY_STATUS_DRAFT)
                assert state in ((done,) if resolved else (done, waits)), (old, new, state)
            counters = {(e.counters.used, e.counters.helpful) for e in there.values() if e.name in self.counted}
            assert len(counters) == 1, f"feedback is half there: {counters}"
            ((used, helpful),) = counters
            assert helpful == 2 * used
            assert used in ((self.feedback, self.feedback + 1) if self.unsure else (self.feedback,)), (
                used,
                self.feedback,
            )
            if self.unsure:
                self._send_feedback(stub)  # its outcome was not known: the same again
                self.feedback, self.unsure = self.feedback + 1, ""
                again = stub.GetEntry(pb.GetEntryRequest(name=self.counted[0]), timeout=20).entry
                assert again.counters.used == self.feedback, "a repeated request counts once"
            self._check_revisions(stub, there)
            base = stub.GetKnowledgeBase(pb.GetKnowledgeBaseRequest(name=KB), timeout=20).knowledge_base
            assert base.entry_count == len(there)
            for text in random.sample(sorted(there), 3):
                request = pb.SearchEntriesRequest(
                    parent=KB, query=text, top_k=1, filter="status != RETIRED", mode=pb.SEARCH_MODE_BM25
                )
                assert stub.SearchEntries(request, timeout=20).results[0].entry.text == text, "the index lacks it"

    def _check_revisions(self, stub: KnowledgeServiceStub, there: dict[str, pb.Entry]) -> None:
        numbers: dict[str, list[int]] = {}
        last: dict[str, pb.Entry] = {}
        for part in stub.ExportAudit(pb.ExportAuditRequest(parent=KB), timeout=120):
            for revision in part.revisions:
                numbers.setdefault(revision.entry.name, []).append(revision.entry.revision)
                last[revision.entry.name] = revision.entry
        for entry in there.values():
            assert numbers.get(entry.name) == list(range(1, entry.revision + 1)), f"revisions of {entry.text}"
            assert last[entry.name].etag == entry.etag
        assert len(numbers) == len(there), "revisions of entries that are not there"


def _kill(world: World, victim: str, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    writers = Writers(world)
    writers.prepare()
    for _ in range(rounds):
        writers.run(rng.uniform(0.2, 1.5), lambda: world.kill_and_start(victim))
        world.recovered()
        writers.check()
    assert writers.writes > 10 * rounds
    print(f"{rounds} kills of {victim}: {writers.writes} writes acknowledged, none lost")


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("world", "victim"), [(v, v) for v in VICTIMS], indirect=["world"], ids=VICTIMS)
def test_killed_in_the_middle_of_writes_nothing_is_lost_and_nothing_half_there(world: World, victim: str) -> None:
    _kill(world, victim, 3 if victim == "embedded" else 1, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("world", "victim"), [(v, v) for v in VICTIMS], indirect=["world"], ids=VICTIMS)
def test_killed_twenty_times_nothing_is_lost_and_nothing_half_there(world: World, victim: str) -> None:
    _kill(world, victim, 20, seed=2)


# -- a store that is away


def _refused(call: Callable[[], object]) -> float:
    """The call answers UNAVAILABLE with RetryInfo; how long that took."""
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as raised:
        call()
    took = time.monotonic() - started
    error = raised.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE, (error.code(), error.details())
    status = rpc_status.from_call(error)
    kinds = [detail.TypeName() for detail in status.details]
    assert error_details_pb2.RetryInfo.DESCRIPTOR.full_name in kinds, f"no retry hint: {error.details()}"
    return took


def _outage(world: World, away: Callable[[], None], back: Callable[[], None], seconds: float) -> None:
    with world.stub() as stub:

        def search() -> pb.SearchEntriesResponse:
            return stub.SearchEntries(pb.SearchEntriesRequest(parent=KB, query="kept"), timeout=30)

        def write() -> pb.CreateEntryResponse:
            text = f"during {time.monotonic_ns()}"
            return stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry={"text": text}), timeout=30)

        stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry={"text": "kept"}))
        away()
        try:
            first = _refused(search), _refused(write)
            assert max(first) < 10, f"callers wait {first} s for an answer"
            end = time.monotonic() + seconds
            later = []
            while time.monotonic() < end:
                later += [_refused(search), _refused(write)]
                time.sleep(0.5)
            assert not later or max(later) < 10, later
        finally:
            back()
        world.recovered()
        assert [result.entry.text for result in search().results] == ["kept"]
        assert write().entry.revision == 1


def _stop(pid: int) -> None:
    """Stops a process; when this returns no thread of it runs any more."""
    os.kill(pid, signal.SIGSTOP)
    running = True
    while running:
        time.sleep(0.01)
        with contextlib.suppress(OSError):  # a thread that ended at this moment
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            running = any(not re.search(r"\) [TtZ] ", (task / "stat").read_text()) for task in tasks)


@pytest.mark.parametrize("how", ["killed", "stopped"])
@pytest.mark.parametrize(
    "seconds", [pytest.param(4, id="for-seconds"), pytest.param(60, id="for-a-minute", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("world", ["weaviate"], indirect=True)
def test_while_weaviate_is_away_callers_are_told_at_once_and_it_recovers_by_itself(
    world: World, how: str, seconds: float
) -> None:
    server = world.server
    assert server is not None
    if how == "killed":
        _outage(world, server.kill, lambda: server.start() and None, seconds)
    else:
        _outage(world, lambda: _stop(server.pid), lambda: os.kill(server.pid, signal.SIGCONT), seconds)


@pytest.mark.parametrize("world", ["weaviate"], indirect=True)
def test_a_service_that_starts_before_its_weaviate_waits_for_it(world: World) -> None:
    assert world.server is not None
    world.process.kill()
    world.server.kill()
    late = threading.Timer(2.0, world.server.start)
    late.start()
    world.process.start(patience=90)
    late.join()
    world.recovered()


# -- a clock that jumps back


@pytest.mark.parametrize("world", ["embedded", "weaviate"], indirect=True)
def test_versions_and_watches_go_on_when_the_clock_jumps_back(world: World) -> None:
    def version(stub: KnowledgeServiceStub) -> int:
        return stub.GetKnowledgeBase(pb.GetKnowledgeBaseRequest(name=KB)).knowledge_base.version

    with world.stub() as stub:
        entry = stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry={"text": "before"})).entry
        watch = stub.WatchEntries(pb.WatchEntriesRequest(parent=KB), timeout=60)
        told, titles = threading.Event(), ["0"]

        def change() -> None:  # again and again: nobody says when a watch has begun
            while not told.wait(0.5):
                titles.append(str(len(titles)))
                changed = {"name": entry.name, "title": titles[-1]}
                stub.UpdateEntry(pb.UpdateEntryRequest(entry=changed, update_mask={"paths": ["title"]}))

        changing = threading.Thread(target=change)
        changing.start()
        change_told = next(iter(watch))
        told.set()
        changing.join()
        while change_told.entry.title != titles[-1]:
            change_told = next(iter(watch))
        token = change_told.watch_token
        watch.cancel()
        before = version(stub)
    world.process.kill()
    world.process.command = [sys.executable, "-c", CLOCK]
    world.process.env["TEST_CLOCK_BACK_SECONDS"] = "7200"
    world.process.start()
    with world.stub() as stub:
        seen = []
        for number in range(3):
            entry = stub.CreateEntry(pb.CreateEntryRequest(parent=KB, entry={"text": f"after w{number}"})).entry
            now = version(stub)
            assert now > before, "caches compare versions"
            before = now
            seen.append(entry.name)
        watch = iter(stub.WatchEntries(pb.WatchEntriesRequest(parent=KB, watch_token=token), timeout=30))
        assert [next(watch).entry.name for _ in seen] == seen
        found = stub.SearchEntries(pb.SearchEntriesRequest(parent=KB, query="after", top_k=9))
        assert len(found.results) == 3
        stub.DeleteKnowledgeBase(pb.DeleteKnowledgeBaseRequest(name=KB, force=True))
        made = stub.CreateKnowledgeBase(pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb")).knowledge_base
        assert made.version > before
