"""Manifests are what Kubernetes takes, and what the processes need."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from jobs.app import CPU_QUEUE, GPU_QUEUE, RUN_QUEUE
from tests.component.chart.conftest import PRESETS, ROOT, Manifest, Render, preset, rendered, template

# Objects of operators, which Kubernetes' own schemas do not have: by kind the schema that operators/make_schemas.py made.
OPERATORS = {file.stem: json.loads(file.read_text()) for file in (Path(__file__).parent / "operators").glob("*.json")}
Small = Callable[..., Render]
EVERYTHING = [
    'knowledge.store="weaviate"', "knowledge.replicas=2", "weaviate.enabled=true", "auth.enabled=true",
    "monitoring.podMonitor.enabled=true", "monitoring.prometheusRule.enabled=true", "monitoring.dashboard.enabled=true",
    "teacher.autoscaling.enabled=true", "runs.external.enabled=true", 'global.imagePullSecrets=["pull"]',
    'podDefaults.tolerations=[{"key": "a", "operator": "Exists"}]', 'podDefaults.nodeSelector={"disk": "ssd"}',
    'podDefaults.extraEnv=[{"name": "SSL_CERT_FILE", "value": "/ca/ca.crt"}]', 'podDefaults.podAnnotations={"team": "ml"}',
    'podDefaults.extraVolumes=[{"name": "ca", "configMap": {"name": "ca"}}]',
    'podDefaults.extraVolumeMounts=[{"name": "ca", "mountPath": "/ca"}]', 'podDefaults.priorityClassName="high"',
    'podDefaults.affinity={"nodeAffinity": {}}', 'podDefaults.podLabels={"team": "ml"}',
    'podDefaults.topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]',
    'workers.big={"queues": ["nesycd.gpu"], "scratch": {"storageClass": "fast"}, "gpu": {"enabled": true, "runtimeClassName": "nvidia"}, "autoscaling": {"enabled": true}}',
    'keda.prometheusAddress="http://prometheus:9090"', 'global.imageRegistry="registry.example.com/team/"',
]  # fmt: skip


@pytest.fixture(scope="module")
def everything(small: Small) -> Render:
    """All that is optional, switched on."""
    return small(*EVERYTHING)


@pytest.mark.parametrize("version", ["1.29", "1.34", "1.35", "1.36"])
def test_manifests_are_valid_for_the_oldest_version_of_kubernetes_and_the_three_newest(
    everything: Render, version: str
) -> None:
    seen = []
    for manifest in [m for one in (everything, *(rendered(*preset(name)) for name in PRESETS)) for m in one.manifests]:
        if manifest["kind"] not in OPERATORS and manifest not in seen:
            seen.append(manifest)
            kubernetes_validate.validate(manifest, version, strict=True)


OPERATED = [
    "monitoring.podMonitor.enabled=true", "monitoring.prometheusRule.enabled=true", 'monitoring.labels={"release": "prometheus"}',
    'monitoring.interval="1m"', "tls.enabled=true", 'tls.existingSecret="tls"', 'commonLabels={"team": "ml"}',
    'keda={"prometheusAddress": "https://prometheus:9092", "authModes": "tls,bearer", "authenticationRef": "thanos", "metadata": {"namespace": "team", "unsafeSsl": "true", "timeout": "5000"}}',
    *(f'workers.{name}.autoscaling={{"enabled": true, "stagesPerWorker": 2}}' for name in ("cpu", "gpu", "submissions")),
]  # fmt: skip
"""All that is made for operators, and all that is told them."""


def _fits_operator(manifest: Manifest) -> None:
    """Raises where an operator's own schema does not take an object; a field that it does not know is refused too."""
    jsonschema.Draft202012Validator(OPERATORS[manifest["kind"]]).validate(manifest)
    # The metadata of objects is Kubernetes' own, which those schemas leave open.
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": manifest["metadata"]}, "1.36", strict=True
    )


