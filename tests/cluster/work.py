"""What users of the system do: submit runs, ask, edit knowledge. From outside, through port-forwards."""

from __future__ import annotations

import json
import time
from typing import Any

import grpc
from google.protobuf import json_format, struct_pb2
from nesycd.knowledge.v1 import (
    ENTRY_KIND_FACT,
    CreateEntryRequest,
    CreateKnowledgeBaseRequest,
    Entry,
    KnowledgeServiceStub,
    ListEntriesRequest,
)
from nesycd.runs.v1 import (
    RUN_STATE_SUCCEEDED,
    CreateRunRequest,
    GetRunRequest,
    ListRunsRequest,
    Run,
    RunServiceStub,
)
from nesycd.student.v1 import ListAdaptersRequest, StudentServiceStub
from nesycd.teacher.v1 import GetUsageRequest, TeacherServiceStub

from examples.clients.submit_and_wait import OVER, spec
from tests.cluster.kubernetes import Cluster, until

DATA = "/app/examples/families"  # in the images of worker and runs
BASE_MODEL = "smollm2-135m-instruct"
KEPT = "knowledgeBases/kept"
FACT = "Scorpions have 8 legs."


def make_kept_knowledge(cluster: Cluster) -> None:
    """A knowledge base with one entry, which must still be there at the end."""
    with cluster.services("knowledge") as address, grpc.insecure_channel(address["knowledge"]) as channel:
        knowledge = KnowledgeServiceStub(channel)
        knowledge.CreateKnowledgeBase(CreateKnowledgeBaseRequest(knowledge_base_id="kept"), timeout=60)
        knowledge.CreateEntry(CreateEntryRequest(parent=KEPT, entry=Entry(kind=ENTRY_KIND_FACT, text=FACT)), timeout=60)


def kept_facts(cluster: Cluster) -> list[str]:
    """The texts of that knowledge base. Asked again where the store is away for a moment, as the error tells clients to."""

    def answer() -> list[str] | None:
        with cluster.services("knowledge") as address, grpc.insecure_channel(address["knowledge"]) as channel:
            try:
                found = KnowledgeServiceStub(channel).ListEntries(ListEntriesRequest(parent=KEPT), timeout=60).entries
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                print(error.details())
                return None
        return [entry.text for entry in found]

    return until(answer, 60, f"the entries of {KEPT}")


def runs(cluster: Cluster) -> list[str]:
    """The names of all runs."""
    with cluster.services("runs") as address, grpc.insecure_channel(address["runs"]) as channel:
        found = RunServiceStub(channel).ListRuns(ListRunsRequest(page_size=100), timeout=60).runs
        return [run.name for run in found]


def aliases(cluster: Cluster) -> dict[str, str]:
    """The student's aliases, each with its adapter."""
    with cluster.services("student") as address, grpc.insecure_channel(address["student"]) as channel:
        found = StudentServiceStub(channel).ListAdapters(ListAdaptersRequest(), timeout=60).aliases
        return {alias.name: alias.adapter for alias in found}


def known_run(name: str) -> dict[str, Any]:
    """The run of `helm test` under another name: what that one made is used again, so that it ends in seconds."""
    return spec(DATA, BASE_MODEL) | {"name": name}


def small_run(seed: int, *, train: int, test: int) -> dict[str, Any]:
    """The run of `helm test` with other rows: no other run's stages can be used again for it. It asks the teacher one row at a time, so that
    an upgrade or the end of a pod meets a run which does.

    Args:
        seed: Of the run.
        train: How many training rows.
        test: How many test rows.
    """
    wanted = spec(DATA, BASE_MODEL)
    wanted["name"] = f"cluster-test-{seed}"
    wanted["seed"] = seed
    wanted["data"]["train"][0]["limit"] = train
    wanted["data"]["test"][0]["limit"] = test
    wanted["training"] = {"checkpoint_steps": 1}
    wanted["teacher"] = {"concurrency": 1}
    return wanted


def submit(cluster: Cluster, wanted: dict[str, Any]) -> str:
    """Submits a run from outside, and returns its name."""
    with cluster.services("runs") as address, grpc.insecure_channel(address["runs"]) as channel:
        request = CreateRunRequest(spec=json_format.ParseDict(wanted, struct_pb2.Struct()))
        return RunServiceStub(channel).CreateRun(request, timeout=60).run.name


def read(cluster: Cluster, name: str) -> Run | None:
    """A run as it is now; None where the pod that was asked went away."""
    try:
        with cluster.services("runs") as address, grpc.insecure_channel(address["runs"]) as channel:
            return RunServiceStub(channel).GetRun(GetRunRequest(name=name), timeout=20).run
    except (grpc.RpcError, AssertionError):
        return None


def wait(cluster: Cluster, name: str, stage: str | None = None, *, patience: float = 1200) -> Run:
    """Waits until a stage of a run has begun its work, or for the run's end; says how it goes."""
    deadline, shown = time.monotonic() + patience, ""
    while time.monotonic() < deadline:
        if run := read(cluster, name):
            now = next((s for s in run.stages if s.state not in OVER), None)
            line = f"{name}: {now.name}" if now else f"{name}: over"
            if line != shown:
                print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
                shown = line
            if run.state in OVER or any(s.name == stage and (s.done or s.state in OVER) for s in run.stages):
                return run
        time.sleep(1)
    raise AssertionError(f"{name} did not get to {stage or 'its end'} in {patience:.0f} s: {read(cluster, name)}")


def ended_well(run: Run) -> None:
    """The run ended well, and everything that it was to make is there."""
    assert run.state == RUN_STATE_SUCCEEDED, f"{run.error.reason} in {run.error.stage}: {run.error.message}"
    assert run.adapter and run.knowledge_base and set(run.accuracy) >= {"general", "augmented"}, run


def teacher_calls(cluster: Cluster) -> dict[str, int]:
    """What the stand-in teacher's book of calls says: `answered_again` are calls that were paid twice."""
    program = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8089/calls').read().decode())"
    return json.loads(cluster.kubectl("exec", cluster.pod("standin"), "--", "python", "-c", program))


def usage(cluster: Cluster) -> Any:
    """What the proxy's ledger says in all."""
    with cluster.services("teacher") as address, grpc.insecure_channel(address["teacher"]) as channel:
        return TeacherServiceStub(channel).GetUsage(GetUsageRequest(), timeout=60).total
