"""A Valkey, the faked services, and workers as processes."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import state
from jobs.app import make_app, send_stage
from jobs.settings import Settings
from jobs.spec import parse
from tests.component.jobs.fakes import House
from tests.processes import Process, running, valkey

LEASE_SECONDS = 2.0


def lapse(store: state.RunStore, run_id: str) -> None:
    """The lease of a run runs out, as where its worker did not renew it in time."""
    assert store.client.delete(f"{state.PREFIX}lease:{run_id}") == 1


class World:
    """What a test of runs needs.

    Attributes:
        broker: The Valkey.
        house: The services.
        store: The state of runs.
    """

    def __init__(self, folder: Path, broker: Process, house: House) -> None:
        self.folder, self.broker, self.house = folder, broker, house
        self.redis_url = f"redis://{broker.address}/0"
        self.store = state.RunStore(state.connect(self.redis_url, patience=30))
        self.app = make_app(Settings(redis_url=self.redis_url))
        self.workers: list[Process] = []

    def worker(self, queues: str = "nesycd.cpu,nesycd.gpu", **settings: str) -> Process:
        """Starts a worker."""
        env = {
            "NESYCD_JOBS_REDIS_URL": self.redis_url,
            "NESYCD_JOBS_ARTIFACTS_URL": f"file://{self.folder}/artifacts",
            "NESYCD_JOBS_LEASE_SECONDS": str(LEASE_SECONDS),
            "NESYCD_JOBS_RECOVER_SECONDS": "0.3",
            "OMP_NUM_THREADS": "1",
            **{
                f"NESYCD_JOBS_{n}_ADDRESS": self.house.address
                for n in ("TEACHER", "KNOWLEDGE", "EXTRACTION", "STUDENT")
            },
            **settings,
        }
        number = len(self.workers)
        command = [sys.executable, "-m", "celery", "-A", "jobs.app", "worker", "-P", "solo", "-Q", queues]
        command += ["-n", f"w{number}@localhost", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        process = Process(command, self.folder / f"worker-{number}.log", env)
        self.workers.append(process.start())
        return process

    def data(self, count: int, prefix: str = "q") -> str:
        """A data file of so many rows, all of which have the answer 5."""
        rows = [
            {
                "id": f"{prefix}{i}",
                "task": "count",
                "question": f"How many {prefix}{i}?",
                "answer": "5",
                "facts": "held_out",
            }
            for i in range(count)
        ]
        self.house.answers.update({row["question"]: row["answer"] for row in rows})
        path = self.folder / f"{prefix}-{count}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    def submit(self, run_id: str, *, train: int = 4, test: int = 4, **spec: Any) -> str:
        """Makes a run and sends its first stage."""
        whole = {"name": "test", "data": {"train": self.data(train, "t"), "test": self.data(test)}, **spec}
        parsed = parse(whole)
        assert self.store.create(run_id, parsed.dump(), parsed.plan())[0] == "CREATED"
        send_stage(self.app, run_id, "prepare", 1)
        return run_id

    def run(self, run_id: str) -> state.RunRecord:
        record = self.store.get(run_id)
        assert record is not None
        return record

    def stage(self, run_id: str, name: str) -> state.StageRecord:
        return next(stage for stage in self.run(run_id).stages if stage.name == name)

    def wait(self, holds: Callable[[], bool], patience: float = 120.0) -> None:
        deadline = time.monotonic() + patience
        while not holds():
            if time.monotonic() > deadline:
                logs = "\n".join(w.log.read_text()[-2000:] for w in self.workers)
                raise AssertionError(f"it did not come about:\n{logs}")
            time.sleep(0.05)

    def wait_over(self, run_id: str, state_: str = "SUCCEEDED", patience: float = 150.0) -> state.RunRecord:
        self.wait(lambda: self.run(run_id).over, patience)
        record = self.run(run_id)
        assert record.state == state_, record.error
        return record


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    broker = valkey(tmp_path / "valkey")
    house = House({}).start()
    with running(broker):
        made = World(tmp_path, broker, house)
        try:
            yield made
        finally:
            for worker in made.workers:
                worker.kill()
            house.stop()
            with contextlib.suppress(Exception):
                made.store.client.close()