@pytest.mark.parametrize("options", [[], OPERATED], ids=["as-it-is", "all-on"])
@pytest.mark.parametrize("name", PRESETS)
def test_objects_of_operators_are_valid_for_them(name: str, options: list[str]) -> None:
    render = rendered(*preset(name), *(part for value in options for part in ("--set-json", value)))
    found = [manifest for kind in OPERATORS for manifest in render.kind(kind)]
    for manifest in found:
        _fits_operator(manifest)
    assert not options or {manifest["kind"] for manifest in found} == OPERATORS.keys()


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("ScaledObject", ["spec", "maxReplicas"], 4),
        ("ScaledObject", ["spec", "pollingInterval"], "15"),
        ("ScaledObject", ["spec", "triggers", 0, "metadata", "threshold"], 1),
        ("ScaledObject", ["spec", "triggers", 0, "metadata", "treshold"], "1"),
        ("ScaledObject", ["spec", "triggers", 0, "authenticationRef", "kind"], "Secret"),
        ("PodMonitor", ["spec", "podMetricsEndpoint"], []),
        ("PodMonitor", ["spec", "podMetricsEndpoints", 0, "interval"], "30 s"),
        ("PodMonitor", ["spec", "podMetricsEndpoints", 0, "tlsConfig", "caFile"], "/ca.crt"),
        ("PrometheusRule", ["spec", "groups", 0, "rules", 0, "expression"], "up == 0"),
        ("PrometheusRule", ["spec", "groups", 0, "rules", 0, "labels", "severity"], 1),
        ("PrometheusRule", ["metadata", "label"], {}),
    ],
)  # fmt: skip
def test_what_is_misspelt_or_of_another_type_is_found(kind: str, place: list[Any], value: Any) -> None:
    render = rendered(*preset("gpu"), *(part for option in OPERATED for part in ("--set-json", option)))
    manifest = deepcopy(render.kind(kind)[0])
    _fits_operator(manifest)
    at: Any = manifest
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        _fits_operator(manifest)


@pytest.mark.parametrize("version", ["1.29.0", "1.34.0", "1.35.0", "1.36.0"])
def test_the_chart_renders_alike_for_each_version(version: str) -> None:
    assert template(*preset("gpu"), version=version).stdout == template(*preset("gpu")).stdout


def test_what_is_said_for_every_pod_is_on_every_pod(everything: Render) -> None:
    for name, pod in everything.pods():
        spec = pod["spec"]
        assert spec["imagePullSecrets"] == [{"name": "pull"}], name
        assert spec["nodeSelector"]["disk"] == "ssd", name
        assert {"key": "a", "operator": "Exists"} in spec["tolerations"], name
        assert spec["affinity"] == {"nodeAffinity": {}}, name
        assert any(volume["name"] == "ca" for volume in spec["volumes"]), name
        assert spec["priorityClassName"] == "high", name
        (spread,) = spec["topologySpreadConstraints"]
        assert spread["topologyKey"] == "zone", name
        # Without a selector none would be spread.
        selected = spread["labelSelector"]["matchLabels"]
        assert selected and selected.items() <= pod["metadata"]["labels"].items(), name
        assert pod["metadata"]["annotations"]["team"] == pod["metadata"]["labels"]["team"] == "ml", name
    for name, container, _ in everything.containers():
        assert container["image"].startswith("registry.example.com/team/nesycd/"), name
        assert {"name": "SSL_CERT_FILE", "value": "/ca/ca.crt"} in container["env"], name
        assert {"name": "ca", "mountPath": "/ca"} in container["volumeMounts"], name


