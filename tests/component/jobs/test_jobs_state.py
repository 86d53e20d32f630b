"""Who may do what with a run, decided in a real Valkey."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import state
from jobs.artifacts import Artifacts, StageFolder
from jobs.context import FolderLost, Lease, LeaseLost
from jobs.recovery import recover_orphans
from tests.command import until
from tests.component.jobs.conftest import lapse
from tests.processes import running, valkey

PLAN = [("prepare", 1), ("evaluate", 1)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broker = valkey(tmp_path_factory.mktemp("valkey"))
    with running(broker):
        yield f"redis://{broker.address}/0"


@pytest.fixture
def store(url: str) -> state.RunStore:
    client = state.connect(url, patience=5)
    client.flushall()
    return state.RunStore(client, lease_seconds=60, max_attempts=3)


def test_a_run_is_made_once_and_a_repeated_request_finds_it(store: state.RunStore) -> None:
    assert store.create("a", {"name": "a"}, PLAN, request_id="x") == ("CREATED", "a")
    assert store.create("b", {"name": "a"}, PLAN, request_id="x") == ("REPEATED", "a")
    assert store.create("a", {"name": "a"}, PLAN) == ("EXISTS", "a")
    record = store.get("a")
    assert record and record.state == "QUEUED" and [s.name for s in record.stages] == ["prepare", "evaluate"]
    assert store.get("b") is None


def twice(store: state.RunStore, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the connection breaks after Redis did what it was asked: the client asks again."""
    once = store._scripts[script]

    def repeated(**call: object) -> object:
        once(**call)
        return once(**call)

    monkeypatch.setitem(store._scripts, script, repeated)  # type: ignore[arg-type]


