"""Values that are wrong are refused with what to do; the schema knows every value and every setting; the README is current."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.component.chart.conftest import CHART, PRESETS, ROOT, preset, template

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
Refused = Callable[..., str]
FORTY = "n" * 40


def maker(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "deploy" / "helm" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_current() -> None:
    assert (CHART / "README.md").read_text() == maker("make_readme").make(), "run: python deploy/helm/make_readme.py"


def test_every_value_says_what_it_is_for() -> None:
    for line in maker("make_readme").make().splitlines():
        assert not line.startswith("| `") or not line.endswith("|  |"), f"no comment in values.yaml: {line}"


# --- the schema


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('teacher.replicas="two"', ["/teacher/replicas", "got string, want integer"]),
        ("teacher.replica=2", ["'replica' not allowed"]),
        ("studnt={}", ["'studnt' not allowed"]),
        ('knowledge.store="postgres"', ["/knowledge/store", "'embedded', 'weaviate'"]),
        ("teacher.settings={\"slotz\": 3}", ["slotz", "'slots'"]),
        ("teacher.settings={\"redis_url\": \"redis://x\"}", ["redis_url"]),
        ('images.teacher.tag="latest"', ["/images/teacher/tag"]),
        ('workers.cpu.queues=["cpu"]', ["'nesycd.cpu', 'nesycd.gpu', 'nesycd.runs'"]),
        ('workers.Big={}', ["Big"]),
        ('runs.resources.limits={"memory": null}', ["memory"]),
        ('artifacts.persistence.size="50"', ["/artifacts/persistence/size"]),
        ('redis.address="redis://host:6379"', ["/redis/address"]),
        ('secrets.values.redisPassword="a/b@c"', ["/secrets/values/redisPassword"]),
        ('teacher.upstream.url="api.example.com"', ["/teacher/upstream/url"]),
        ('networkPolicy.dns.to=[]', ["/networkPolicy/dns/to"]),
        ('podDefaults.extraEnv=[{"nam": "X"}]', ["/podDefaults/extraEnv/0"]),
        ("singleNode=1", ["/singleNode"]),
        ('podDisruptionBudget.maxUnavailable="0%"', ["/podDisruptionBudget/maxUnavailable"]),
        ('podDisruptionBudget.maxUnavailable="101%"', ["/podDisruptionBudget/maxUnavailable"]),
        ('keda.authModes="token"', ["/keda/authModes"]),
        ('keda.authenticationKind="Secret"', ["'TriggerAuthentication', 'ClusterTriggerAuthentication'"]),
    ],
)  # fmt: skip
def test_a_value_of_a_wrong_name_type_or_form_is_refused_with_its_place(
    refused: Refused, value: str, words: list[str]
) -> None:
    said = refused(value)
    assert "don't meet the specifications of the schema" in said
    assert all(word in said for word in words), said


def test_the_schema_is_closed_everywhere() -> None:
    """An object with names of its own says which; the others are maps that people fill, or Kubernetes' own objects."""

    def look(node: Any, path: str) -> None:
        if isinstance(node, dict):
            if "properties" in node:
                assert node.get("additionalProperties") is False or "required" in node, path
            for key, inner in node.items():
                look(inner, f"{path}/{key}")
        elif isinstance(node, list):
            for index, inner in enumerate(node):
                look(inner, f"{path}/{index}")

    look(SCHEMA, "")


def test_the_schema_knows_every_value_and_values_have_every_name_that_the_schema_knows() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    per_pod = set(values["podDefaults"])

    def compare(value: Any, schema: dict[str, Any], path: str) -> None:
        while "$ref" in schema:
            schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
        if not isinstance(value, dict) or "properties" not in schema:
            return
        known = set(schema["properties"])
        missing = known - set(value) - (per_pod if path else set())
        assert set(value) <= known and not missing, (path, set(value) - known, missing)
        for key, inner in value.items():
            compare(inner, schema["properties"][key], f"{path}.{key}")

    compare(values, SCHEMA, "")


def test_the_schema_knows_the_settings_of_today() -> None:
    made = maker("make_schema").make()
    assert (CHART / "values.schema.json").read_text() == made, "run: python deploy/helm/make_schema.py"


@pytest.mark.parametrize("process", ["teacher", "extraction", "knowledge", "student", "runs", "jobs"])
def test_a_setting_that_is_not_free_is_given_by_the_chart(process: str) -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").glob("*.*"))
    make_schema = maker("make_schema")
    assert make_schema.GIVEN[process] <= make_schema.settings_of(process)
    elsewhere = {"base_model_dir", "teacher_prices"} | {
        f"{name}_address" for name in ("teacher", "extraction", "knowledge", "student")
    }
    for name in make_schema.GIVEN[process] - elsewhere:
        assert f"NESYCD_{process.upper()}_{name.upper()}" in templates, name


