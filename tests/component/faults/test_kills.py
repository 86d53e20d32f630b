"""kill -9 of anything at any moment of a run: the run completes, and nothing is paid twice.

The whole system runs as `nesycd up` starts it, with a student of a few thousand weights, so that a
run takes seconds. `make test` tries a few rounds; `make test-faults` tries twenty.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
import redis
import yaml
from google.protobuf import json_format, struct_pb2
from nesycd.knowledge.v1 import EXCHANGE_FORMAT_JSONL, ExportEntriesRequest, KnowledgeServiceStub
from nesycd.runs.v1 import RUN_STATE_SUCCEEDED, CreateRunRequest, GetRunRequest, Run, RunServiceStub
from rich.console import Console

from cli import watch
from cli.stack import Options, Stack
from tests.command import Home

STAGES = "prepare rationalize train-general diagnose extract train-augmented evaluate publish".split()
VICTIMS = ["worker", "teacher", "knowledge", "extraction", "student", "runs", "valkey", "everything"]
ROWS = {"train": 40, "test": 16}


class Machine(Home):
    """One machine on which everything runs, looked at from inside."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stack = Stack(self.folder)
        file = self.spec("attacked", **ROWS)
        self.attacked = yaml.safe_load(file.read_text())
        self.attacked["data"] = {name: str(file.parent / path) for name, path in self.attacked["data"].items()}
        self.attacked.setdefault("training", {})["checkpoint_steps"] = 2
        self.options = Options(base_model="tiny", embedder="none", dtype="float32")
        self.options.standin = ["--mode", "scripted", "--latency", "0.05"]

    def up(self) -> None:
        self.options = self.stack.start(self.options)

    def ready(self) -> None:
        watch.until_ready(self.stack, Console(quiet=True), 120)

    @contextlib.contextmanager
    def runs(self) -> Iterator[RunServiceStub]:
        with grpc.insecure_channel(self.stack.addresses()["runs"]) as channel:
            yield RunServiceStub(channel)

    def submit(self, run_id: str, seed: int) -> None:
        spec = json_format.ParseDict({**self.attacked, "name": run_id, "seed": seed}, struct_pb2.Struct())
        with self.runs() as runs:
            runs.CreateRun(CreateRunRequest(spec=spec, run_id=run_id), timeout=60)

    def run(self, run_id: str) -> Run | None:
        with contextlib.suppress(grpc.RpcError), self.runs() as runs:
            return runs.GetRun(GetRunRequest(name=f"runs/{run_id}"), timeout=5).run
        return None

    def until(self, run_id: str, stage: str | None, patience: float = 240) -> Run:
        """Waits until a stage runs (or was run already), or for None until the run is over."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            run = self.run(run_id)
            if run is not None:
                if run.state in watch.ENDED:
                    return run
                if stage is not None and any(s.name == stage and s.attempts for s in run.stages):
                    return run
            time.sleep(0.05)
        raise AssertionError(f"{run_id} did not get to {stage or 'its end'} in {patience} s: {self.run(run_id)}")

    def calls(self) -> dict[str, int]:
        return self.standin("/calls")

    def answers_lost_in_flight(self) -> int:
        """Answers that the stand-in gave and that a killed proxy had not stored yet: those may be asked for again."""
        # What was with the stand-in when its asker died is answered, and logged, a moment later.
        time.sleep(0.3)
        client = redis.Redis(port=self.options.ports["valkey"], socket_timeout=2)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError, OSError):
                stored = sum(1 for _ in client.scan_iter("nesycd:teacher:cache:*", count=1000))
                return max(0, self.calls()["distinct_answered"] - stored)
            time.sleep(0.02)
        raise AssertionError("Valkey did not come back")

    def kill(self, victim: str) -> None:
        if victim == "everything":
            for process in self.running():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.up()
            return
        pid = next((p["pid"] for p in self.stack.processes() if p["name"] == victim), None)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(str(pid)), signal.SIGKILL)

    def made(self, run: Run) -> dict[str, object]:
        """What the run made that must not depend on who was killed: rows, entries, answers, weights."""
        made: dict[str, object] = {}
        with grpc.insecure_channel(self.stack.addresses()["knowledge"]) as channel:
            request = ExportEntriesRequest(parent=run.knowledge_base, format=EXCHANGE_FORMAT_JSONL)
            lines = b"".join(p.data for p in KnowledgeServiceStub(channel).ExportEntries(request)).splitlines()
        entries = [json.loads(line) for line in lines]
        made["entries"] = sorted((e["text"], e["kind"], len(e.get("sources", []))) for e in entries)
        made["accuracy"] = dict(run.accuracy)
        record = json.loads(json_format.MessageToJson(run))
        made["stages"] = [s["name"] for s in record["stages"]]
        for kind in ("general", "augmented"):
            suffix = "-general" if kind == "general" else ""
            folder = self.stack.artifacts / "adapters" / (run.name.removeprefix("runs/") + suffix) / "1"
            manifest = json.loads((folder / "manifest.json").read_text())
            made[f"{kind} weights"] = manifest["files"]["adapter_model.safetensors"]
        return made


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine"))
    try:
        made.up()
        made.ready()
        yield made
    finally:
        made.stack.stop()
        assert not list(made.running()), "`nesycd down` left a process behind"


def attack(machine: Machine, number: int) -> None:
    """One run during which something is killed in each of its stages, compared with an undisturbed run of the same spec."""
    chance = random.Random(number)
    seed = 1000 + number
    before = machine.calls()["answered_again"]
    lost = 0
    run_id = f"attacked-{number}"
    machine.submit(run_id, seed)
    story = []
    for stage in STAGES:
        machine.until(run_id, stage)
        time.sleep(chance.uniform(0, 0.8))
        victim = chance.choice(VICTIMS)
        story.append(f"{victim} in {stage}")
        machine.kill(victim)
        if victim in ("teacher", "everything"):
            lost += machine.answers_lost_in_flight()
        machine.ready()
    run = machine.until(run_id, None)
    assert run.state == RUN_STATE_SUCCEEDED, f"{story}: {run.error}"
    again = machine.calls()["answered_again"] - before
    assert again <= lost, f"{story}: {again} answers were paid twice, {lost} had not come back"

    # A run of the same spec, undisturbed, that shares no stage's output: what it makes must be the same.
    made = machine.made(run)
    for folder in (machine.stack.artifacts / "stages").glob("*/*"):
        folder.rename(folder.with_name(f"before-{number}-{folder.name}"))
    machine.submit(f"calm-{number}", seed)
    calm = machine.until(f"calm-{number}", None)
    assert calm.state == RUN_STATE_SUCCEEDED, calm.error
    assert machine.made(calm) == made, story
    assert machine.calls()["answered_again"] - before == again, "the calm run paid for answers that were stored"


@pytest.mark.timeout(900)
def test_a_run_completes_with_the_same_result_whatever_is_killed_in_each_of_its_stages(machine: Machine) -> None:
    attack(machine, 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(1, 20))
def test_twenty_times_over(machine: Machine, number: int) -> None:
    attack(machine, number)
