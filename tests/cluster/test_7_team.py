"""A first installation as a platform team has it, beside the other release: a token, mutual TLS, Secrets of its own, a Redis that was there before."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.certificates import issued
from tests.cluster.conftest import HERE, namespace, team_namespace
from tests.cluster.kubernetes import ROOT, Cluster, Done

PODS = ("teacher", "extraction", "knowledge", "student", "runs", "worker-cpu", "worker-submissions", "standin")
TOKEN = "token-of-the-team"
Files = dict[str, Path]
# Before `release`: where that fails, the report of the failure knows the namespace.
pytestmark = pytest.mark.usefixtures("team")


@pytest.fixture(scope="module")
def team(installed: Cluster) -> Iterator[Cluster]:
    """An empty namespace for the release of another team, whose Redis is the first release's Valkey."""
    redis = f"{installed.release}-valkey.{installed.namespace}:6379"
    values = (*installed.values, "-f", str(HERE / "values-team.yaml"), "--set", f"redis.address={redis}")
    made = Cluster(team_namespace(installed), values=values)
    with namespace(made, "nesycd.dev/test=team"):
        copy_pull_secrets(installed, made)
        yield made


def copy_pull_secrets(installed: Cluster, team: Cluster) -> None:
    """Gives the second namespace the Secrets with which the first release pulls its images; on a cluster that is given they may be named in its values."""
    deployment = installed.get("deployment", f"{installed.release}-runs")
    for named in deployment["spec"]["template"]["spec"].get("imagePullSecrets", []):
        if found := installed.kubectl("get", "secret", named["name"], "--ignore-not-found", "--output", "json"):
            secret = json.loads(found)
            copy = {key: secret[key] for key in ("apiVersion", "kind", "type", "data")} | {"metadata": named}
            team.kubectl("apply", "-f", "-", given=json.dumps(copy))


@pytest.fixture(scope="module")
def files(team: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Authority, certificate and key of the release, with the names that docs/install.md wants, for this namespace and not for `nesycd`."""
    folder = tmp_path_factory.mktemp("tls")
    if kept := team.kubectl("get", "secret", "team-tls", "--ignore-not-found", "--output", "json"):
        for name, text in json.loads(kept)["data"].items():
            (folder / name).write_bytes(base64.b64decode(text))
        return {path.name: path for path in folder.iterdir()}
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "install.md").read_text(), re.S)
    (certificate,) = [block for block in blocks if "kind: Certificate" in block]
    names = yaml.safe_load(certificate)["spec"]["dnsNames"]
    return issued(folder, [re.sub(r"^\*\.nesycd\b", f"*.{team.namespace}", n) for n in names])


@pytest.fixture(scope="module")
def release(installed: Cluster, team: Cluster, files: Files) -> Cluster:
    """The second release, installed and ready."""
    if team.helm("status", check=False).status == 0:
        # Kept (KEEP=1), and perhaps longer than the other release, whose Redis it asks.
        password = base64.b64decode(team.get("secret", "team")["data"]["redis-password"]).decode()
        assert password == installed.secret("redis-password"), f"of another Redis: delete namespace {team.namespace}"
        return team
    literals = {"redis-password": installed.secret("redis-password"), "auth-token": TOKEN}
    team.kubectl("create", "secret", "generic", "team", *(f"--from-literal={k}={v}" for k, v in literals.items()))
    team.kubectl("create", "secret", "generic", "team-tls", *(f"--from-file={k}={v}" for k, v in files.items()))
    done = team.install()
    print(f"`helm install --wait` of the second release was ready after {done.seconds:.0f} s")
    # It was looked for, by name, before there was any other policy.
    assert "Completed" in team.kubectl("get", "events", "--field-selector", "involvedObject.name=nesycd-preflight")
    return team


def nesycd(team: Cluster, files: Files, service: str, *arguments: str, token: str = TOKEN) -> Done:
    """What the command says on this machine, with the environment that the notes of the chart name."""
    with team.services(service) as addresses:
        port = addresses[service].rpartition(":")[2]
        given = {
            f"NESYCD_{service.upper()}_ADDRESS": f"localhost:{port}", "NESYCD_CLI_PEER_TOKEN": token, "NESYCD_CLI_PEER_TLS_CA": files["ca.crt"],
            "NESYCD_CLI_PEER_TLS_CERT": files["tls.crt"], "NESYCD_CLI_PEER_TLS_KEY": files["tls.key"],
        }  # fmt: skip
        environment = [f"{name}={value}" for name, value in given.items()]
        return team.run("env", *environment, sys.executable, "-m", "cli.main", *arguments, seconds=120, check=False)


@pytest.mark.timeout(3000)  # the installation too
def test_a_first_installation_with_an_external_redis_a_token_and_mutual_tls_gets_ready_and_does_a_run(
    release: Cluster, files: Files
) -> None:
    release.ready(dict.fromkeys(PODS, 1))
    done = release.helm_test()
    print(f"{done.output}\n`helm test` of the second release took {done.seconds:.0f} s")
    assert "Phase:          Succeeded" in done.output and "ended well" in done.output
    known = nesycd(release, files, "runs", "runs", "--json")
    assert known.status == 0 and "cluster-test" in known.output, known.output
    refused = nesycd(release, files, "runs", "runs", token="another")
    assert refused.status != 0 and "NESYCD_CLI_PEER_TOKEN" in refused.output, refused.output


def test_a_volume_is_saved_and_restored_by_the_commands_of_the_page(
    release: Cluster, files: Files, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page[page.index("### The files of a volume") : page.index("### Restoring Weaviate")]
    (commands,) = re.findall(r"```\n(.*?)```", section, re.S)
    before = nesycd(release, files, "knowledge", "kb", "list", "--json")
    assert before.status == 0 and "knowledgeBases/" in before.output, "the run has made a knowledge base"
    commands = commands.replace("--namespace nesycd ", f"--namespace {release.namespace} ")
    done = release.run("bash", "-euc", f"cd '{tmp_path}'\n{commands}")
    print(f"{done.output}\nsaved and restored in {done.seconds:.0f} s")
    assert list((tmp_path / "saved").iterdir())
    release.ready({"knowledge": 1})
    assert nesycd(release, files, "knowledge", "kb", "list", "--json").output == before.output