# --- what a schema cannot say


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["secrets.create=false"], "redis.existingSecret is empty, and Valkey needs a password (key redis-password): name a Secret there"),
        (["standinTeacher.enabled=false"], "teacher.upstream.url is empty: set it to the teacher's endpoint"),
        (
            ["standinTeacher.enabled=false", 'teacher.upstream.url="https://x"'],
            "teacher.upstream.existingSecret is empty: name a Secret with the endpoint's key (key teacher-api-key)",
        ),
        (['teacher.upstream.url="https://x"'], "standinTeacher.enabled is true, and teacher.upstream.url names another teacher"),
        (["auth.enabled=true", "secrets.create=false", 'redis.existingSecret="s"'], "auth.existingSecret is empty"),
        (["teacher.external.enabled=true"], "teacher.external.enabled is true, and auth.enabled is false, so anybody who reaches the address could call it"),
        (["tls.enabled=true"], "tls.existingSecret is empty, and tls.enabled is true: name a Secret with tls.crt, tls.key and ca.crt"),
        (["tls.mutual=true"], "tls.mutual is true, and tls.enabled is false"),
        (["knowledge.replicas=2"], "knowledge.store is embedded, whose files one pod owns: set knowledge.replicas=1"),
        (["knowledge.autoscaling.enabled=true"], "knowledge.store is embedded, whose files one pod owns"),
        (['knowledge.store="weaviate"'], "knowledge.store is weaviate, and weaviate.url is empty"),
        (["weaviate.enabled=true"], "weaviate.enabled is true, and knowledge.store is embedded"),
        (
            ['knowledge.store="weaviate"', "weaviate.enabled=true", "secrets.create=false", 'redis.existingSecret="s"'],
            "weaviate.existingSecret is empty, and Weaviate needs an API key",
        ),
        (["valkey.enabled=false"], "redis.address is empty, and valkey.enabled is false: set redis.address to host:port"),
        (['redis.address="r:6379"'], "valkey.enabled is true, and redis.address names another Redis"),
        (["singleNode=false"], "artifacts.persistence.accessMode is ReadWriteOnce, and pods on several nodes mount the volume"),
        (['artifacts.url="s3://b/p"'], "copy the model to s3://b/p/models/smollm2-135m-instruct, and set student.model.source=artifacts"),
        (['student.model.source="huggingface"'], "student.model.repository is empty: name the repository"),
        (
            ["student.replicas=2", 'student.settings={"registry_url": "file:///tmp/registry"}'],
            "student.settings.registry_url is file:///tmp/registry, a folder of each pod's own",
        ),
        (["student.autoscaling.enabled=true", 'student.settings={"registry_url": "/tmp/registry"}'], "remove it (then students keep that list in the artifact store)"),
        (["singleNode=false", "student.replicas=2"], "pods on several nodes mount the volume: set ReadWriteMany"),
        (["student.gpu.enabled=true", 'student.settings={"device": "cpu"}'], "student.settings.device is cpu, and student.gpu.enabled is true"),
        (['student.engine.kind="openai"'], "student.engine.url is empty: set it to the server's address"),
        (
            ['student.engine={"kind": "openai", "url": "http://v:8000"}', 'artifacts.url="s3://b/p"', 'student.settings={"engine_artifacts": "/artifacts"}'],
            "student.settings.engine_artifacts is a folder of a volume that the engine mounts, and artifacts.url is an object store",
        ),
        (['workers.cpu.queues=["nesycd.cpu"]'], "no worker takes the queue nesycd.gpu, so runs would wait for ever"),
        (["workers.submissions.enabled=false"], "no worker takes the queue nesycd.runs"),
        (['workers.submissions.queues=["nesycd.cpu", "nesycd.runs"]'], "workers.submissions.image is runs, which has no torch"),
        (
            ['workers.cpu.queues=["nesycd.cpu"]', 'workers.x={"queues": ["nesycd.gpu"]}', "workers.cpu.gpu.enabled=true"],
            "workers.cpu.gpu.enabled is true, and its queues lack nesycd.gpu, so the GPU would be idle",
        ),
        (["workers.cpu.autoscaling.enabled=true"], "keda.prometheusAddress is empty"),
        (['keda.authModes="bearer"'], "keda.authenticationRef is empty: name the TriggerAuthentication that holds what it needs"),
        (
            [f'fullnameOverride="{FORTY}"', 'workers.of-twenty-characters={"autoscaling": {"enabled": true}}', 'keda.prometheusAddress="http://p"'],
            f"{FORTY}-worker-of-twenty-characters has 68 characters, of which KEDA takes 63: shorten fullnameOverride",
        ),
        (['global.imageRegistry=""'], "no registry is named for the images of extraction, knowledge, runs, student, teacher, valkey, worker: set it"),
        (['commonLabels={"app.kubernetes.io/name": "x"}'], "commonLabels has app.kubernetes.io/name, which the chart sets itself"),
        (['podDefaults.podLabels={"nesycd.dev/role": "x"}'], "podDefaults.podLabels has nesycd.dev/role"),
        (['workers.cpu.podLabels={"helm.sh/chart": "x"}'], "workers.cpu.podLabels has helm.sh/chart"),
        (['knowledge.embedder.kind="openai"'], "knowledge.embedder.url is empty"),
        (["monitoring.podMonitor.enabled=true", "monitoring.metrics.enabled=false"], "monitoring.metrics.enabled is false: set it to true"),
        (["redis.tls=true"], "redis.tls or redis.username is set, which the chart's Valkey has not"),
        (['redis.username="u"'], "redis.tls or redis.username is set, which the chart's Valkey has not"),
        (
            ["valkey.enabled=false", 'redis={"address": "r:6379", "username": "u"}', "secrets.create=false"],
            "redis.username is u, and redis.existingSecret is empty: name a Secret with its password",
        ),
        *(
            (['knowledge.store="weaviate"', "weaviate.enabled=true", value], "grpcHost, grpcPort or grpcSecure speaks of another one")
            for value in ('weaviate.grpcHost="g"', "weaviate.grpcPort=443", 'weaviate.grpcSecure="true"')
        ),
        (
            ["runs.external.enabled=true", 'runs.external.type="NodePort"', 'runs.external.loadBalancerSourceRanges=["10.0.0.0/8"]'],
            "runs.external.loadBalancerSourceRanges is for type LoadBalancer, and runs.external.type is NodePort",
        ),
        (["monitoring.metrics.port=50061"], "monitoring.metrics.port is 50061, where the teacher service takes its calls"),
        (['redis.passwordKey="password"', 'auth.tokenKey="password"'], "secrets.create is true, which makes one Secret with the keys password"),
        (['fullnameOverride="1team"'], "all names would begin with 1team, and that of a Service must begin with a letter"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_together_are_refused_with_what_to_do(
    refused: Refused, values: list[str], sentence: str
) -> None:
    assert sentence in refused(*values)


def test_values_that_are_null_or_that_a_release_of_a_former_chart_lacks_are_empty_ones() -> None:
    """A null takes a value out of the defaults, as `helm upgrade --reuse-values` does with those that came later."""

    def maps(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
        while "$ref" in schema:
            schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
        if isinstance(value, dict) and "properties" in schema:
            for key, inner in value.items():
                yield from maps(inner, schema["properties"][key], f"{path}.{key}" if path else key)
        elif isinstance(value, dict) and path != "workers" and "resources." not in path:
            yield path

    nulls = [*maps(yaml.safe_load((CHART / "values.yaml").read_text()), SCHEMA, "")]
    assert {
        "commonLabels",
        "teacher.prices",
        "student.settings",
        "keda.metadata",
        "valkey.persistence.annotations",
    } <= {*nulls}
    nulls += [f"podDefaults.{key}" for key in ("tolerations", "extraEnv", "extraVolumes", "extraVolumeMounts")]
    nulls += ["keda.authModes", "keda.authenticationKind", "tests.budgetUsd"]
    values = [f"{path}=null" for path in nulls]
    values += [
        'knowledge.store="embedded"', "knowledge.replicas=1", "weaviate.enabled=false", 'weaviate.existingSecret=""', "runs.external.enabled=true",
        'keda.authenticationRef="thanos"', 'artifacts={"url": "", "existingSecret": ""}',
    ]  # fmt: skip
    for more in ([], ['knowledge.store="weaviate"', "weaviate.enabled=true", 'weaviate.existingSecret="nesycd"']):
        arguments = [part for value in [*values, *more] for part in ("--set-json", value)]
        done = template(*preset("production"), *arguments)
        assert done.returncode == 0, done.stderr
        assert 'NESYCD_TEACHER_PRICES: "{}"' in done.stdout and "kind: TriggerAuthentication" in done.stdout
        assert "null" not in done.stdout and "<nil>" not in done.stdout and "<no value>" not in done.stdout


def test_images_may_each_name_their_registry() -> None:
    roles = yaml.safe_load((CHART / "values.yaml").read_text())["images"].keys() - {"pullPolicy", "weaviate"}
    named = [f'images.{role}.repository="registry.example.com/a/{role}"' for role in roles]
    arguments = [part for value in ['global.imageRegistry=""', *named] for part in ("--set-json", value)]
    done = template(*preset("small"), *arguments)
    assert done.returncode == 0, done.stderr
    assert "image: registry.example.com/a/teacher:" in done.stdout


def test_all_problems_come_at_once(refused: Refused) -> None:
    said = refused("knowledge.replicas=2", "singleNode=false", 'student.engine.kind="openai"')
    assert said.count("\n- ") == 3


def test_without_any_values_it_is_said_what_is_needed() -> None:
    said = template().stderr
    assert "redis.existingSecret" in said and "teacher.upstream.url" in said


@pytest.mark.parametrize("name", PRESETS)
def test_an_old_kubernetes_is_refused(name: str) -> None:
    assert "incompatible with Kubernetes v1.28.0" in template(*preset(name), version="1.28.0").stderr
