"""A first installation as a platform team has it, beside the other release: a token, mutual TLS, Secrets of its own, a Redis that was there before."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

from tests.certificates import issued
from tests.cluster.kubernetes import ROOT, Cluster, Done

PODS = ("teacher", "extraction", "knowledge", "student", "runs", "worker-cpu", "worker-submissions", "standin")
TOKEN = "token-of-the-team"


def certificate_names(namespace: str) -> list[str]:
    """The names that docs/install.md wants in the certificate, for a release in this namespace and not in `nesycd`."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "install.md").read_text(), re.S)
    (certificate,) = [block for block in blocks if "kind: Certificate" in block]
    names = yaml.safe_load(certificate)["spec"]["dnsNames"]
    return [re.sub(r"^\*\.nesycd\b", f"*.{namespace}", name) for name in names]


def make_secrets(team: Cluster, files: dict[str, Path], redis_password: str) -> None:
    """The Secrets that values-team.yaml names, as docs/install.md makes them."""
    literals = {"redis-password": redis_password, "auth-token": TOKEN}
    team.kubectl("create", "secret", "generic", "team", *(f"--from-literal={k}={v}" for k, v in literals.items()))
    team.kubectl("create", "secret", "generic", "team-tls", *(f"--from-file={k}={v}" for k, v in files.items()))


def list_runs(team: Cluster, files: dict[str, Path], token: str) -> Done:
    """What `nesycd runs` says on this machine, with the environment that the notes of the chart name."""
    with team.services("runs") as addresses:
        port = addresses["runs"].rpartition(":")[2]
        given = {
            "NESYCD_RUNS_ADDRESS": f"localhost:{port}", "NESYCD_CLI_PEER_TOKEN": token, "NESYCD_CLI_PEER_TLS_CA": files["ca.crt"],
            "NESYCD_CLI_PEER_TLS_CERT": files["tls.crt"], "NESYCD_CLI_PEER_TLS_KEY": files["tls.key"],
        }  # fmt: skip
        environment = [f"{name}={value}" for name, value in given.items()]
        return team.run(
            "env", *environment, sys.executable, "-m", "cli.main", "runs", "--json", seconds=120, check=False
        )


def test_a_first_installation_with_an_external_redis_a_token_and_mutual_tls_gets_ready_and_does_a_run(
    installed: Cluster, team: Cluster, tmp_path: Path
) -> None:
    files = issued(tmp_path, certificate_names(team.namespace))
    make_secrets(team, files, installed.secret("redis-password"))
    done = team.install()
    print(f"`helm install --wait` of the second release was ready after {done.seconds:.0f} s")
    team.ready(dict.fromkeys(PODS, 1))
    # It was looked for, by name, before there was any other policy.
    assert "Completed" in team.kubectl("get", "events", "--field-selector", "involvedObject.name=nesycd-preflight")
    done = team.helm("test", "--timeout", "28m", "--logs")
    print(f"{done.output}\n`helm test` of the second release took {done.seconds:.0f} s")
    assert "Phase:          Succeeded" in done.output and "ended well" in done.output
    known = list_runs(team, files, TOKEN)
    assert known.status == 0 and "cluster-test" in known.output, known.output
    refused = list_runs(team, files, "another")
    assert refused.status != 0 and "NESYCD_CLI_PEER_TOKEN" in refused.output, refused.output