def test_pods_of_a_component_are_spread_and_with_a_selector_of_ones_own_by_that(small: Small) -> None:
    def spread(*values: str) -> list[dict[str, Any]]:
        return small(*values).get("Deployment", "runs")["spec"]["template"]["spec"]["topologySpreadConstraints"]

    (plain,) = spread()
    assert plain["topologyKey"] == "kubernetes.io/hostname"
    assert plain["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "runs"
    own = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    own["labelSelector"] = {"matchLabels": {"team": "ml"}}
    assert spread(f"runs.topologySpreadConstraints=[{json.dumps(own)}]") == [own]


# --- the processes


def test_every_queue_has_workers_and_the_command_is_that_of_one_machine(render: Render) -> None:
    queues: set[str] = set()
    for manifest in render.kind("Deployment"):
        command = manifest["spec"]["template"]["spec"]["containers"][0]["command"]
        if "jobs.app" in command:
            assert command[:7] == ["python", "-m", "celery", "-A", "jobs.app", "worker", "-P"]
            assert {"solo", "--without-gossip", "--without-mingle"} <= set(command)
            queues |= set(command[command.index("-Q") + 1].split(","))
    assert queues == {CPU_QUEUE, GPU_QUEUE, RUN_QUEUE}


def test_services_find_each_other_by_names_that_give_every_pod(render: Render) -> None:
    services = {m["metadata"]["name"]: m for m in render.kind("Service")}
    for name, port in {
        "teacher": 50061,
        "knowledge": 50062,
        "extraction": 50063,
        "student": 50064,
        "runs": 50065,
    }.items():
        spec = services[f"nesycd-{name}"]["spec"]
        assert spec["clusterIP"] == "None"
        assert {"grpc": port, "metrics": 9090} == {p["name"]: p["port"] for p in spec["ports"]}
    worker = render.environment("worker-cpu")
    for name in ("teacher", "knowledge", "extraction", "student"):
        host = f"dns:///nesycd-{name}:"
        assert worker[f"NESYCD_JOBS_{name.upper()}_ADDRESS"].startswith(host)


def test_the_environment_passes_the_settings_own_checks(render: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import os

    for process in ("teacher", "extraction", "knowledge", "student", "runs", "worker-cpu", "worker-submissions"):
        module = "jobs.settings" if "worker" in process else f"services.{process}.settings"
        for name in [name for name in os.environ if name.startswith("NESYCD_")]:
            monkeypatch.delenv(name)
        for name, value in render.environment(process).items():
            if name.startswith("NESYCD_"):
                monkeypatch.setenv(name, value.replace("$(REDIS_PASSWORD)", "p"))
        settings = importlib.import_module(module).Settings()
        if "worker" not in process:
            assert settings.host == "0.0.0.0"
            assert settings.metrics_port == 9090


def test_the_embedded_store_has_one_pod_that_ends_before_the_next_begins(small: Small) -> None:
    spec = small().get("Deployment", "knowledge")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    volumes = {v["name"]: v for v in spec["template"]["spec"]["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "nesycd-knowledge"}
    assert "NESYCD_KNOWLEDGE_REDIS_URL" not in small().environment("knowledge")


def test_replicas_on_weaviate_share_a_lock_and_are_replaced_one_by_one(everything: Render) -> None:
    spec = everything.get("Deployment", "knowledge")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    seen = everything.environment("knowledge")
    assert seen["NESYCD_KNOWLEDGE_REDIS_URL"] == "redis://:$(REDIS_PASSWORD)@nesycd-valkey:6379/0"
    assert seen["NESYCD_KNOWLEDGE_WEAVIATE_URL"] == "http://nesycd-weaviate:8080"
    assert {p["port"] for p in everything.get("Service", "weaviate")["spec"]["ports"]} == {8080, 50051}


def test_an_external_redis_and_weaviate_are_named_with_their_secrets_and_have_no_pods(small: Small) -> None:
    render = small(
        "valkey.enabled=false", 'redis.address="redis.db:6380"', "redis.tls=true", 'redis.username="team"', "redis.database=3",
        'redis.existingSecret="r"', 'redis.passwordKey="pw"', 'knowledge.store="weaviate"', 'weaviate.url="https://w.example.com"',
        "weaviate.grpcPort=443", 'weaviate.existingSecret="w"',
    )  # fmt: skip
    assert not render.kind("StatefulSet")
    seen = {e["name"]: e for e in render.get("Job", "preflight")["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert seen["PREFLIGHT_REDIS_URL"]["value"] == "rediss://team:$(REDIS_PASSWORD)@redis.db:6380/3"
    assert seen["PREFLIGHT_WEAVIATE_URL"]["value"] == "https://w.example.com"
    # Before an installation there is no other policy that lets it ask for names.
    assert _peers(_policy(render, "preflight")["egress"]) == {("other", 53), ("other", 6380), ("other", 443)}
    assert _policy(render, "preflight")["egress"][0] == _policy(render, "dns")["egress"][0]
    assert seen["PREFLIGHT_WEAVIATE_API_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "w", "key": "weaviate-api-key"}
    # There before the job, though the release of before an upgrade knows nothing of these addresses.
    job, policy = (render.get(kind, "preflight")["metadata"]["annotations"] for kind in ("Job", "NetworkPolicy"))
    assert policy["helm.sh/hook"] == job["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert int(policy["helm.sh/hook-weight"]) < int(job["helm.sh/hook-weight"])
    seen = render.environment("runs")
    assert seen["NESYCD_RUNS_REDIS_URL"] == "rediss://team:$(REDIS_PASSWORD)@redis.db:6380/3"
    assert seen["REDIS_PASSWORD"] == "secret r/pw"
    assert render.environment("knowledge")["NESYCD_KNOWLEDGE_WEAVIATE_API_KEY"] == "secret w/weaviate-api-key"


REDIS_OUTSIDE = ("valkey.enabled=false", 'redis.address="redis.db:6380"')
WEAVIATE_OUTSIDE = ('knowledge.store="weaviate"', 'weaviate.url="https://w.example.com"')


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ((), set()),
        ((*REDIS_OUTSIDE, *WEAVIATE_OUTSIDE), {"REDIS", "WEAVIATE"}),
        ((*REDIS_OUTSIDE, *WEAVIATE_OUTSIDE, 'secrets.values={"redisPassword": "p"}'), {"WEAVIATE"}),
        ((*REDIS_OUTSIDE, *WEAVIATE_OUTSIDE, 'secrets.values={"weaviateApiKey": "k"}'), {"REDIS"}),
        ((*REDIS_OUTSIDE, 'secrets.values={"redisPassword": "p"}'), set()),
        ((*REDIS_OUTSIDE, 'secrets.values={"redisPassword": "p"}', 'redis.existingSecret="r"'), {"REDIS"}),
        ((*WEAVIATE_OUTSIDE, 'weaviate.existingSecret="w"'), {"WEAVIATE"}),
        ((*WEAVIATE_OUTSIDE, "preflight.enabled=false"), set()),
    ],
)  # fmt: skip
def test_what_is_outside_is_looked_for_unless_its_secret_is_made_with_the_release(
    small: Small, values: tuple[str, ...], asked: set[str]
) -> None:
    render = small(*values)
    jobs = render.kind("Job")
    environments = [job["spec"]["template"]["spec"]["containers"][0]["env"] for job in jobs]
    names = {variable["name"] for environment in environments for variable in environment}
    assert {name for name in ("REDIS", "WEAVIATE") if f"PREFLIGHT_{name}_URL" in names} == asked
    assert len(jobs) == (1 if asked else 0)
    assert (("NetworkPolicy", "nesycd-preflight") in render.by_name) == bool(asked)


def test_a_key_that_the_chart_keeps_reaches_an_external_weaviate(small: Small) -> None:
    given = small(*WEAVIATE_OUTSIDE, 'secrets.values={"weaviateApiKey": "k"}').environment("knowledge")
    assert given["NESYCD_KNOWLEDGE_WEAVIATE_API_KEY"] == "secret nesycd-secrets/weaviate-api-key"
    assert "NESYCD_KNOWLEDGE_WEAVIATE_API_KEY" not in small(*WEAVIATE_OUTSIDE).environment("knowledge")


def test_no_secret_stands_in_a_manifest_but_in_secrets(render: Render) -> None:
    for name, container, _ in render.containers():
        for variable in container.get("env", []):
            if (
                variable["name"].endswith(("_TOKEN", "_PASSWORD", "_API_KEY", "_AUTH"))
                and variable.get("value") != "stand-in"
            ):
                assert "secretKeyRef" in variable["valueFrom"], (name, variable)
    for config in render.kind("ConfigMap"):
        assert not [key for key in config["data"] if key.endswith(("TOKEN", "PASSWORD", "API_KEY"))], config[
            "metadata"
        ]["name"]


def test_the_chart_makes_a_secret_only_when_asked(small: Small) -> None:
    assert not rendered(*preset("production")).kind("Secret")
    (secret,) = small().kind("Secret")
    assert secret["data"].keys() == {"redis-password", "weaviate-api-key", "auth-token", "teacher-api-key"}


def test_artifacts_in_an_object_store_need_no_volume(small: Small) -> None:
    render = small(
        'artifacts.url="s3://bucket/prefix"', 'artifacts.existingSecret="keys"', 'student.model.source="artifacts"'
    )
    assert {m["metadata"]["name"] for m in render.kind("PersistentVolumeClaim")} == {"nesycd-knowledge"}
    # Where each pod of the student puts its copy of the base model.
    pod = render.get("Deployment", "student")["spec"]["template"]["spec"]
    assert {"name": "scratch", "emptyDir": {"sizeLimit": "20Gi"}} in pod["volumes"]
    assert {"name": "scratch", "mountPath": render.environment("student")["NESYCD_STUDENT_STATE_DIR"]} in pod[
        "containers"
    ][0]["volumeMounts"]
    for name in ("student", "runs", "worker-cpu"):
        container = render.get("Deployment", name)["spec"]["template"]["spec"]["containers"][0]
        assert {"secretRef": {"name": "keys"}} in container["envFrom"], name
    assert render.environment("worker-cpu")["NESYCD_JOBS_ARTIFACTS_URL"] == "s3://bucket/prefix"


def test_a_gpu_brings_its_resource_nodes_and_runtime(everything: Render) -> None:
    render = rendered(*preset("gpu"))
    for manifest in (render.get("Deployment", "student"), render.get("Deployment", "worker-gpu")):
        spec = manifest["spec"]["template"]["spec"]
        assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    assert everything.get("Deployment", "worker-big")["spec"]["template"]["spec"]["runtimeClassName"] == "nvidia"


def test_helm_waits_for_every_pod_but_one_of_those_with_gpus_and_for_a_single_student(small: Small) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    waited = {"type": "Recreate"}, rolling
    for render in (small(), rendered(*preset("gpu")), rendered(*preset("production"))):
        for manifest in render.kind("Deployment"):
            spec = manifest["spec"]
            gpu = "nvidia.com/gpu" in spec["template"]["spec"]["containers"][0]["resources"]["limits"]
            if "strategy" in spec and not gpu:
                assert spec["strategy"] in waited, manifest["metadata"]["name"]
    gpu_preset = rendered(*preset("gpu"))
    assert gpu_preset.get("Deployment", "student")["spec"]["strategy"] == {"type": "Recreate"}
    # helm would wait for the end of a worker that saves its work, which may take longer than helm waits.
    several = small("workers.cpu.replicas=2", "workers.cpu.gpu.enabled=true").get("Deployment", "worker-cpu")
    for manifest in (gpu_preset.get("Deployment", "worker-gpu"), several):
        strategy = manifest["spec"]["strategy"]
        assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def test_several_students_share_the_artifacts_and_are_replaced_without_a_gap(small: Small) -> None:
    shared = 'artifacts={"persistence": {"accessMode": "ReadWriteMany"}}'
    bucket = ('artifacts.url="s3://bucket/prefix"', 'student.model.source="artifacts"')
    gpu = "student.gpu.enabled=true"
    for values, rolling in (
        ((), {"maxSurge": 1, "maxUnavailable": 0}),
        ((shared, "singleNode=false"), {"maxSurge": 1, "maxUnavailable": 0}),
        (bucket, {"maxSurge": 1, "maxUnavailable": 0}),
        ((gpu,), {"maxSurge": 0, "maxUnavailable": 1}),
    ):
        for several in ("student.replicas=3", "student.autoscaling.enabled=true"):
            render = small(*values, several)
            spec = render.get("Deployment", "student")["spec"]
            assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
            assert spec.get("replicas") == (3 if several == "student.replicas=3" else None)
            assert render.environment("student")["NESYCD_STUDENT_DRAIN_DELAY_SECONDS"] == "65"
            assert "NESYCD_STUDENT_REGISTRY_URL" not in render.environment("student"), "it is in the artifact store"
            render.get("PodDisruptionBudget", "student")
        assert render.get("HorizontalPodAutoscaler", "student")["spec"]["scaleTargetRef"]["name"] == "nesycd-student"
    assert small(gpu).get("Deployment", "student")["spec"]["strategy"] == {"type": "Recreate"}
    assert small(*bucket).get("Deployment", "student")["spec"]["strategy"]["type"] == "RollingUpdate"
    for place in ("s3://other/registry", "file:///var/lib/nesycd/artifacts/registry"):
        settings = f'student.settings={{"registry_url": "{place}"}}'
        assert small("student.replicas=2", settings).environment("student")["NESYCD_STUDENT_REGISTRY_URL"] == place


def test_what_is_scaled_has_no_number_of_replicas(everything: Render) -> None:
    assert "replicas" not in everything.get("Deployment", "teacher")["spec"]
    assert "replicas" not in everything.get("Deployment", "worker-big")["spec"]
    (scaled,) = everything.kind("ScaledObject")
    assert scaled["spec"]["scaleTargetRef"] == {"name": "nesycd-worker-big"}
    trigger = scaled["spec"]["triggers"][0]["metadata"]
    # Queued and running count, and the sum is that of one replica of the runs service: two are not read at the same moment, and a stage that
    # begins between is queued for the one and running for the other.
    stages = 'nesycd_run_stages{namespace="team", pod=~"nesycd-runs-.*", queue=~"nesycd.gpu"}'
    assert trigger["query"] == f"max(sum without (queue, state) ({stages}))"


def test_keda_asks_prometheus_as_the_values_say(small: Small) -> None:
    scaled = ('workers.cpu.autoscaling={"enabled": true}', 'keda.prometheusAddress="https://prometheus:9092"')

    def trigger(*values: str) -> Manifest:
        (one,) = small(*scaled, *values).kind("ScaledObject")
        return one["spec"]["triggers"][0]

    plain = trigger()
    assert "authenticationRef" not in plain
    assert plain["metadata"].keys() == {"serverAddress", "query", "threshold", "ignoreNullValues"}
    assert plain["metadata"]["ignoreNullValues"] == "false" and plain["metadata"]["threshold"] == "1"
    asked = trigger(
        'keda.authModes="tls,bearer"', 'keda.authenticationRef="thanos"', 'keda.authenticationKind="ClusterTriggerAuthentication"',
        'keda.metadata={"namespace": "team", "unsafeSsl": "true", "query": "vector(9)"}',
    )  # fmt: skip
    assert asked["authenticationRef"] == {"name": "thanos", "kind": "ClusterTriggerAuthentication"}
    assert asked["metadata"] == plain["metadata"] | {
        "authModes": "tls,bearer",
        "namespace": "team",
        "unsafeSsl": "true",
    }
    assert trigger('keda.authenticationRef="cloud"')["authenticationRef"]["kind"] == "TriggerAuthentication"


def _exported() -> dict[str, set[str]]:
    """Every metric that a service tells, with its labels, as Prometheus sees them."""
    from types import SimpleNamespace

    from prometheus_client import REGISTRY, CollectorRegistry

    from jobs.state import AtWork, Totals
    from services.common import metrics as calls
    from services.runs.metrics import RunMetrics
    from services.teacher import metrics as teacher
    from services.teacher.types import Question, Sampling, Spent

    # One of each, because a metric with labels tells nothing before.
    calls.ended("m", "OK")
    calls.in_flight("m")
    question = Question((), "model", Sampling(0, 1, 1))
    teacher.answered(question, "cache")
    teacher.booked(question, Spent(1, 1, 1))
    teacher.failed(question, "server")
    runs = CollectorRegistry()
    at_work = [AtWork("run", "prepare", "RUNNING", silent_seconds=1.0, budget_used=0.5)]
    totals = Totals(failures={("prepare", "WORKER_LOST"): 1})
    client = SimpleNamespace(llen=lambda _: 0, info=lambda _: {"used_memory": 1, "maxmemory": 2})
    runs.register(
        RunMetrics(SimpleNamespace(at_work=lambda: at_work, totals=lambda: totals, client=client))  # type: ignore[arg-type]
    )
    labels: dict[str, set[str]] = {}
    for registry in (REGISTRY, runs):
        for sample in [sample for metric in registry.collect() for sample in metric.samples]:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def test_alerts_and_dashboard_use_metrics_and_labels_that_there_are(everything: Render) -> None:
    import re

    exported = _exported()
    alerts = [
        rule["expr"]
        for one in everything.kind("PrometheusRule")
        for group in one["spec"]["groups"]
        for rule in group["rules"]
    ]
    dashboard = json.loads(everything.get("ConfigMap", "dashboard")["data"]["nesycd.json"])
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions = [
        *alerts,
        *panels,
        *(
            trigger["metadata"]["query"]
            for one in everything.kind("ScaledObject")
            for trigger in one["spec"]["triggers"]
        ),
    ]
    used = set()
    for expression in expressions:
        assert expression.count("(") == expression.count(")"), expression
        for name, selector in re.findall(r"((?:nesycd|process)_[a-z_]+)\b(?:{([^}]*)})?", expression):
            assert name in exported, f"{name} in {expression}"
            used.add(name)
            named = set(re.findall(r"([a-z_]+)\s*[=!]~?", selector)) - {"namespace", "pod"}
            assert named <= exported[name], f"{name} has no {named - exported[name]}"
        for by in re.findall(r"by \(([^)]*)\)", expression):
            inside = set().union(*(exported.get(name, set()) for name in re.findall(r"[a-z_]+", expression)))
            assert {label.strip() for label in by.split(",")} <= inside | {"namespace", "pod", "component"}, expression
    own = {
        name for name in exported if name.startswith("nesycd_") and not name.endswith(("_created", "_count", "_sum"))
    }
    assert not own - used, "a metric that nobody looks at"


def test_each_alert_looks_at_the_pods_of_its_release_alone(everything: Render) -> None:
    """Another release may be in the namespace."""
    import re

    for one in everything.kind("PrometheusRule"):
        for rule in one["spec"]["groups"][0]["rules"]:
            selectors = re.findall(r"\b(?:nesycd_[a-z_]+|up){([^}]*)}", rule["expr"])
            assert selectors and all('namespace="team", pod=~"nesycd-' in one for one in selectors), rule["expr"]


def test_names_have_no_dots_which_a_service_may_not_have(small: Small) -> None:
    names = {one["metadata"]["name"] for one in small('fullnameOverride="my.app"').kind("Service")}
    assert "my-app-runs" in names and not any("." in name for name in names)


def test_the_page_on_operations_names_every_metric_and_alert(everything: Render) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for one in everything.kind("PrometheusRule"):
        for rule in one["spec"]["groups"][0]["rules"]:
            assert f"| {rule['alert']} |" in page
    for name in _exported():
        if name.startswith("nesycd_") and not name.endswith(("_created", "_bucket", "_count", "_sum")):
            assert name in page


# --- the network


def _policy(render: Render, role: str) -> Manifest:
    return render.get("NetworkPolicy", role)["spec"]


def _peers(rules: list[Manifest]) -> set[tuple[str, int]]:
    return {
        (peer.get("podSelector", {}).get("matchLabels", {}).get("nesycd.dev/role", "other"), port["port"])
        for rule in rules
        for peer in rule.get("to", rule.get("from")) or [{}]
        for port in rule["ports"]
    }


def test_everything_is_denied_that_is_not_named(render: Render) -> None:
    spec = _policy(render, "deny")
    assert spec["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in spec and "egress" not in spec
    labels = spec["podSelector"]["matchLabels"]
    for name, pod in render.pods():
        assert labels.items() <= pod["metadata"]["labels"].items(), name
        role = pod["metadata"]["labels"]["nesycd.dev/role"]
        assert ("NetworkPolicy", f"nesycd-{role}") in render.by_name, name


def test_who_calls_may_and_who_is_called_lets_them(everything: Render) -> None:
    allowed = {
        "extraction": {("teacher", 50061), ("knowledge", 50062)},
        "knowledge": {("weaviate", 8080), ("weaviate", 50051), ("valkey", 6379)},
        "student": {("knowledge", 50062)},
        "runs": {("valkey", 6379)},
        "teacher": {("valkey", 6379), ("standin", 8089)},
        "submissions": {("valkey", 6379)},
        "test": {("runs", 50065)},
        "worker": {
            ("teacher", 50061),
            ("extraction", 50063),
            ("knowledge", 50062),
            ("student", 50064),
            ("valkey", 6379),
        },
    }
    for role, targets in allowed.items():
        assert _peers(_policy(everything, role)["egress"]) == targets, role
        for target, port in targets:
            assert (role, port) in _peers(_policy(everything, target)["ingress"]), (role, target)
    for role in ("valkey", "weaviate", "standin"):
        assert _policy(everything, role)["egress"] == [], role


def test_no_rule_is_open_by_an_empty_list_of_callers(render: Render, everything: Render) -> None:
    for one in (render, everything):
        for manifest in one.kind("NetworkPolicy"):
            for rule in manifest["spec"].get("ingress", []):
                assert rule["from"] and all(rule["from"]), manifest["metadata"]["name"]


def test_ways_out_are_those_of_the_addresses(small: Small) -> None:
    render = small(
        "standinTeacher.enabled=false", 'teacher.upstream.url="http://vllm.models:8000/v1"', "teacher.upstream.anonymous=true",
        'networkPolicy.egress.teacher.to=[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "models"}}}]',
        'student.model={"source": "huggingface", "repository": "a/b"}',
    )  # fmt: skip
    rule = _policy(render, "teacher")["egress"][-1]
    assert rule["ports"] == [{"port": 8000, "protocol": "TCP"}]
    assert rule["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "models"}
    assert ("other", 443) in _peers(_policy(render, "student")["egress"])
    production = rendered(*preset("production"))
    for role, port in (("teacher", 443), ("worker", 443), ("student", 443), ("runs", 443), ("weaviate", 443)):
        assert ("other", port) in _peers(_policy(production, role)["egress"]), role


def test_dns_is_reached_by_all(render: Render) -> None:
    (rule,) = _policy(render, "dns")["egress"]
    assert {(p["port"], p["protocol"]) for p in rule["ports"]} == {(53, "UDP"), (53, "TCP")}


def test_every_server_listens_where_the_values_say_and_ipv6_clients_may_come_too(small: Small) -> None:
    values = ('listenHost="::"', 'knowledge.store="weaviate"', "weaviate.enabled=true", "auth.enabled=true")
    render = small(*values, "runs.external.enabled=true")
    for kind, name in (("Deployment", "standin"), ("StatefulSet", "weaviate")):
        command = render.get(kind, name)["spec"]["template"]["spec"]["containers"][0]["command"]
        assert command[command.index("--host") + 1] == "::", name
    for service in ("teacher", "extraction", "knowledge", "student", "runs"):
        assert render.environment(service)[f"NESYCD_{service.upper()}_HOST"] == "::"
    assert "0.0.0.0" not in json.dumps([m["spec"] for m in render.manifests if "replicas" in m.get("spec", {})])
    blocks = [
        peer["ipBlock"]["cidr"]
        for rule in _policy(render, "runs")["ingress"]
        for peer in rule["from"]
        if "ipBlock" in peer
    ]
    assert blocks == ["0.0.0.0/0", "::/0"]


# --- data, notes


def test_volumes_outlive_an_uninstall_where_they_are_to_be_kept() -> None:
    render = rendered(*preset("gpu"))
    for name in ("artifacts", "knowledge"):
        annotations = render.get("PersistentVolumeClaim", name)["metadata"]["annotations"]
        assert annotations == {"helm.sh/resource-policy": "keep"}
    policy = render.get("StatefulSet", "valkey")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy["whenDeleted"] == "Retain"


def test_a_claim_has_the_annotations_that_are_given(small: Small) -> None:
    given = [
        f'{place}.annotations={{"team": "{place}"}}'
        for place in ("artifacts.persistence", "knowledge.persistence", "valkey.persistence")
    ]
    render = small(*given)
    for name in ("artifacts", "knowledge"):
        annotations = render.get("PersistentVolumeClaim", name)["metadata"]["annotations"]
        assert annotations == {"helm.sh/resource-policy": "keep", "team": f"{name}.persistence"}
    (claim,) = render.get("StatefulSet", "valkey")["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["annotations"] == {"team": "valkey.persistence"}


def test_labels_that_are_given_are_on_every_object_and_pod_and_none_twice(small: Small) -> None:
    arguments = [
        'commonLabels={"team": "a", "cost": "7"}', 'podDefaults.podLabels={"team": "b"}', 'teacher.podLabels={"team": "c"}',
        'monitoring.labels={"team": "d"}', "monitoring.podMonitor.enabled=true", "monitoring.prometheusRule.enabled=true",
        'monitoring.dashboard={"enabled": true, "labels": {"team": "e"}}',
    ]  # fmt: skip
    render = small(*arguments)
    text = template(*preset("small"), *(part for value in arguments for part in ("--set-json", value))).stdout
    for node in yaml.compose_all(text):
        _no_key_twice(node)
    for manifest in render.manifests:
        assert manifest["metadata"]["labels"]["cost"] == "7", manifest["metadata"]["name"]
    for name, pod in render.pods():
        assert pod["metadata"]["labels"]["team"] == ("c" if name == "nesycd-teacher" else "b"), name
    for kind, name, team in (
        ("PodMonitor", "monitoring", "d"),
        ("ConfigMap", "dashboard", "e"),
        ("Service", "runs", "a"),
    ):
        assert render.get(kind, name)["metadata"]["labels"]["team"] == team


def _no_key_twice(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        for _, value in node.value:
            _no_key_twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _no_key_twice(value)


def test_tls_and_token_reach_every_process() -> None:
    render = rendered(*preset("production"))
    for service in ("teacher", "extraction", "knowledge", "student", "runs"):
        seen = render.environment(service)
        assert seen[f"NESYCD_{service.upper()}_AUTH_TOKEN"] == "secret nesycd/auth-token"
        assert seen[f"NESYCD_{service.upper()}_TLS_CERT"] == "/etc/nesycd/tls/tls.crt"
        assert f"NESYCD_{service.upper()}_ALLOW_INSECURE" not in seen
    worker = render.environment("worker-gpu")
    assert worker["NESYCD_JOBS_PEER_TOKEN"] == "secret nesycd/auth-token"
    assert worker["NESYCD_JOBS_PEER_TLS_CA"] == "/etc/nesycd/tls/ca.crt"


def test_the_test_has_a_budget_where_the_teachers_price_is_known(small: Small) -> None:
    def budget(*values: str) -> str:
        command = small(*values).by_name["Pod", "nesycd-test-run"]["spec"]["containers"][0]["command"]
        return command[command.index("--budget-usd") + 1] if "--budget-usd" in command else ""

    model = 'teacher.upstream.model="large"'
    assert (
        budget()
        == budget(model, 'teacher.prices={"*": [1, 2]}')
        == budget(model, 'teacher.prices={"large": [1, 2]}')
        == "1"
    )
    assert budget("tests.budgetUsd=0.25") == "0.25"
    assert budget(model, 'teacher.prices={"small": [1, 2]}') == "", (
        "the teacher refuses a budget for a model without a price"
    )


def test_the_test_calls_with_token_and_tls_as_the_services_do() -> None:
    pod = rendered(*preset("production")).by_name["Pod", "nesycd-test-run"]
    env = {variable["name"]: variable for variable in pod["spec"]["containers"][0]["env"]}
    files = {"NESYCD_PEER_TLS_CA": "ca.crt", "NESYCD_PEER_TLS_CERT": "tls.crt", "NESYCD_PEER_TLS_KEY": "tls.key"}
    assert {name: env[name]["value"] for name in files} == {n: f"/etc/nesycd/tls/{f}" for n, f in files.items()}
    assert env["NESYCD_PEER_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "nesycd", "key": "auth-token"}
    assert {"name": "tls", "mountPath": "/etc/nesycd/tls", "readOnly": True} in pod["spec"]["containers"][0][
        "volumeMounts"
    ]
    assert pod["spec"]["serviceAccountName"] == "nesycd-runs"


def test_numbers_and_lists_in_settings_stay_what_they_are(small: Small) -> None:
    seen = small(
        'teacher.settings={"max_characters": 40000000, "backoff_seconds": 0.25}', 'teacher.prices={"*": [0.1, 2]}'
    ).environment("teacher")
    assert seen["NESYCD_TEACHER_MAX_CHARACTERS"] == "40000000"
    assert seen["NESYCD_TEACHER_BACKOFF_SECONDS"] == "0.25"
    assert json.loads(seen["NESYCD_TEACHER_PRICES"])["*"] == [0.1, 2]


def test_a_pod_that_is_given_a_gpu_demands_one_and_no_other_does(small: Small) -> None:
    render = rendered(*preset("gpu"))
    assert render.environment("student")["NESYCD_STUDENT_DEVICE"] == "cuda"
    assert render.environment("worker-gpu")["NESYCD_JOBS_DEVICE"] == "cuda"
    assert "NESYCD_JOBS_DEVICE" not in render.environment("worker-cpu")
    assert "NESYCD_STUDENT_DEVICE" not in small().environment("student")
    chosen = small('student.settings={"device": "cpu"}').environment("student")
    assert chosen["NESYCD_STUDENT_DEVICE"] == "cpu"


def test_every_file_of_the_chart_is_yaml_or_a_template(everything: Render) -> None:
    assert json.loads(everything.get("ConfigMap", "dashboard")["data"]["nesycd.json"])["title"] == "NesyCD"
    assert "snapshot_download" in everything.get("ConfigMap", "scripts")["data"]["fetch_model.py"]
    assert yaml.safe_dump(everything.manifests)
