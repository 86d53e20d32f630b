"""The runs service as a process: submit, watch, cancel, resume, list. Real Valkey; no worker, so that what a worker does is told by hand."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
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
    CompareRunsRequest,
    CreateRunRequest,
    EstimateRunRequest,
    GetRunRequest,
    ListRunsRequest,
    ResumeRunRequest,
    RunServiceStub,
    WatchRunRequest,
)

from jobs import state
from services.common.pages import encode_page_token
from tests.command import until
from tests.finished import Finished, answered
from tests.processes import Process, free_port, running, service, valkey

SPEC = {"name": "demo", "seed": 7, "data": {"train": "train.jsonl", "test": "test.jsonl"}}


@dataclass
class House:
    broker: Process
    runs: RunServiceStub
    store: state.RunStore
    folder: Path
    process: Process

    def finish(self, record: state.RunRecord) -> str:
        """Puts a finished run into the service's state, and returns its name."""
        self.store.create(record.id, record.spec, [(stage.name, stage.round) for stage in record.stages])
        for index, stage in enumerate(record.stages):
            self.store.take(record.id, stage.name, stage.round, "w")
            self.store.progress(record.id, stage.name, stage.round, "w", {"digest": stage.digest})
            following = record.stages[index + 1] if index + 1 < len(record.stages) else None
            self.store.end_stage(
                record.id, stage.name, stage.round, "w", "DONE", following=(following.name, following.round) if following else None
            )  # fmt: skip
        return f"runs/{record.id}"

    def create(self, **fields: Any) -> Any:
        spec = fields.pop("spec", SPEC)
        message = json_format.ParseDict(spec, struct_pb2.Struct())
        return self.runs.CreateRun(CreateRunRequest(spec=message, **fields), timeout=60).run


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("runs")
    broker = valkey(folder / "valkey")
    url = f"redis://{broker.address}/0"
    artifacts = (folder / "artifacts").as_uri()
    runs = service(
        "runs", folder, redis_url=url, artifacts_url=artifacts, patience_seconds="1", recover_seconds="0.3", lease_seconds="2",
        metrics_port=str(free_port()),
    )  # fmt: skip
    runs.env["NESYCD_TEACHER_PRICES"] = json.dumps({"*": [1.0, 2.0]})
    with running(broker, runs), grpc.insecure_channel(runs.address) as channel:
        yield House(broker, RunServiceStub(channel), state.RunStore(state.connect(url)), folder, runs)


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


def test_a_repeated_request_sends_the_stage_that_the_first_may_not_have_sent(house: House) -> None:
    house.create(request_id="req-3")
    waiting = house.store.client.llen("nesycd.cpu")
    house.create(request_id="req-3")
    assert house.store.client.llen("nesycd.cpu") == waiting + 1


def test_only_checking_a_spec_makes_no_run(house: House) -> None:
    before = house.store.client.zcard("nesycd:runs:index")
    run = house.create(validate_only=True, run_id="checked")
    assert run.spec["knowledge"]["top_k"] == 3
    assert house.store.client.zcard("nesycd:runs:index") == before


@pytest.mark.parametrize("only_checked", [True, False])
def test_what_of_a_spec_has_no_effect_is_told_to_whoever_creates_a_run(house: House, only_checked: bool) -> None:
    def notes(spec: dict[str, Any]) -> list[str]:
        message = json_format.ParseDict(spec, struct_pb2.Struct())
        return list(house.runs.CreateRun(CreateRunRequest(spec=message, validate_only=only_checked), timeout=10).notes)

    (note,) = notes({**SPEC, "evaluate": {"top_p": 0.5}})
    assert note.startswith("evaluate.top_p has no effect: ")
    assert notes(SPEC) == []


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
        seen.extend(message.run for message in house.runs.WatchRun(WatchRunRequest(name="runs/watched"), timeout=200))

    watching = threading.Thread(target=watch)
    watching.start()
    store = house.store
    until(lambda: seen)
    store.take("watched", "prepare", 1, "w")
    store.progress(
        "watched", "prepare", 1, "w", {"done": 3, "total": 9, "loss": "0.25", "seconds_left": "4", "note": "x"}
    )
    until(lambda: seen[-1].stages[0].note)  # a look between the two writes sees neither
    error = {"reason": "NO_LUCK", "message": "none", "stage": "prepare"}
    store.end_stage("watched", "prepare", 1, "w", "FAILED", error=error)
    watching.join(60)
    assert [seen[0].state, seen[-1].state] == [RUN_STATE_QUEUED, RUN_STATE_FAILED]
    running_ = next(run for run in seen if run.stages[0].note)
    assert running_.state == RUN_STATE_RUNNING
    stage = running_.stages[0]
    assert (stage.done, stage.total, stage.loss, stage.seconds_left, stage.note) == (3, 9, 0.25, 4, "x")
    assert seen[-1].error.reason == "NO_LUCK" and seen[-1].HasField("end_time")


