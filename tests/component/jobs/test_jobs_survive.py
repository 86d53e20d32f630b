"""Runs go on to their end though workers, services and the broker are killed. Real Valkey, real workers, faked services over gRPC."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest

from jobs.app import send_stage
from jobs.owners import is_gone
from services.common.errors import FailedPrecondition
from tests.component.jobs.conftest import World
from tests.tiny import make_tiny_model

STALLS = {"NESYCD_JOBS_STALL_SECONDS": "2"}
ZERO_SHOT = {"method": "zero-shot", "evaluate": {"conditions": ["zero_shot"]}}


def test_a_run_goes_through_every_stage_and_a_second_one_with_the_same_inputs_uses_what_is_there(world: World) -> None:
    make_tiny_model(world.folder / "artifacts" / "models" / "tiny")
    expert = world.folder / "expert.jsonl"
    expert.write_text('{"text": "It is 5."}\n')
    data = {"train": world.data(6, "t"), "test": world.data(3), "expert": str(expert)}
    spec = {
        "data": data, "student": {"base_model": "tiny"}, "teacher": {"budget_usd": 1.0},
        "training": {"lora": {"rank": 2}, "dtype": "float32"}, "evaluate": {"edited_rows": 2},
    }  # fmt: skip
    world.submit("one", **spec)
    world.worker()
    record = world.wait_over("one", patience=120)
    assert [stage.state for stage in record.stages] == ["SUCCEEDED"] * 8
    assert all(stage.attempts == 1 for stage in record.stages)
    assert record.accuracy == {
        "zero_shot": 0.0, "general": 0.0, "augmented": 1.0, "shuffled": 1.0, "imported": 1.0, "edited": 1.0,
    }  # fmt: skip
    assert (record.adapter, record.knowledge_base) == ("adapters/one@1", "knowledgeBases/one")
    assert record.cost_usd > 0 and record.teacher_tokens > 0
    assert all(world.house.asked["rationale", f"t{i}"] == 1 for i in range(6))
    assert all(world.house.asked["extract", f"t{i}"] == 1 for i in range(6))
    alias = world.house.called("SetAlias")[0].alias
    assert (alias.name, alias.adapter, alias.retrieval.knowledge_base) == (
        "aliases/production", "adapters/one@1", "knowledgeBases/one",
    )  # fmt: skip
    feedback = world.house.called("RecordFeedback")[0].feedback[0]
    assert (feedback.used, feedback.helpful, feedback.harmful) == (3, 3, 0)
    assert Path(record.report_uri.removeprefix("file://")).stat().st_size > 1000
    manifest = json.loads((world.folder / "artifacts/adapters/one/1/manifest.json").read_text())
    assert manifest["base_model"] == "tiny" and set(manifest["files"]) == {
        "adapter_model.safetensors",
        "adapter_config.json",
    }

    world.submit("two", **spec)
    second = world.wait_over("two")
    assert [stage.name for stage in second.stages if not stage.reused] == ["evaluate", "publish"]
    assert all(world.house.asked["rationale", f"t{i}"] == 1 for i in range(6))
    options, content = world.house.called("ImportEntries")[1]
    assert options.parent == "knowledgeBases/two" and b"knowledgeBases/two/entries/1" in content
    assert second.accuracy == record.accuracy


def test_a_worker_killed_in_a_stage_is_replaced_and_asks_only_what_has_no_answer(world: World) -> None:
    go_on = world.house.hold("How many q100?")
    world.submit("r", test=120, **ZERO_SHOT)
    first = world.worker()
    world.wait(lambda: world.stage("r", "evaluate").done >= 48)
    first.kill()
    go_on.set()
    world.worker()
    record = world.wait_over("r")
    asked = [world.house.asked["base", f"How many q{i}?"] for i in range(120)]
    assert asked[:48] == [1] * 48
    assert max(asked) <= 2
    assert [(s.name, s.attempts) for s in record.stages] == [("prepare", 1), ("evaluate", 2), ("publish", 1)]


def test_a_message_that_is_delivered_twice_runs_once(world: World) -> None:
    world.house.seconds_a_row = 0.01
    world.submit("r", test=60, **ZERO_SHOT)
    world.worker()
    world.worker()
    world.wait(lambda: world.stage("r", "evaluate").attempts > 0)
    for stage in ("prepare", "evaluate", "evaluate", "publish"):
        send_stage(world.app, "r", stage, 1)
    record = world.wait_over("r")
    for stage in ("prepare", "evaluate", "publish"):
        send_stage(world.app, "r", stage, 1)
    world.wait(lambda: world.store.client.llen("nesycd.cpu") == 0)
    time.sleep(0.3)
    assert all(world.house.asked["base", f"How many q{i}?"] == 1 for i in range(60))
    assert world.run("r").stages == record.stages
    assert [stage.attempts for stage in record.stages] == [1, 1, 1]


def test_a_killed_broker_and_killed_services_do_not_fail_a_run(world: World) -> None:
    world.house.seconds_a_row = 0.015
    world.submit("r", test=100, **ZERO_SHOT)
    world.worker()
    world.wait(lambda: world.stage("r", "evaluate").attempts > 0)
    world.house.stop()
    world.broker.kill()
    time.sleep(2 * 1.1)  # longer than the lease
    world.broker.start()
    world.house.start()
    record = world.wait_over("r")
    assert [stage.attempts for stage in record.stages] == [1, 1, 1]


def test_a_worker_that_is_told_to_stop_hands_back_without_counting_an_attempt(world: World) -> None:
    go_on = world.house.hold("How many q60?")  # the stage does not end by itself
    world.submit("r", test=100, **ZERO_SHOT)
    first = world.worker()
    world.wait(lambda: world.stage("r", "evaluate").attempts > 0)
    assert first.stop() == 0
    assert world.run("r").state == "QUEUED" and world.store.owner("r") == ""
    go_on.set()
    world.worker()
    assert world.wait_over("r").stages[1].attempts == 1


@pytest.mark.parametrize("places", [0, 8])
def test_an_idle_worker_ends_when_it_is_told_to_though_redis_neither_answers_nor_refuses(
    world: World, places: int
) -> None:
    heartbeat = world.folder / "heartbeat"
    worker = world.worker(NESYCD_JOBS_HEARTBEAT_FILE=str(heartbeat))
    world.wait(heartbeat.exists)
    world.broker.kill()
    with socket.socket() as hole, socket.socket() as filler:
        hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hole.bind(("127.0.0.1", world.broker.port))
        # Nobody accepts: the kernel takes one connection more than there are places, which then says nothing, and answers no
        # further one, as an address that is nobody's any more.
        hole.listen(places)
        filler.setblocking(False)  # the worker may have been first: the queue of no places is full either way
        filler.connect_ex(hole.getsockname())
        world.wait(lambda: b"Timeout" in worker.log.read_bytes(), patience=60)
        assert worker.stop(patience=90) == 0


def test_a_run_is_cancelled_between_rows_and_resumed_from_there(world: World) -> None:
    go_on = world.house.hold("How many q60?")
    world.submit("r", test=100, **ZERO_SHOT)
    world.worker()
    world.wait(lambda: world.stage("r", "evaluate").done >= 48)
    world.store.cancel("r")
    assert world.run("r").state in ("CANCELLING", "CANCELLED")  # the worker may know already
    record = world.wait_over("r", "CANCELLED")
    assert record.stages[1].state == "CANCELLED"
    go_on.set()
    assert world.store.resume("r") == "OK"
    send_stage(world.app, "r", "evaluate", 1)
    world.wait_over("r")
    assert all(world.house.asked["base", f"How many q{i}?"] == 1 for i in range(48))


@pytest.mark.parametrize(
    ("turns", "waits", "cancelled", "ends"),
    [(1, True, True, "CANCELLED"), (1, False, True, "CANCELLED"), (3, False, False, "FAILED")],
    ids=["cancelled-while-it-waits", "cancelled-and-its-worker-lost", "its-worker-lost-too-often"],
)
def test_a_run_that_ends_without_a_worker_leaves_no_adapter_loaded(
    world: World, turns: int, waits: bool, cancelled: bool, ends: str
) -> None:
    world.submit("r", **ZERO_SHOT)
    for turn in range(turns):
        assert world.store.take("r", "prepare", 1, f"w{turn}", dead=world.store.owner("r")) == "TAKEN"
        assert world.store.progress("r", "prepare", 1, f"w{turn}", {"adapter": "adapters/r-general@1"})
    if waits:
        assert world.store.end_stage("r", "prepare", 1, "w0", "HANDBACK")
    if cancelled:
        assert world.store.cancel("r") == "OK"
    world.wait(lambda: not world.store.owner("r"))  # the lease of a lost worker expires
    world.worker()
    world.wait(lambda: bool(world.house.called("UnloadAdapter")))
    assert {request.adapter for request in world.house.called("UnloadAdapter")} == {"adapters/r-general@1"}
    assert world.wait_over("r", ends).stages[0].attempts == (0 if waits else turns)


def test_a_worker_whose_stage_hangs_ends_itself_and_the_run_goes_on_with_the_next(world: World) -> None:
    test = world.data(4)
    train = world.folder / "train.jsonl"
    os.mkfifo(train)  # to open it waits for somebody who writes: for ever
    world.submit("r", data={"train": str(train), "test": test}, **ZERO_SHOT)
    first = world.worker(**STALLS)
    assert first.popen and first.popen.wait(120) == 70
    assert world.run("r").state == "RUNNING" and "prepare.py" in world.stage("r", "prepare").note
    assert "stage_stalled" in first.log.read_text() and "most recent call first" in first.log.read_text()
    train.unlink()
    train.write_bytes(Path(world.data(4, "t")).read_bytes())
    world.worker()
    assert [stage.attempts for stage in world.wait_over("r").stages] == [2, 1, 1]


def test_a_stage_that_hangs_again_and_again_ends_the_run_with_where_it_hangs(world: World) -> None:
    train = world.folder / "train.jsonl"
    os.mkfifo(train)
    world.submit("r", data={"train": str(train), "test": world.data(4)}, **ZERO_SHOT)
    for _ in range(3):
        world.wait(lambda: world.store.owner("r") == "" or is_gone(world.store.owner("r")))
        worker = world.worker(**STALLS)
        assert worker.popen and worker.popen.wait(80) == 70
    world.worker(**STALLS)
    record = world.wait_over("r", "FAILED")
    assert record.error and record.error["reason"] == "STAGE_STALLED" and "in read_file" in record.error["message"]
    assert record.stages[0].attempts == 3


def test_a_worker_whose_folder_another_run_took_writes_nothing_more_and_waits_for_it(world: World) -> None:
    go_on = world.house.hold("How many q100?")
    world.submit("r", test=144, **ZERO_SHOT)
    world.worker()
    world.wait(lambda: world.stage("r", "evaluate").done >= 48)
    digest = world.stage("r", "evaluate").digest
    # As after an outage of Redis that was longer than the lease.
    world.store.client.set(f"nesycd:runs:work:{digest}", "another")
    shards = world.folder / "artifacts" / "stages" / "evaluate" / digest / "work" / "answers.zero_shot"
    world.wait(lambda: "waits for it" in world.stage("r", "evaluate").note)
    there = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    time.sleep(1.5)
    assert {path.name: path.stat().st_mtime_ns for path in shards.iterdir()} == there
    assert len(there) < 3
    go_on.set()
    world.store.client.delete(f"nesycd:runs:work:{digest}")
    assert [stage.attempts for stage in world.wait_over("r").stages] == [1, 1, 1]


def test_a_stage_that_kills_every_worker_ends_the_run_with_its_reason(world: World) -> None:
    over = threading.Event()
    world.house.on_answer = lambda _: os.kill(world.workers[-1].popen.pid, signal.SIGKILL)  # type: ignore[union-attr]

    def supervise() -> None:
        while not over.is_set():
            if not world.workers or world.workers[-1].popen.poll() is not None:  # type: ignore[union-attr]
                world.worker()
            time.sleep(0.05)

    world.submit("r", **ZERO_SHOT)
    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        record = world.wait_over("r", "FAILED")
    finally:
        over.set()
        supervisor.join()
    assert record.error and record.error["reason"] == "WORKER_LOST" and record.error["stage"] == "evaluate"
    assert record.stages[1].attempts == 3


def test_what_a_user_must_mend_fails_the_run_at_once(world: World) -> None:
    make_tiny_model(world.folder / "artifacts" / "models" / "tiny")
    student = {"base_model": "tiny"}
    world.house.teacher_error = FailedPrecondition("set the key", reason="TEACHER_KEY_REFUSED")
    (world.folder / "bad.jsonl").write_text('{"id": "1", "task": "a", "question": "b"}\n')
    test = world.data(2)
    world.submit("key", method="std-cot", student=student)
    world.submit(
        "data", method="std-cot", student=student, data={"train": str(world.folder / "bad.jsonl"), "test": test}
    )
    world.submit("file", method="std-cot", student=student, data={"train": "/nowhere.jsonl", "test": test})
    world.submit("model", method="std-cot", student={"base_model": "none"})
    world.worker()
    told = {}
    for run_id in ("key", "data", "file", "model"):
        record = world.wait_over(run_id, "FAILED")
        assert record.error and max(stage.attempts for stage in record.stages) == 1
        told[run_id] = (record.error["stage"], record.error["reason"], record.error["message"])
    assert told["key"][:2] == ("rationalize", "TEACHER_KEY_REFUSED")
    assert told["data"][:2] == ("prepare", "INVALID_DATA") and "bad.jsonl:1: the row has no 'answer'" in told["data"][2]
    assert told["file"][:2] == ("prepare", "DATA_NOT_FOUND") and "/nowhere.jsonl" in told["file"][2]
    assert told["model"][:2] == ("prepare", "MODEL_NOT_FOUND")
    assert not (world.folder / "artifacts" / "stages" / "rationalize").exists() or not list(
        (world.folder / "artifacts" / "stages" / "rationalize").rglob("manifest.json")
    )


def test_another_python_program_submits_a_run_as_a_task(world: World) -> None:
    world.worker()
    world.worker("nesycd.runs")
    spec = {"name": "task", "data": {"train": world.data(2, "t"), "test": world.data(2)}, **ZERO_SHOT}
    results = [world.app.send_task("nesycd.run", args=[spec], kwargs={"run_id": "same"}) for _ in range(2)]
    assert [result.get(timeout=100) for result in results] == [{"run": "runs/same"}] * 2
    # Ids of tasks are the caller's: no UUIDs, alike in the beginning, with a hyphen where a run's id would end.
    ids = ("nightly-1", "nightly-2")
    made = [world.app.send_task("nesycd.run", args=[spec], task_id=one).get(timeout=100)["run"] for one in ids]
    assert len(set(made)) == 2
    world.wait_over("same")
    for name in made:
        world.wait_over(name.removeprefix("runs/"))
    try:
        world.app.send_task("nesycd.run", args=[{**spec, "sed": 1}]).get(timeout=100)
        raise AssertionError("a wrong spec was taken")
    except ValueError as error:
        assert "sed: there is no such field" in str(error)
    try:
        world.app.send_task("nesycd.run", args=[{**spec, "seed": 1}], kwargs={"run_id": "same"}).get(timeout=100)
        raise AssertionError("another spec was taken for the run that is there")
    except ValueError as error:
        assert "run_id 'same' is taken" in str(error)


def test_a_submission_is_taken_while_the_only_worker_of_stages_is_busy(world: World) -> None:
    world.house.hold("How many q5?")
    world.submit("r", test=100, **ZERO_SHOT)
    world.worker()
    light = world.worker("nesycd.runs")
    world.wait(lambda: world.stage("r", "evaluate").attempts > 0)
    spec = {"name": "task", "data": {"train": world.data(2, "t"), "test": world.data(2)}, **ZERO_SHOT}
    assert world.app.send_task("nesycd.run", args=[spec], kwargs={"run_id": "new"}).get(timeout=100) == {
        "run": "runs/new"
    }
    assert world.run("r").state == "RUNNING" and world.run("new").state == "QUEUED"
    assert psutil.Process(light.popen.pid).memory_info().rss < 150e6  # type: ignore[union-attr]
    assert light.stop() == 0
