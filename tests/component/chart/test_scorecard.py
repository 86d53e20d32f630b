"""Every column of the scorecard, for every container of every preset."""

from __future__ import annotations

import re

import pytest

from tests.component.chart.conftest import CHART, Render

GRPC = {"teacher", "extraction", "knowledge", "student", "runs"}


def long_lived(render: Render) -> list[tuple[str, dict, dict]]:
    """Containers that are not over after their work: all but init containers and the test."""
    return [
        (name, container, pod)
        for name, container, pod in render.containers()
        if container in pod["spec"]["containers"] and pod["spec"].get("restartPolicy") != "Never"
    ]


def test_a_preset_has_all_components(render: Render) -> None:
    names = {name for name, _ in render.pods()}
    assert {f"nesycd-{name}" for name in (*GRPC, "worker-cpu", "worker-submissions", "valkey", "test-run")} <= names


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_every_container_that_stays_has_each_probe_with_a_timeout(render: Render, probe: str) -> None:
    for name, container, _ in long_lived(render):
        assert probe in container, name
        assert container[probe]["timeoutSeconds"] >= 5, name


def test_grpc_servers_are_asked_over_grpc_for_life_and_readiness_apart(render: Render) -> None:
    for service in GRPC:
        container = render.get("Deployment", service)["spec"]["template"]["spec"]["containers"][0]
        full_name = f"nesycd.{service}.v1.{'Run' if service == 'runs' else service.capitalize()}Service"
        port = next(p["containerPort"] for p in container["ports"] if p["name"] == "grpc")
        if f"NESYCD_{service.upper()}_TLS_CERT" in render.environment(service):
            # Kubernetes' own probes speak no TLS.
            assert container["readinessProbe"]["exec"]["command"][-3:] == [
                service.upper(),
                f"nesycd-{service}",
                full_name,
            ]
            assert container["livenessProbe"]["exec"]["command"][-2:] == [service.upper(), f"nesycd-{service}"]
        else:
            assert container["readinessProbe"]["grpc"] == {"port": port, "service": full_name}
            assert container["livenessProbe"]["grpc"] == container["startupProbe"]["grpc"] == {"port": port}


def test_every_container_has_requests_and_limits_of_cpu_and_memory(render: Render) -> None:
    for name, container, _ in render.containers():
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][kind].keys(), name


def test_every_image_is_pinned_and_taken_as_it_is_there(render: Render) -> None:
    for name, container, _ in render.containers():
        assert re.fullmatch(r"[\w./-]+:(?!latest)[\w.-]+(@sha256:[0-9a-f]{64})?", container["image"]), name
        assert container["imagePullPolicy"] == "IfNotPresent", name


def test_every_pod_passes_pod_security_restricted(render: Render) -> None:
    for name, pod in render.pods():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        allowed = {
            "configMap",
            "emptyDir",
            "ephemeral",
            "persistentVolumeClaim",
            "secret",
            "projected",
            "csi",
            "downwardAPI",
        }
        for volume in spec.get("volumes", []):
            assert volume.keys() - {"name"} <= allowed, (name, volume)
    for name, container, _ in render.containers():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert context["runAsNonRoot"] is True, name
        assert "privileged" not in context, name
        assert all("hostPort" not in port for port in container.get("ports", [])), name


def test_every_root_file_system_is_read_only_and_tmp_is_a_bounded_volume(render: Render) -> None:
    for name, container, pod in render.containers():
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert volumes[mounts["/tmp"]]["emptyDir"]["sizeLimit"], name


def test_every_mount_has_its_volume(render: Render) -> None:
    claims = {m["metadata"]["name"] for m in render.kind("PersistentVolumeClaim")}
    for name, container, pod in render.containers():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        owners = [m for m in render.kind("StatefulSet") if m["spec"]["template"] is pod]
        templates = {t["metadata"]["name"] for m in owners for t in m["spec"]["volumeClaimTemplates"]}
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes or mount["name"] in templates, (name, mount)
        for volume in volumes.values():
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in claims, name


def test_no_pod_gets_a_token_of_the_cluster_and_each_has_an_account(render: Render) -> None:
    accounts = {m["metadata"]["name"]: m for m in render.kind("ServiceAccount")}
    for name, pod in render.pods():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        if name == "nesycd-preflight":  # before there are accounts
            continue
        assert accounts[pod["spec"]["serviceAccountName"]]["automountServiceAccountToken"] is False, name


def test_no_pod_gets_variables_of_services_that_look_like_settings(render: Render) -> None:
    for name, pod in render.pods():
        assert pod["spec"]["enableServiceLinks"] is False, name


def test_every_workload_has_a_disruption_budget(render: Render) -> None:
    selectors = [m["spec"]["selector"]["matchLabels"] for m in render.kind("PodDisruptionBudget")]
    for manifest in render.kind("Deployment") + render.kind("StatefulSet"):
        assert manifest["spec"]["selector"]["matchLabels"] in selectors, manifest["metadata"]["name"]


def test_labels_are_the_standard_ones(render: Render) -> None:
    wanted = {
        f"app.kubernetes.io/{key}" for key in ("name", "instance", "component", "part-of", "version", "managed-by")
    }
    for manifest in render.manifests:
        assert wanted <= manifest["metadata"]["labels"].keys(), manifest["metadata"]["name"]
        assert manifest["metadata"]["namespace"] == "team", manifest["metadata"]["name"]


def test_a_new_configuration_restarts_its_pods(render: Render) -> None:
    for name, _container, pod in long_lived(render):
        assert re.fullmatch(r"[0-9a-f]{64}", pod["metadata"]["annotations"]["checksum/config"]), name


def test_a_new_chart_version_alone_restarts_no_pod(render: Render) -> None:
    for name, pod in render.pods():
        if pod.get("kind") != "Pod":
            assert not {"helm.sh/chart", "app.kubernetes.io/version"} & pod["metadata"]["labels"].keys(), name


def test_processes_that_load_torch_have_shared_memory(render: Render) -> None:
    for name, container, pod in render.containers():
        if re.search(r"/(student|worker):", container["image"]) and container in pod["spec"]["containers"]:
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
            assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory", name


def test_workers_have_time_to_save_a_checkpoint(render: Render) -> None:
    for manifest in render.kind("Deployment"):
        if manifest["metadata"]["name"] in ("nesycd-worker-cpu", "nesycd-worker-gpu"):
            assert manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 600


def test_servers_have_longer_to_stop_than_they_grant_their_calls(render: Render) -> None:
    for service in GRPC:
        grace = float(render.environment(service)[f"NESYCD_{service.upper()}_GRACE_SECONDS"])
        pod = render.get("Deployment", service)["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= grace + 10


def test_a_server_whose_successor_waits_for_its_end_does_not_linger(render: Render) -> None:
    for service in GRPC:
        alone = render.get("Deployment", service)["spec"]["strategy"]["type"] == "Recreate"
        delay = render.environment(service)[f"NESYCD_{service.upper()}_DRAIN_DELAY_SECONDS"]
        assert delay == ("0" if alone else "65"), service


def test_the_chart_has_a_schema_and_a_test(render: Render) -> None:
    assert (CHART / "values.schema.json").is_file()
    test = render.by_name["Pod", "nesycd-test-run"]
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert "dns:///nesycd-runs:50065" in test["spec"]["containers"][0]["command"]