def test_cancel_and_resume(house: House) -> None:
    house.create(run_id="stopped")
    name = "runs/stopped"
    assert failure(lambda: house.runs.ResumeRun(ResumeRunRequest(name=name)))[:2] == (
        grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_RESUMABLE",
    )  # fmt: skip
    waiting = house.store.client.llen("nesycd.cpu")
    assert house.runs.CancelRun(CancelRunRequest(name=name)).run.state == RUN_STATE_CANCELLED
    assert house.store.client.llen("nesycd.cpu") == waiting + 1, "no worker would have the student forget its adapters"
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


def test_an_estimate_tells_rows_steps_tokens_money_and_memory_and_makes_no_run(house: House) -> None:
    rows = [{"id": str(i), "task": "t", "question": "How many legs have 3 mites?", "answer": "24"} for i in range(20)]
    file = house.folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {**SPEC, "data": {"train": str(file), "test": str(file)}, "student": {"base_model": "Qwen2-0.5B"}}
    before = house.store.client.zcard("nesycd:runs:index")

    def estimate(spec: Any) -> Any:
        return house.runs.EstimateRun(
            EstimateRunRequest(spec=json_format.ParseDict(spec, struct_pb2.Struct())), timeout=60
        )

    made = estimate({**spec, "evaluate": {"top_p": 0.5}})
    assert made.notes[0].startswith("evaluate.top_p has no effect: ")
    stages = {stage.name: stage for stage in made.stages}
    assert stages["rationalize"].teacher_calls == 20 and stages["train-general"].steps == 3
    assert made.cost_usd > 0 and made.parameters == 494_032_768 and 0 < made.trainable_parameters < made.parameters
    assert made.training_memory_bytes > 0 < made.serving_memory_bytes and len(made.notes) >= 3
    assert made.spec["training"]["lora"]["rank"] == 16
    assert house.store.client.zcard("nesycd:runs:index") == before
    assert failure(lambda: house.runs.EstimateRun(EstimateRunRequest()))[2] == ["spec"]
    assert failure(lambda: estimate({**spec, "seed": "x"}))[1:] == ("INVALID_SPEC", ["spec.seed"])
    gone = {**spec, "data": {"train": "/nowhere.jsonl", "test": str(file)}}
    assert failure(lambda: estimate(gone))[:2] == (grpc.StatusCode.NOT_FOUND, "DATA_NOT_FOUND")
    # None of these may be read to its end, which does not come.
    for path in ("/dev/zero", "nothing://x", "/proc/self/mem", "http://127.0.0.1:1/x", str(house.folder)):
        code, _, _ = failure(lambda path=path: estimate({**spec, "data": {"train": path, "test": str(file)}}))  # type: ignore[misc]
        assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE), path


