"""No space is left on the disk: what was there is whole, what was refused left nothing, and freed space is enough to go on.

As root a small file system is mounted; elsewhere the processes may not write files beyond a size, which fails alike.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from nesycd.knowledge.v1 import (
    ENTRY_KIND_FACT,
    CreateEntryRequest,
    CreateKnowledgeBaseRequest,
    Entry,
    KnowledgeServiceStub,
    ListEntriesRequest,
    SearchEntriesRequest,
)

from jobs import state
from jobs.app import make_app, send_stage
from jobs.settings import Settings
from services.common.errors import NesycdError, from_rpc_error
from tests.command import Home, until
from tests.processes import Process, running, service, valkey
from tests.tiny import make_tiny_model

MIB = 1024 * 1024
LIMITED = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); os.execv(sys.argv[2], sys.argv[2:])"
TRAIN = """
import sys
from pathlib import Path
from jobs.training import TrainingSettings, train
from services.common.errors import from_exception
from tests.tiny import ROWS
settings = TrainingSettings(rank=16, alpha=32, epochs=2, batch_size=2, checkpoint_steps=1, dtype="float32")
try:
    train(ROWS, Path(sys.argv[1]), Path(sys.argv[2]) / "adapter", Path(sys.argv[2]) / "work", settings)
    print("DONE")
except Exception as error:
    known = from_exception(error)
    print(known.reason if known else repr(error))
"""


class Disk:
    """A folder in which there is room for 1 MiB.

    Attributes:
        folder: The folder.
        mounted: Whether it is a file system of its own; else processes must be started with `command`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={MIB}", "tmpfs", str(folder)]
        self.mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0

    def fill(self, left: int) -> None:
        """Leaves so many bytes free."""
        if self.mounted:
            free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
            (self.folder / "filler").write_bytes(b"x" * (free - left))

    def free(self) -> bool:
        """Makes room again, where that can be done to processes that run. Says whether it was."""
        (self.folder / "filler").unlink(missing_ok=True)
        return self.mounted

    def command(self, command: Sequence[str], most: int) -> list[str]:
        """The command under the limit that a full disk would be."""
        return list(command) if self.mounted else [sys.executable, "-c", LIMITED, str(most), *command]

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    yield made
    made.close()


def test_a_run_without_space_ends_with_the_reason_leaves_no_part_and_goes_on(disk: Disk, tmp_path: Path) -> None:
    broker = valkey(tmp_path / "valkey")
    url = f"redis://{broker.address}/0"
    rows = [{"id": f"r{i}", "task": "t", "question": "How many? " + "x" * 2000, "answer": "3"} for i in range(150)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = {"train": str(tmp_path / "rows.jsonl"), "test": str(tmp_path / "rows.jsonl")}
    command = [sys.executable, "-m", "celery", "-A", "jobs.app", "worker", "-P", "solo", "-Q", "nesycd.cpu,nesycd.gpu"]
    env = {
        "NESYCD_JOBS_REDIS_URL": url, "NESYCD_JOBS_ARTIFACTS_URL": f"file://{disk.folder}/artifacts",
        "NESYCD_JOBS_RECOVER_SECONDS": "0.3", "NESYCD_JOBS_PATIENCE_SECONDS": "1", "NESYCD_JOBS_STUDENT_ADDRESS": "127.0.0.1:1",
    }  # fmt: skip
    disk.fill(left=100_000)
    worker = Process(disk.command(command, 200_000), tmp_path / "worker.log", env)
    with running(broker, worker):
        app, store = make_app(Settings(redis_url=url)), state.RunStore(state.connect(url))
        spec = {"name": "full", "method": "zero-shot", "data": paths}
        app.send_task("nesycd.run", kwargs={"spec": spec, "run_id": "full"}, queue="nesycd.cpu").get(timeout=60)
        until(lambda: (run := store.get("full")) is not None and run.over)
        error = store.get("full").error
        assert (error["reason"], error["stage"]) == ("DISK_FULL", "prepare")
        assert "no space left" in error["message"] and "free some" in error["message"]
        assert [p.name for p in disk.folder.rglob("*") if p.is_file() and p.name != "filler"] == []
        if disk.free():
            store.resume("full")
            send_stage(app, "full", "prepare", 1)
            until(lambda: list(disk.folder.glob("artifacts/stages/prepare/*/manifest.json")))


def test_the_knowledge_store_without_space_keeps_what_it_acknowledged(disk: Disk, tmp_path: Path) -> None:
    store = service("knowledge", tmp_path, data_dir=str(disk.folder), embedder="none")
    store.command = disk.command(store.command, 600_000)
    with running(store), grpc.insecure_channel(store.address) as channel:
        stub = KnowledgeServiceStub(channel)
        stub.CreateKnowledgeBase(CreateKnowledgeBaseRequest(knowledge_base_id="full"), timeout=10)
        disk.fill(left=200_000)

        def add(number: int) -> None:
            entry = Entry(kind=ENTRY_KIND_FACT, text=f"Yeti number {number} has 3 legs. " + f"far{number} " * 900)
            stub.CreateEntry(CreateEntryRequest(parent="knowledgeBases/full", entry=entry), timeout=10)

        kept, error = 0, None
        while error is None and kept < 500:
            try:
                add(kept)
                kept += 1
            except grpc.RpcError as failed:
                error = from_rpc_error(failed)
        assert isinstance(error, NesycdError) and kept > 3
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
        assert "free some" in error.message

        def there() -> int:
            return len(
                stub.ListEntries(ListEntriesRequest(parent="knowledgeBases/full", page_size=1000), timeout=10).entries
            )

        assert there() == kept
        request = SearchEntriesRequest(parent="knowledgeBases/full", query="Yeti number 0", top_k=1)
        assert stub.SearchEntries(request, timeout=10).results, "what is there can still be read"
        if disk.free():
            add(kept)
            kept += 1
        os.kill(store.popen.pid, signal.SIGKILL)
        store.popen.wait()
        store.start()
        assert there() == kept


def test_training_without_space_says_so_and_leaves_no_checkpoint_that_looks_complete(
    disk: Disk, tmp_path: Path
) -> None:
    base = make_tiny_model(tmp_path / "tiny")
    disk.fill(left=100_000)
    command = disk.command([sys.executable, "-c", TRAIN, str(base), str(disk.folder)], 50_000)
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "DISK_FULL"
    assert not list(disk.folder.glob("work/checkpoint-*")) and not list(disk.folder.glob("adapter/*"))


def test_an_export_without_space_leaves_no_file(home: Home, disk: Disk) -> None:
    home.nesycd("kb", "create", "bulky")
    facts = disk.folder.parent / "facts.jsonl"
    facts.write_text("".join(json.dumps({"text": f"Yeti number {i} has 3 legs."}) + "\n" for i in range(40)))
    assert home.json("kb", "import", str(facts), "--kb", "bulky")["created"] == "40"
    target = disk.folder / "out.jsonl"
    disk.fill(left=2000)
    if disk.mounted:
        said = home.nesycd("kb", "export", str(target), "--kb", "bulky", status=1).stderr
        assert str(target) in said and "No space left" in said
    else:
        command = disk.command([sys.executable, "-m", "cli.main", "kb", "export", str(target), "--kb", "bulky"], 2000)
        done = subprocess.run(command, capture_output=True, text=True, env={**home.env, "PYTHONPATH": os.getcwd()})
        assert done.returncode == 1 and str(target) in done.stderr
    assert not [p for p in disk.folder.iterdir() if p.name != "filler"]
