"""Several processes for one training, seen from the one that starts them.

torch.distributed.elastic starts and watches them; they meet at a store of this process, through which the first of them
also tells how far it is, and asks before it writes. One that dies takes the others with it. They run
`python -m jobs.training.member`, and end by themselves when this process is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.training.rows import EncodedRow
from jobs.training.settings import (
    ProcessLost,
    StepReport,
    TrainingError,
    TrainingResult,
    TrainingSettings,
    TrainingStopped,
)
from jobs.training.steps import Job

if TYPE_CHECKING:
    from torch.distributed import TCPStore

JOB_FILE, RESULT_FILE = "job.json", "result.json"
TOLD, STOP, MAY_WRITE = "training/told", "training/stop", "training/may-write"
PATIENCE = timedelta(hours=6)
_POLL_SECONDS = 0.02
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def train_in_processes(
    job: Job, on_step: Callable[[StepReport], None], should_stop: Callable[[], bool]
) -> TrainingResult:
    """Trains in `settings.processes` processes of this machine and waits for them.

    Args:
        job: What to do.
        on_step: Called after each step.
        should_stop: Asked whenever the first process tells something, and before anything is written. What it raises
            ends the processes.

    Returns:
        What was done.

    Raises:
        TrainingError, TrainingStopped, ProcessLost: See `train`.
    """
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std, start_processes

    count = job.settings.processes
    if job.device != "cpu" and torch.cuda.is_available() and count > torch.cuda.device_count():
        raise TrainingError(
            f"training setting processes is {count}, and this machine has {torch.cuda.device_count()} GPUs: "
            "set it to their number or less"
        )
    folder = Path(tempfile.mkdtemp(prefix="nesycd-training-"))
    try:
        write_job(job, folder / JOB_FILE)
        store = _store()
        with _own_signals():
            processes = start_processes(
                name="training",
                entrypoint=sys.executable,
                args=dict.fromkeys(range(count), ("-m", "jobs.training.member", str(folder))),
                envs={rank: _environment(rank, count, store.port) for rank in range(count)},
                logs_specs=DefaultLogsSpecs(log_dir=str(folder), redirects=Std.ALL),
            )
        try:
            return _follow(store, processes, folder, on_step, should_stop)
        finally:
            processes.close(signal.SIGTERM, timeout=5)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _follow(
    store: TCPStore,
    processes: Any,
    folder: Path,
    on_step: Callable[[StepReport], None],
    should_stop: Callable[[], bool],
) -> TrainingResult:
    read, step = 0, 0
    while True:
        ended = processes.wait(0)
        while store.check([message := f"{TOLD}/{read + 1}"]):
            kind, what = json.loads(store.get(message))
            store.delete_key(message)
            read += 1
            # Only when something was told: a training that hangs must not look alive to who watches.
            if should_stop():
                store.set(STOP, "1")
            if kind == "step":
                on_step(StepReport(**what))
                step = what["step"]
            elif kind == "asks":
                store.set(f"{MAY_WRITE}/{what}", "1")
            elif kind == "stopped":
                raise TrainingStopped(**what)
            elif kind == "refused":
                raise TrainingError(what)
        if ended is not None and ended.failures:
            raise ProcessLost(_what_happened(ended.failures, processes.nprocs, step, folder))
        if ended is not None:
            result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
            result["dropped"], result["history"] = tuple(result["dropped"]), tuple(result["history"])
            return TrainingResult(**result)
        time.sleep(_POLL_SECONDS)


def _what_happened(failures: Mapping[int, Any], count: int, step: int, folder: Path) -> str:
    # Where one was killed, others have failed since, for they could not reach it, or were ended.
    first = min(failures.values(), key=lambda f: (f.exitcode == -signal.SIGTERM, f.exitcode >= 0, f.local_rank))
    if first.exitcode < 0:
        how = f"was killed by {signal.Signals(-first.exitcode).name}"
        if first.exitcode == -signal.SIGKILL:
            how += " (out of memory, perhaps: lower training.max_tokens_per_batch or training.processes)"
    else:
        said = [
            line
            for file in folder.rglob(f"{first.local_rank}/stderr.log")
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.strip()
        ]
        how = f"failed with status {first.exitcode}: {said[-1][:500] if said else 'it said nothing'}"
    after = f"after step {step}" if step else "before the first step"
    return f"process {first.local_rank} of {count} of the training {how}, {after}; the others were ended"


def _store() -> TCPStore:
    from torch.distributed import TCPStore

    # A socket of our own, for the store would listen on every interface.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        return TCPStore(
            "127.0.0.1",
            port,
            is_master=True,
            wait_for_workers=False,
            timeout=PATIENCE,
            master_listen_fd=listening.detach(),
        )


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    given = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
        # All are on this machine; the name of a container may lead to another interface.
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }
    return {
        **{name: os.environ.get(name, value) for name, value in given.items()},
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps this process' own signal handlers: a worker that is told to stop saves a checkpoint first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def write_job(job: Job, file: Path) -> None:
    """Writes a job for the processes."""
    told = {
        "rows": [[row.ids, row.prompt_length, row.weight, row.kind] for row in job.rows],
        "dropped": job.dropped,
        "device": job.device,
        "settings": asdict(job.settings),
        "start_adapter": str(job.start_adapter) if job.start_adapter else "",
        **{name: str(getattr(job, name).absolute()) for name in ("base_model_dir", "out_dir", "work_dir")},
    }
    file.write_text(json.dumps(told), encoding="utf-8")


def read_job(file: Path) -> Job:
    """Reads what `write_job` wrote."""
    told = json.loads(file.read_text(encoding="utf-8"))
    return Job(
        rows=[EncodedRow(tuple(ids), length, weight, kind) for ids, length, weight, kind in told["rows"]],
        dropped=tuple(told["dropped"]),
        base_model_dir=Path(told["base_model_dir"]),
        out_dir=Path(told["out_dir"]),
        work_dir=Path(told["work_dir"]),
        settings=TrainingSettings(**told["settings"]),
        start_adapter=Path(told["start_adapter"]) if told["start_adapter"] else None,
        device=told["device"],
    )
