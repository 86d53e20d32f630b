"""A first installation as a platform team has it, beside the other release: a token, mutual TLS, Secrets of its own, a Redis that was there before."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.certificates import issued
from tests.cluster.conftest import HERE, namespace
from tests.cluster.kubernetes import ROOT, Cluster, Done

PODS = ("teacher", "extraction", "knowledge", "student", "runs", "worker-cpu", "worker-submissions", "standin")
TOKEN = "token-of-the-team"
Files = dict[str, Path]


@pytest.fixture(scope="module")
def team(installed: Cluster) -> Iterator[Cluster]:
    """An empty namespace for the release of another team, whose Redis is the first release's Valkey."""
    redis = f"{installed.release}-valkey.{installed.namespace}:6379"
    values = (*installed.values, "-f", str(HERE / "values-team.yaml"), "--set", f"redis.address={redis}")
    made = Cluster(f"{installed.namespace}-team", values=values)
    with namespace(made, "nesycd.dev/test=team"):
        yield made


@pytest.fixture(scope="module")
def files(team: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Authority, certificate and key of the release, with the names that docs/install.md wants, for this namespace and not for `nesycd`."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "install.md").read_text(), re.S)
    (certificate,) = [block for block in blocks if "kind: Certificate" in block]
    names = yaml.safe_load(certificate)["spec"]["dnsNames"]
    return issued(tmp_path_factory.mktemp("tls"), [re.sub(r"^\*\.nesycd\b", f"*.{team.namespace}", n) for n in names])


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


def test_a_first_installation_with_an_external_redis_a_token_and_mutual_tls_gets_ready_and_does_a_run(
    installed: Cluster, team: Cluster, files: Files
) -> None:
    literals = {"redis-password": installed.secret("redis-password"), "auth-token": TOKEN}
    team.kubectl("create", "secret", "generic", "team", *(f"--from-literal={k}={v}" for k, v in literals.items()))
    team.kubectl("create", "secret", "generic", "team-tls", *(f"--from-file={k}={v}" for k, v in files.items()))
    done = team.install()
    print(f"`helm install --wait` of the second release was ready after {done.seconds:.0f} s")
    team.ready(dict.fromkeys(PODS, 1))
    # It was looked for, by name, before there was any other policy.
    assert "Completed" in team.kubectl("get", "events", "--field-selector", "involvedObject.name=nesycd-preflight")
    done = team.helm("test", "--timeout", "28m", "--logs")
    print(f"{done.output}\n`helm test` of the second release took {done.seconds:.0f} s")
    assert "Phase:          Succeeded" in done.output and "ended well" in done.output
    known = nesycd(team, files, "runs", "runs", "--json")
    assert known.status == 0 and "cluster-test" in known.output, known.output
    refused = nesycd(team, files, "runs", "runs", token="another")
    assert refused.status != 0 and "NESYCD_CLI_PEER_TOKEN" in refused.output, refused.output


def test_a_volume_is_saved_and_restored_by_the_commands_of_the_page(
    team: Cluster, files: Files, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page[page.index("### The files of a volume") : page.index("### Restoring Weaviate")]
    (commands,) = re.findall(r"```\n(.*?)```", section, re.S)
    before = nesycd(team, files, "knowledge", "kb", "list", "--json")
    assert before.status == 0 and "knowledgeBases/" in before.output, "the run has made a knowledge base"
    commands = commands.replace("--namespace nesycd ", f"--namespace {team.namespace} ")
    done = team.run("bash", "-euc", f"cd '{tmp_path}'\n{commands}")
    print(f"{done.output}\nsaved and restored in {done.seconds:.0f} s")
    assert list((tmp_path / "saved").iterdir())
    team.ready({"knowledge": 1})
    assert nesycd(team, files, "knowledge", "kb", "list", "--json").output == before.output