def test_a_run_that_is_made_but_whose_answer_is_lost_is_no_run_of_somebody_else(
    store: state.RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice(store, "create", monkeypatch)
    assert store.create("a", {}, PLAN) == ("REPEATED", "a")
    assert store.create("a", {}, PLAN) == ("EXISTS", "a")


def test_a_run_that_is_resumed_but_whose_answer_is_lost_is_resumed(
    store: state.RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice(store, "resume", monkeypatch)
    store.create("a", {}, PLAN)
    assert store.resume("a") == "QUEUED"
    store.cancel("a")
    assert store.resume("a") == "OK"
    assert store.resume("a") == "QUEUED"


def test_one_worker_has_a_run_and_a_second_delivery_changes_nothing(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    assert store.take("a", "prepare", 1, "one") == "TAKEN"
    assert store.take("a", "prepare", 1, "one") == "TAKEN"
    assert store.take("a", "prepare", 1, "two") == "BUSY"
    assert store.take("a", "evaluate", 1, "two") == "STALE"
    assert store.take("b", "prepare", 1, "two") == "ABSENT"
    record = store.get("a")
    assert record and record.state == "RUNNING" and record.stages[0].attempts == 1


def test_the_next_stage_begins_when_this_one_is_done_and_only_then(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    store.take("a", "prepare", 1, "one")
    assert not store.end_stage("a", "prepare", 1, "other", "DONE", following=("evaluate", 1))
    assert store.end_stage("a", "prepare", 1, "one", "DONE", following=("evaluate", 1))
    assert store.take("a", "prepare", 1, "two") == "STALE"
    assert store.take("a", "evaluate", 1, "two") == "TAKEN"
    assert store.end_stage("a", "evaluate", 1, "two", "DONE")
    record = store.get("a")
    assert record and record.state == "SUCCEEDED" and record.end_time >= record.start_time > 0
    assert store.active() == []


def test_a_worker_that_lost_its_lease_writes_nothing(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    store.take("a", "prepare", 1, "one")
    lapse(store, "a")
    assert store.take("a", "prepare", 1, "two") == "TAKEN"
    assert not store.renew("a", "one")
    assert not store.progress("a", "prepare", 1, "one", {"done": 5})
    assert not store.end_stage("a", "prepare", 1, "one", "DONE")
    assert store.progress("a", "prepare", 1, "two", {"done": 3, "total": 4, "loss": "0.5", "note": "x"})
    stage = store.get("a").stages[0]  # type: ignore[union-attr]
    assert (stage.done, stage.total, stage.loss, stage.note, stage.attempts) == (3, 4, 0.5, "x", 2)


def test_a_lease_that_expired_while_redis_was_away_is_kept(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    store.take("a", "prepare", 1, "one")
    lapse(store, "a")
    assert store.renew("a", "one")
    assert store.owner("a") == "one"


def test_what_a_worker_tells_before_it_renewed_such_a_lease_is_kept_too(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    store.take("a", "prepare", 1, "one")
    lapse(store, "a")
    assert store.progress("a", "prepare", 1, "one", {"digest": "abc"})
    assert store.end_stage("a", "prepare", 1, "one", "DONE", following=("evaluate", 1))
    assert not store.end_stage("a", "prepare", 1, "one", "DONE", following=("evaluate", 1)), "it has ended"
    assert not store.progress("a", "prepare", 1, "one", {"digest": "of a worker that is late"})
    record = store.get("a")
    assert record and (record.stage, record.stages[0].digest, record.stages[0].attempts) == ("evaluate", "abc", 1)


def test_a_lease_is_not_taken_back_after_others_went_on_with_the_run(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    store.take("a", "prepare", 1, "one")
    lapse(store, "a")
    store.take("a", "prepare", 1, "two")
    store.end_stage("a", "prepare", 1, "two", "DONE", following=("evaluate", 1))
    store.take("a", "evaluate", 1, "three")
    lapse(store, "a")
    assert not store.renew("a", "one")
    error = {"reason": "X", "message": "x", "stage": "prepare"}
    assert not store.end_stage("a", "prepare", 1, "one", "FAILED", error=error)
    assert store.renew("a", "three")
    record = store.get("a")
    assert record and (record.state, record.stage, record.error) == ("RUNNING", "evaluate", None)


def test_a_stage_that_kills_its_worker_again_and_again_ends_the_run_with_its_reason(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    for token in ("1", "2", "3"):
        dead = store.owner("a")
        assert store.take("a", "prepare", 1, token, dead=dead) == "TAKEN"
    assert store.take("a", "prepare", 1, "4", dead="3") == "EXHAUSTED"
    record = store.get("a")
    assert record and record.state == "FAILED" and record.error and record.error["reason"] == "WORKER_LOST"
    assert store.resume("a") == "OK"
    assert store.take("a", "prepare", 1, "5") == "TAKEN"


def test_lasting_progress_counts_attempts_anew(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    for token in range(8):
        assert store.take("a", "prepare", 1, str(token), dead=store.owner("a")) == "TAKEN"
        store.progress("a", "prepare", 1, str(token), {"saved": token + 1})
    assert store.get("a").stages[0].attempts == 8  # type: ignore[union-attr]


def test_handing_back_counts_no_attempt(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    for _ in range(5):
        store.take("a", "prepare", 1, "one")
        assert store.end_stage("a", "prepare", 1, "one", "HANDBACK")
    record = store.get("a")
    assert record and record.state == "QUEUED" and record.stages[0].attempts == 0


def test_cancel_stops_a_waiting_run_at_once_and_asks_a_running_one(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    assert store.cancel("a") == "OK"
    assert store.get("a").state == "CANCELLED"  # type: ignore[union-attr]
    assert store.take("a", "prepare", 1, "one") == "STALE"
    assert store.cancel("a") == "CANCELLED"
    assert store.resume("a") == "OK"
    store.take("a", "prepare", 1, "one")
    assert store.cancel("a") == "OK"
    assert store.cancelled("a") and store.get("a").state == "CANCELLING"  # type: ignore[union-attr]
    assert store.end_stage("a", "prepare", 1, "one", "HANDBACK")
    assert store.get("a").state == "CANCELLED"  # type: ignore[union-attr]
    assert store.cancel("nobody") == "ABSENT"


def test_a_run_that_was_to_stop_when_its_last_worker_was_lost_is_cancelled_and_has_not_failed(
    store: state.RunStore,
) -> None:
    store.create("a", {}, PLAN)
    for token in ("1", "2", "3"):
        assert store.take("a", "prepare", 1, token, dead=store.owner("a")) == "TAKEN"
    store.cancel("a")
    assert store.take("a", "prepare", 1, "4") == "BUSY"
    assert store.take("a", "prepare", 1, "4", dead="3") == "CANCELLED"
    record = store.get("a")
    assert record and (record.state, record.error, record.stages[0].state) == ("CANCELLED", None, "CANCELLED")
    assert record.end_time and store.active() == [] and store.owner("a") == ""
    assert store.totals().attempts["prepare", "lost"] == 3 and not store.totals().failures


def test_runs_whose_worker_is_gone_are_sent_again_once(store: state.RunStore) -> None:
    sent: list[str] = []

    def send(run_id: str, stage: str, round_: int) -> None:
        sent.append(f"{run_id} {stage} {round_}")

    for run_id in ("alive", "orphan", "cancelled"):
        store.create(run_id, {}, PLAN)
        store.take(run_id, "prepare", 1, run_id)
    store.cancel("cancelled")
    for run_id in ("orphan", "cancelled"):
        lapse(store, run_id)
    assert recover_orphans(store, send) == ["orphan"]
    assert recover_orphans(store, send) == []
    # That which is over too: a worker has the student forget its adapters.
    assert sent == ["cancelled prepare 1", "orphan prepare 1"]
    assert store.get("cancelled").state == "CANCELLED"  # type: ignore[union-attr]


def test_a_run_whose_message_was_lost_is_sent_again(store: state.RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("a", {}, PLAN)
    assert recover_orphans(store, lambda *_: None) == []
    monkeypatch.setattr("jobs.recovery._LOST_MESSAGE_SECONDS", 0.0)
    store.client.lpush("nesycd.cpu", "somebody waits")
    assert recover_orphans(store, lambda *_: None) == []
    store.client.delete("nesycd.cpu")
    assert recover_orphans(store, lambda *_: None) == ["a"]


def test_a_second_run_with_the_same_inputs_waits_for_the_first(store: state.RunStore) -> None:
    assert store.lock("digest", "one") == ""
    assert store.lock("digest", "one") == ""
    assert store.lock("digest", "two") == "one"
    assert store.lock("digest", "two", dead="one") == ""
    store.unlock("digest", "one")
    assert store.lock("digest", "three") == "two"


def test_after_an_outage_longer_than_the_lease_a_folder_that_another_run_took_is_not_written(
    store: state.RunStore, tmp_path: Path
) -> None:
    others = state.RunStore(store.client, lease_seconds=60)
    store.lease_ms = 600
    store.create("a", {}, PLAN)
    store.take("a", "prepare", 1, "one")
    lease = Lease(store, "a", "one")  # not entered: nothing renews it, as while Redis is away
    folder = StageFolder(Artifacts(str(tmp_path)), "prepare", "digest", before_write=lease.check)
    assert lease.hold("digest") == ""
    folder.write("first", b"1")
    time.sleep(0.7)
    folder.write("second", b"2")  # nobody came meanwhile: it is taken again
    time.sleep(0.7)
    assert others.lock("digest", "two") == ""
    for write in (
        lambda: folder.write("third", b"3"), lambda: folder.journal("rows").put(0, [{}]), lambda: folder.remove("first"),
        lambda: folder.push(tmp_path, "all"), lambda: folder.complete({}),
    ):  # fmt: skip
        with pytest.raises(FolderLost):
            write()
    assert folder.files() == ["first", "second"] and folder.manifest() is None
    assert store.renew("a", "one"), "the run is still its own"


def test_a_folder_that_was_lost_is_noticed_while_a_stage_computes(store: state.RunStore) -> None:
    store.lease_ms = 600
    store.create("a", {}, PLAN)
    store.take("a", "prepare", 1, "one")
    with Lease(store, "a", "one") as lease:
        assert lease.hold("digest") == ""
        lease.check()
        store.client.set(f"{state.PREFIX}work:digest", "two")
        with pytest.raises(FolderLost):
            while True:
                lease.check()
                time.sleep(0.05)
        time.sleep(0.7)
        until(lambda: store.owner("a") == "one")  # a renewal that was late is made up for
    assert store.lock("digest", "three") == "two"


def test_a_worker_that_comes_back_to_a_run_that_another_took_is_told_before_it_writes(store: state.RunStore) -> None:
    store.lease_ms = 3000
    store.create("a", {}, PLAN)
    store.take("a", "prepare", 1, "one")
    lease = Lease(store, "a", "one")
    assert not lease.certain
    lease.check()
    assert lease.certain
    time.sleep(3.1)
    assert not lease.certain
    assert store.take("a", "prepare", 1, "two") == "TAKEN"
    with pytest.raises(LeaseLost) as raised:
        lease.check()
    assert raised.type is LeaseLost


def test_where_a_stage_hung_is_told_when_it_is_given_up_unless_it_was_begun_since(store: state.RunStore) -> None:
    store.create("a", {}, PLAN)
    for token in ("1", "2", "3"):
        assert store.take("a", "prepare", 1, token, dead=store.owner("a")) == "TAKEN"
        if token == "1":
            store.stalled("a", "prepare", 1, token, "prepare.py:9 in _read")
    assert store.take("a", "prepare", 1, "4", dead="3") == "EXHAUSTED"
    assert store.get("a").error["reason"] == "WORKER_LOST"  # type: ignore[union-attr,index]
    store.resume("a")
    store.take("a", "prepare", 1, "4")
    store.client.hset(f"{state.PREFIX}stage:a:1:prepare", "strikes", 3)
    store.stalled("a", "prepare", 1, "4", "prepare.py:9 in _read")
    assert store.take("a", "prepare", 1, "5", dead="4") == "EXHAUSTED"
    error = store.get("a").error  # type: ignore[union-attr]
    assert error and error["reason"] == "STAGE_STALLED" and "prepare.py:9 in _read" in error["message"]


def test_pages_hold_every_run_once_newest_first(store: state.RunStore) -> None:
    for number in range(7):
        store.create(f"r{number}", {}, PLAN)
    store.client.zadd("nesycd:runs:index", dict.fromkeys(("r2", "r3", "r4", "r5"), 100.0))
    seen: list[str] = []
    after = None
    while True:
        runs, after = store.page(2, after)
        seen += [run.id for run in runs]
        if after is None:
            break
    assert seen == ["r6", "r1", "r0", "r5", "r4", "r3", "r2"]


def test_state_survives_kill_9_of_the_server(tmp_path: Path) -> None:
    broker = valkey(tmp_path / "v")
    with running(broker):
        store = state.RunStore(state.connect(f"redis://{broker.address}/0", patience=20))
        store.create("a", {"x": 1}, PLAN)
        store.take("a", "prepare", 1, "one")
        broker.kill()
        broker.start()
        assert store.progress("a", "prepare", 1, "one", {"done": 1})
        assert store.get("a").spec == {"x": 1}  # type: ignore[union-attr]
