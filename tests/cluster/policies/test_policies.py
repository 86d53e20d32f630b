"""NetworkPolicies, enforced: who is meant to reach what does, and nobody else. It comes first, so that the tests after it run with them, too."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kubernetes import PORTS, Cluster, own_cluster, until

SCRIPT = Path(__file__).parent / "policies.sh"
# Tells which of the addresses it is given take a connection.
PROGRAM = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def takes(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=4).close()
        return True
    except OSError:
        return False

with ThreadPoolExecutor(16) as pool:
    print(json.dumps(dict(zip(sys.argv[1:], pool.map(takes, sys.argv[1:])))))
"""
SERVICES = set(PORTS)
API = "kubernetes.default.svc:443"
# By role, as docs/architecture.md draws it.
MAY_REACH = {
    "teacher": {"valkey", "standin"},
    "extraction": {"teacher", "knowledge"},
    "knowledge": {"weaviate", "valkey"},
    "student": {"knowledge"},
    "runs": {"valkey"},
    "worker": {"teacher", "extraction", "knowledge", "student", "valkey"},
    "submissions": {"valkey"},
    "client": {*SERVICES, "valkey"},
    "stranger": set(),
}
PORTS_OF = {
    **{name: [port] for name, port in PORTS.items()},
    "valkey": [6379],
    "weaviate": [8080, 50051],
    "standin": [8089],
}


@pytest.fixture(scope="module")
def enforced(installed: Cluster) -> Cluster:
    """The installation, on a cluster whose network enforces policies: the one made here is helped to it."""
    with pods(installed):
        # It has no policy of its own, so what it does not reach is what others' policies keep it from.
        valkey = f"{installed.release}-valkey:6379"
        before = reaches(installed, "stranger", [valkey, API])
        assert before[API], "a pod without policies cannot even reach the API: this test would prove nothing"
        if before[valkey]:  # nobody enforces policies yet
            if not own_cluster():
                pytest.skip("the network of this cluster enforces no NetworkPolicy")
            for step in ("build", "start"):
                installed.run("bash", str(SCRIPT), step)
            until(lambda: not reaches(installed, "stranger", [valkey])[valkey], 90, "a stranger to be kept from Valkey")
        yield installed


@contextlib.contextmanager
def pods(cluster: Cluster) -> Iterator[None]:
    """Two pods that are no part of the release, one of them with the label of clients."""
    image = cluster.get("pod", cluster.pod("runs"))["spec"]["containers"][0]["image"]
    for name, labels in (("stranger", {}), ("client", {"nesycd.dev/client": "true"})):
        container = {
            "name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["python", "-c", "import time; time.sleep(3600)"],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "resources": {"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        }  # fmt: skip
        security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
        spec = {
            "containers": [container], "securityContext": security, "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
        }  # fmt: skip
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
        cluster.kubectl("apply", "-f", "-", given=json.dumps(pod))
    try:
        cluster.kubectl("wait", "--for=condition=Ready", "pod/stranger", "pod/client", "--timeout=120s")
        yield
    finally:
        cluster.kubectl("delete", "pod", "stranger", "client", "--wait=false", check=False)


def reaches(cluster: Cluster, pod: str, addresses: list[str]) -> dict[str, bool]:
    """Which addresses a pod can connect to."""
    said = cluster.kubectl("exec", pod, "--", "python", "-c", PROGRAM, *addresses)
    return json.loads(said.splitlines()[-1])


def misfits(cluster: Cluster, pod: str, expected: dict[str, bool]) -> dict[str, bool]:
    """The addresses that a pod reaches against expectation, or does not reach, three times in a row.

    What policies allow they allow always, while what enforces them makes its rules anew whenever a pod comes or goes, and Kubernetes promises nothing for that
    moment: once, among many thousands, a connection was let through that no policy allowed.
    """
    for pause in (0, 2, 5):
        time.sleep(pause)
        reached = reaches(cluster, pod, list(expected))
        expected = {address: may for address, may in expected.items() if reached[address] != may}
        if not expected:
            return {}
        print(f"{pod}, after {pause} s, against expectation: { {address: reached[address] for address in expected} }")
    return {address: reached[address] for address in expected}


@pytest.fixture(scope="module")
def world(enforced: Cluster) -> Iterator[str | None]:
    """An address outside the cluster that answers: this machine's, where the cluster is on it."""
    if not own_cluster():
        yield None
        return
    node = enforced.get("node")[0]["status"]["addresses"][0]["address"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((node, 9))
        own_address = probe.getsockname()[0]
    with socket.create_server((own_address, 0), backlog=64) as server:
        threading.Thread(target=_take_all, args=(server,), daemon=True).start()
        yield f"{own_address}:{server.getsockname()[1]}"


def _take_all(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()


@pytest.mark.parametrize("role", MAY_REACH)
def test_a_pod_reaches_what_the_architecture_needs_and_nothing_else(
    enforced: Cluster, world: str | None, role: str
) -> None:
    targets = {f"{enforced.release}-{name}:{port}": name for name, ports in PORTS_OF.items() for port in ports}
    outside = [address for address in (API, world) if address]
    if role in ("client", "stranger"):
        pod = role
    else:
        selector = f"app.kubernetes.io/instance={enforced.release},nesycd.dev/role={role}"
        pod = enforced.get("pods", "-l", selector, "--field-selector=status.phase=Running")[0]["metadata"]["name"]
    # Itself a pod reaches always, whatever a policy says.
    expected = {address: name in MAY_REACH[role] for address, name in targets.items() if name != role}
    # Pods that are not of the release are not held by its policies where they go.
    expected |= {address: role in ("client", "stranger") for address in outside}
    assert misfits(enforced, pod, expected) == {}


def test_metrics_and_other_ports_are_closed_to_clients_and_to_each_other(enforced: Cluster) -> None:
    ports = [f"{enforced.release}-{name}:9090" for name in SERVICES]
    assert misfits(enforced, "client", dict.fromkeys(ports, False)) == {}
    assert misfits(enforced, enforced.pod("runs"), {"127.0.0.1:9090": True}) == {}, "it is there, for those who may"


def test_probes_and_port_forwards_go_on(enforced: Cluster) -> None:
    """What the kubelet does is no pod's doing."""
    selector = f"app.kubernetes.io/instance={enforced.release}"
    for pod in enforced.get("pods", "-l", selector, "--field-selector=status.phase=Running"):
        conditions = {one["type"]: one["status"] for one in pod["status"]["conditions"]}
        assert conditions["Ready"] == "True", pod["metadata"]["name"]
    with enforced.services("runs") as address:
        host, port = address["runs"].split(":")
        with socket.create_connection((host, int(port)), timeout=5):
            pass
