"""Who may do what with a run, decided in a real Valkey."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import state
from jobs.recovery import recover_orphans
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
    return state.RunStore(client, lease_seconds=0.6, max_attempts=3)


def test_a_run_is_made_once_and_a_repeated_request_finds_it(store: state.RunStore) -> None:
    assert store.create("a", {"name": "a"}, PLAN, request_id="x") == ("CREATED", "a")
    assert store.create("b", {"name": "a"}, PLAN, request_id="x") == ("REPEATED", "a")
    assert store.create("a", {"name": "a"}, PLAN) == ("EXISTS", "a")
    record = store.get("a")
    assert record and record.state == "QUEUED" and [s.name for s in record.stages] == ["prepare", "evaluate"]
    assert store.get("b") is None


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
    time.sleep(0.7)
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
    time.sleep(0.7)
    assert store.renew("a", "one")
    assert store.owner("a") == "one"


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


def test_runs_whose_worker_is_gone_are_sent_again_once(store: state.RunStore) -> None:
    sent: list[str] = []

    def send(run_id: str, stage: str, round_: int) -> None:
        sent.append(f"{run_id} {stage} {round_}")

    for run_id in ("alive", "orphan", "cancelled"):
        store.create(run_id, {}, PLAN)
        store.take(run_id, "prepare", 1, run_id)
    store.cancel("cancelled")
    time.sleep(0.7)
    store.renew("alive", "alive")
    assert recover_orphans(store, send) == ["orphan"]
    assert recover_orphans(store, send) == []
    assert sent == ["orphan prepare 1"]
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
