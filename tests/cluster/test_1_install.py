"""`helm install --wait` in an empty namespace that enforces Pod Security `restricted`."""

from __future__ import annotations

from tests.cluster.kubernetes import Cluster, is_ready

PODS = {
    "teacher": 2,
    "extraction": 2,
    "knowledge": 2,
    "student": 2,
    "runs": 2,
    "worker-cpu": 1,
    "worker-submissions": 1,
    "standin": 1,
    "valkey": 1,
    "weaviate": 1,
}


def test_every_pod_is_ready_and_none_was_started_twice(installed: Cluster) -> None:
    pods = installed.pods()
    counted = {name: len(installed.pods(name)) for name in PODS}
    assert counted == PODS and len(pods) == sum(PODS.values())
    assert all(is_ready(pod) for pod in pods)
    restarts = {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in pods
        for status in pod["status"]["containerStatuses"]
        if status["restartCount"]
    }
    assert not restarts


def test_the_namespace_refuses_what_is_not_restricted(installed: Cluster) -> None:
    said = installed.kubectl("run", "unrestricted", "--image=none", check=False)
    assert "violates PodSecurity" in said


def test_every_process_runs_as_the_user_that_the_values_name_on_a_root_it_cannot_write_to(installed: Cluster) -> None:
    program = "import os; print(os.getuid(), os.getgid(), os.access('/', os.W_OK), os.access('/app', os.W_OK))"
    for component in ("teacher", "extraction", "knowledge", "student", "runs", "worker-cpu", "worker-submissions"):
        said = installed.kubectl("exec", installed.pod(component), "--", "python", "-I", "-S", "-c", program)
        assert said.split()[-4:] == ["10001", "10001", "False", "False"], component


def test_the_notes_name_commands_that_work(installed: Cluster) -> None:
    notes = installed.helm("get notes").output
    print(notes)
    command = next(line for line in notes.splitlines() if "1. Is it ready?" in line).split("?")[1].split()
    assert command[0] == "kubectl" and installed.run(*command).output.count("Running") == sum(PODS.values())
    assert "helm test nesycd" in notes and "port-forward svc/nesycd-runs 50065" in notes
