"""A Kubernetes and a release of the chart on it, through kubectl and helm as a platform team has them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "nesycd"
PORTS = {"teacher": 50061, "knowledge": 50062, "extraction": 50063, "student": 50064, "runs": 50065}


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    status: int
    output: str
    seconds: float


@dataclass(frozen=True)
class Cluster:
    """A namespace of a cluster, and the release in it.

    Args:
        namespace: Where everything is.
        release: The release's name.
        values: Arguments of helm for every installation and upgrade: values files and the images.
    """

    namespace: str = "nesycd-test"
    release: str = "nesycd"
    values: tuple[str, ...] = ()

    # --- commands ---------------------------------------------------------------------------------------------------

    def run(self, *command: str, given: str | None = None, seconds: float = 900, check: bool = True) -> Done:
        """Runs a command; one that fails is an error, with what it said, unless `check` is False."""
        began = time.monotonic()
        done = subprocess.run(
            command, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, cwd=ROOT
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
        return Done(done.returncode, done.stdout, time.monotonic() - began)

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True, seconds: float = 300) -> str:
        """What kubectl prints, in the namespace."""
        command = ("kubectl", "--namespace", self.namespace, *arguments)
        return self.run(*command, given=given, check=check, seconds=seconds).output

    def helm(self, command: str, *arguments: str, check: bool = True, seconds: float = 900) -> Done:
        """A command of helm about the release; its own --timeout is less than `seconds`, so that it is helm that says what it waited for."""
        named = ("--namespace", self.namespace)
        return self.run("helm", *command.split(), self.release, *arguments, *named, check=check, seconds=seconds)

    def helm_test(self) -> Done:
        """`helm test`: a small run."""
        return self.helm("test", "--timeout", "28m", "--logs", seconds=1740)

    def install(self, *arguments: str) -> Done:
        """Installs the chart and waits until it is ready."""
        return self.helm("install", str(CHART), *self.values, *arguments, "--wait", "--timeout", "12m")

    def upgrade(self, *arguments: str) -> Done:
        """Upgrades the release and waits until it is ready."""
        return self.helm("upgrade", str(CHART), *self.values, *arguments, "--wait", "--timeout", "12m")

    # --- objects ----------------------------------------------------------------------------------------------------

    def get(self, *arguments: str) -> Any:
        """Objects as kubectl gives them in JSON; of several the list."""
        found = json.loads(self.kubectl("get", *arguments, "--output", "json"))
        return found["items"] if found["kind"].endswith("List") else found

    def pods(self, component: str | None = None) -> list[dict[str, Any]]:
        """The pods of the release, or of one component of it, that are not about to end; not that of `helm test`."""
        selector = f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component!=test"
        if component:
            selector += f",app.kubernetes.io/component={component}"
        return [pod for pod in self.get("pods", "-l", selector) if "deletionTimestamp" not in pod["metadata"]]

    def pod(self, component: str) -> str:
        """The name of a ready pod of a component."""

        def ready() -> str | None:
            return next((pod["metadata"]["name"] for pod in self.pods(component) if is_ready(pod)), None)

        return until(ready, 240, f"a ready pod of {component}")

    def ready(self, components: dict[str, int], patience: float = 300) -> None:
        """Waits until each component has as many ready pods as named, and no other."""

        def all_ready() -> bool:
            return all(
                [is_ready(pod) for pod in self.pods(component)] == [True] * count
                for component, count in components.items()
            )

        until(all_ready, patience, f"ready pods: {components}")

    def secret(self, key: str) -> str:
        """A value of the Secret that the chart made."""
        data = self.get("secret", f"{self.release}-secrets")["data"]
        return base64.b64decode(data[key]).decode()

    def kill(self, component: str) -> str:
        """Deletes a ready pod of a component at once, without a word to its processes, and returns its name."""
        name = self.pod(component)
        self.kubectl("delete", "pod", name, "--grace-period=0", "--force")
        return name

    # --- ways in ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def forward(self, target: str, port: int) -> Iterator[str]:
        """`kubectl port-forward` to a port; gives host:port on this machine."""
        command = ["kubectl", "--namespace", self.namespace, "port-forward", target, f":{port}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # Forwarding from 127.0.0.1:40123 -> 50065
            assert line.startswith("Forwarding from"), f"{' '.join(command)}: {line}"
            yield line.split()[2]
        finally:
            process.terminate()
            process.wait()

    @contextlib.contextmanager
    def services(self, *names: str) -> Iterator[dict[str, str]]:
        """Port-forwards to services of ours, all if none is named; gives their addresses by name."""
        with contextlib.ExitStack() as stack:
            yield {
                name: stack.enter_context(self.forward(f"svc/{self.release}-{name}", PORTS[name]))
                for name in names or PORTS
            }

    def python(self, *arguments: str, seconds: float = 600) -> str:
        """What a Python program of the repository prints, run on this machine."""
        return self.run(sys.executable, *arguments, seconds=seconds).output

    # --- after a failure --------------------------------------------------------------------------------------------

    def report(self, folder: Path) -> None:
        """Writes down what tells why something failed: objects, events, logs of every container."""
        folder.mkdir(parents=True, exist_ok=True)

        def write(name: str, *arguments: str) -> None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                (folder / name).write_text(self.kubectl(*arguments, check=False, seconds=60))

        write("pods.txt", "get", "pods,pvc,jobs", "--output", "wide")
        write("describe.txt", "describe", "pods,pvc,deployments,statefulsets,jobs")
        write("events.txt", "get", "events", "--sort-by=.lastTimestamp")
        write("nodes.txt", "describe", "nodes")
        for pod in json.loads(self.kubectl("get", "pods", "--output", "json"))["items"]:
            name = pod["metadata"]["name"]
            write(f"{name}.log", "logs", name, "--all-containers", "--timestamps", "--prefix", "--tail=-1")
            if any(status["restartCount"] for status in pod["status"].get("containerStatuses", [])):
                write(f"{name}.before.log", "logs", name, "--previous", "--timestamps", "--tail=-1")


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is ready."""
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def until(holds: Callable[[], Any], patience: float, what: str, pause: float = 1) -> Any:
    """Waits until something holds, and returns what it gave."""
    deadline = time.monotonic() + patience
    while not (got := holds()):
        assert time.monotonic() < deadline, f"{what}: not in {patience:.0f} s"
        time.sleep(pause)
    return got


def own_cluster() -> bool:
    """Whether the cluster is the one that cluster.sh made, and not one that was given."""
    return os.environ.get("NESYCD_TEST_CLUSTER") == "own"
