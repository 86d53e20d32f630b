"""The runs service as a process: submit, watch, cancel, resume, list. Real Valkey; no worker, so that what a worker does is told by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from nesycd.runs.v1 import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_QUEUED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    CancelRunRequest,
    CreateRunRequest,
    GetRunRequest,
    ListRunsRequest,
    ResumeRunRequest,
    RunServiceStub,
    WatchRunRequest,
)

from jobs import state
from services.common.pages import encode_page_token
from tests.processes import Process, running, service, valkey

SPEC = {"name": "demo", "seed": 7, "data": {"train": "train.jsonl", "test": "test.jsonl"}}


@dataclass
class House:
    broker: Process
    runs: RunServiceStub
    store: state.RunStore

    def create(self, **fields: Any) -> Any:
        spec = fields.pop("spec", SPEC)
        message = json_format.ParseDict(spec, struct_pb2.Struct())
        return self.runs.CreateRun(CreateRunRequest(spec=message, **fields), timeout=10).run


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("runs")
    broker = valkey(folder / "valkey")
    url = f"redis://{broker.address}/0"
    runs = service("runs", folder, redis_url=url, patience_seconds="1", recover_seconds="0.3", lease_seconds="2")
    with running(broker, runs), grpc.insecure_channel(runs.address) as channel:
        yield House(broker, RunServiceStub(channel), state.RunStore(state.connect(url)))


def reason(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, list[str]]:
    status = rpc_status.from_call(error)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return error.code(), info.reason, [violation.field for violation in bad.field_violations]


def failure(call: Any) -> tuple[grpc.StatusCode, str, list[str]]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return reason(caught.value)


def test_a_run_is_recorded_with_its_whole_spec_and_put_into_the_queue(house: House) -> None:
    house.store.client.flushall()
    run = house.create(run_id="first")
    assert run.name == "runs/first" and run.state == RUN_STATE_QUEUED
    assert run.spec["training"]["lora"]["rank"] == 16
    assert [stage.name for stage in run.stages][:2] == ["prepare", "rationalize"] and len(run.stages) == 8
    assert house.store.client.llen("nesycd.cpu") == 1
    assert house.runs.GetRun(GetRunRequest(name="runs/first")).run == run


def test_a_repeated_request_is_answered_like_the_first(house: House) -> None:
    first = house.create(request_id="req-1")
    assert house.create(request_id="req-1").name == first.name
    assert house.create(request_id="req-2").name != first.name


def test_only_checking_a_spec_makes_no_run(house: House) -> None:
    before = house.store.client.zcard("nesycd:runs:index")
    run = house.create(validate_only=True, run_id="checked")
    assert run.spec["knowledge"]["top_k"] == 3
    assert house.store.client.zcard("nesycd:runs:index") == before


def test_wrong_input_is_told_with_its_place_and_makes_no_run(house: House) -> None:
    before = house.store.client.zcard("nesycd:runs:index")
    bad = {**SPEC, "training": {"lora": {"rnk": 3}}, "seed": "x"}
    code, why, fields = failure(lambda: house.create(spec=bad))
    assert (code, why) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SPEC")
    assert set(fields) == {"spec.training.lora.rnk", "spec.seed"}
    assert failure(lambda: house.create(run_id="a/b"))[2] == ["run_id"]
    assert failure(lambda: house.runs.CreateRun(CreateRunRequest()))[2] == ["spec"]
    assert failure(lambda: house.runs.GetRun(GetRunRequest(name="first")))[2] == ["name"]
    assert failure(lambda: house.runs.GetRun(GetRunRequest(name="runs/none")))[:2] == (
        grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND",
    )  # fmt: skip
    assert failure(lambda: house.create(run_id="first"))[:2] == (grpc.StatusCode.ALREADY_EXISTS, "RUN_EXISTS")
    assert failure(lambda: house.runs.ListRuns(ListRunsRequest(page_token="x")))[1] == "INVALID_PAGE_TOKEN"
    assert failure(lambda: next(house.runs.WatchRun(WatchRunRequest(name="runs/none"))))[1] == "RUN_NOT_FOUND"
    assert house.store.client.zcard("nesycd:runs:index") == before


def test_watching_shows_each_change_and_ends_with_the_run(house: House) -> None:
    house.create(run_id="watched")
    seen: list[Any] = []

    def watch() -> None:
        seen.extend(message.run for message in house.runs.WatchRun(WatchRunRequest(name="runs/watched"), timeout=30))

    watching = threading.Thread(target=watch)
    watching.start()
    store = house.store
    time.sleep(0.5)
    store.take("watched", "prepare", 1, "w")
    store.progress(
        "watched", "prepare", 1, "w", {"done": 3, "total": 9, "loss": "0.25", "seconds_left": "4", "note": "x"}
    )
    time.sleep(0.7)
    error = {"reason": "NO_LUCK", "message": "none", "stage": "prepare"}
    store.end_stage("watched", "prepare", 1, "w", "FAILED", error=error)
    watching.join(20)
    assert [seen[0].state, seen[-1].state] == [RUN_STATE_QUEUED, RUN_STATE_FAILED]
    running_ = next(run for run in seen if run.state == RUN_STATE_RUNNING)
    stage = running_.stages[0]
    assert (stage.done, stage.total, stage.loss, stage.seconds_left, stage.note) == (3, 9, 0.25, 4, "x")
    assert seen[-1].error.reason == "NO_LUCK" and seen[-1].HasField("end_time")


def test_cancel_and_resume(house: House) -> None:
    house.create(run_id="stopped")
    name = "runs/stopped"
    assert failure(lambda: house.runs.ResumeRun(ResumeRunRequest(name=name)))[:2] == (
        grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_RESUMABLE",
    )  # fmt: skip
    assert house.runs.CancelRun(CancelRunRequest(name=name)).run.state == RUN_STATE_CANCELLED
    assert house.runs.CancelRun(CancelRunRequest(name=name)).run.state == RUN_STATE_CANCELLED
    waiting = house.store.client.llen("nesycd.cpu")
    assert house.runs.ResumeRun(ResumeRunRequest(name=name)).run.state == RUN_STATE_QUEUED
    assert house.store.client.llen("nesycd.cpu") == waiting + 1
    assert failure(lambda: house.runs.CancelRun(CancelRunRequest(name="runs/none")))[1] == "RUN_NOT_FOUND"


def test_pages_hold_every_run_once(house: House) -> None:
    for number in range(5):
        house.create(run_id=f"page-{number}")
    names, token = [], ""
    while True:
        page = house.runs.ListRuns(ListRunsRequest(page_size=2, page_token=token))
        names += [run.name for run in page.runs]
        token = page.next_page_token
        if not token:
            break
    assert names[:5] == [f"runs/page-{number}" for number in reversed(range(5))]
    assert len(names) == len(set(names)) == house.store.client.zcard("nesycd:runs:index")


@pytest.mark.parametrize("payload", [1, "x", [], [1], ["x", "y"], ["nan", "y"], ["1.0", 2], {"1": "2"}])
def test_a_page_token_that_leads_nowhere_is_refused(house: House, payload: Any) -> None:
    token = encode_page_token("runs", payload)
    call = lambda: house.runs.ListRuns(ListRunsRequest(page_token=token))  # noqa: E731
    assert failure(call)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


def test_the_service_sends_a_run_again_whose_worker_is_gone(house: House) -> None:
    house.create(run_id="orphan")
    short = state.RunStore(house.store.client, lease_seconds=0.3)
    assert short.take("orphan", "prepare", 1, "a worker elsewhere") == "TAKEN"
    deadline = time.monotonic() + 30
    while house.runs.GetRun(GetRunRequest(name="runs/orphan")).run.state != RUN_STATE_QUEUED:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_broker_that_is_away_is_told_and_nothing_is_lost(house: House) -> None:
    house.create(run_id="kept")
    house.store.take("kept", "prepare", 1, "w")
    house.store.end_stage("kept", "prepare", 1, "w", "DONE")
    house.broker.kill()
    code, why, _ = failure(lambda: house.runs.GetRun(GetRunRequest(name="runs/kept"), timeout=60))
    assert (code, why) == (grpc.StatusCode.UNAVAILABLE, "STATE_UNAVAILABLE")
    house.broker.start()
    deadline = time.monotonic() + 20
    while True:
        try:
            assert house.runs.GetRun(GetRunRequest(name="runs/kept"), timeout=20).run.state == RUN_STATE_SUCCEEDED
            break
        except grpc.RpcError:
            assert time.monotonic() < deadline
            time.sleep(0.3)