def test_finished_runs_are_compared(house: House) -> None:
    finished = Finished(house.folder / "artifacts")
    right = [i % 2 == 0 for i in range(30)]
    names = [
        house.finish(finished.run("cot-0", {"general": answered("general", right)}, method="std-cot")),
        house.finish(finished.run("full-0", {"augmented": answered("augmented", [True] * 30)}, shared="cot-0")),
        house.finish(finished.run("full-1", {"augmented": answered("augmented", [True] * 29 + [False])}, seed=1)),
    ]
    other = house.finish(finished.run("other", {"general": answered("general", [True])}, method="std-cot", seed=5))
    house.create(run_id="unfinished")
    answer = house.runs.CompareRuns(CompareRunsRequest(names=names), timeout=60)
    base, headline = (row for row in json_format.MessageToDict(answer.figures)["rows"] if row["headline"])
    assert (base["title"], base["accuracy"], headline["title"], headline["seeds"]) == ("Std-CoT", 0.5, "NesyCD", [0, 1])
    assert headline["difference"]["p_holm"] < 0.001
    assert answer.html.startswith("<!doctype html>") and answer.markdown.startswith(
        "# 2 methods on the same 30 questions"
    )
    turned = house.runs.CompareRuns(CompareRunsRequest(names=names, baseline=names[1]), timeout=60)
    assert turned.figures["baseline"] == "NesyCD"

    def compare(*names: str, baseline: str = "") -> tuple[grpc.StatusCode, str, list[str]]:
        return failure(lambda: house.runs.CompareRuns(CompareRunsRequest(names=names, baseline=baseline), timeout=60))

    refused, wrong = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT
    assert compare(names[0], other)[:2] == (refused, "RUNS_NOT_COMPARABLE")
    assert compare(names[0], "runs/unfinished")[:2] == (refused, "RUN_NOT_SUCCEEDED")
    assert compare(names[0], "runs/none")[:2] == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
    for bad in ([names[0]], [names[0]] * 2, [f"runs/r{i}" for i in range(257)], [names[0], "x/y"]):
        assert compare(*bad)[0] == wrong
    assert compare(*names, baseline=other)[::2] == (wrong, ["baseline"])


def test_neither_needs_what_trains_or_draws(house: House) -> None:
    maps = Path(f"/proc/{house.process.popen.pid}/maps").read_text()
    assert "/torch/" not in maps and "/matplotlib/" not in maps


def test_the_service_sends_a_run_again_whose_worker_is_gone(house: House) -> None:
    house.create(run_id="orphan")
    short = state.RunStore(house.store.client, lease_seconds=0.3)
    assert short.take("orphan", "prepare", 1, "a worker elsewhere") == "TAKEN"
    until(lambda: house.runs.GetRun(GetRunRequest(name="runs/orphan")).run.state == RUN_STATE_QUEUED)


def test_a_broker_that_is_away_is_told_and_nothing_is_lost(house: House) -> None:
    house.create(run_id="kept")
    house.store.take("kept", "prepare", 1, "w")
    house.store.end_stage("kept", "prepare", 1, "w", "DONE")
    house.broker.kill()
    code, why, _ = failure(lambda: house.runs.GetRun(GetRunRequest(name="runs/kept"), timeout=60))
    assert (code, why) == (grpc.StatusCode.UNAVAILABLE, "STATE_UNAVAILABLE")
    house.broker.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            assert house.runs.GetRun(GetRunRequest(name="runs/kept"), timeout=20).run.state == RUN_STATE_SUCCEEDED
            break
        except grpc.RpcError:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def test_prometheus_is_told_what_became_of_runs_and_of_those_that_go_on(house: House) -> None:
    house.create(spec={**SPEC, "teacher": {"budget_usd": 2.0}}, run_id="metered")
    house.store.take("metered", "prepare", 1, "w")
    house.store.annotate("metered", cost_usd=0.5)
    url = f"http://127.0.0.1:{house.process.env['NESYCD_RUNS_METRICS_PORT']}/metrics"

    def told() -> str:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read().decode()

    assert 'nesycd_run_budget_used_ratio{run="metered"} 0.25' in told()
    assert 'nesycd_run_silent_seconds{run="metered",stage="prepare"}' in told()
    error = {"reason": "DATA_NOT_FOUND", "message": "there is none", "stage": "prepare"}
    house.store.end_stage("metered", "prepare", 1, "w", "FAILED", error=error)
    assert 'nesycd_run_failures_total{reason="DATA_NOT_FOUND",stage="prepare"} 1.0' in told()
    assert 'run="metered"' not in told()
