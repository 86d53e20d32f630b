"""`helm uninstall` keeps data unless asked, and a new installation finds it."""

from __future__ import annotations

from tests.cluster.kubernetes import Cluster, until
from tests.cluster.test_1_install import PODS
from tests.cluster.work import FACT, aliases, kept_facts, runs


def left(cluster: Cluster) -> list[str]:
    """Objects of the release, but volumes."""
    kinds = "all,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets"
    return cluster.kubectl("get", kinds, "-l", f"app.kubernetes.io/instance={cluster.release}", "-o", "name").split()


def claims(cluster: Cluster) -> set[str]:
    return {
        claim["metadata"]["name"] for claim in cluster.get("pvc", "-l", f"app.kubernetes.io/instance={cluster.release}")
    }


def test_an_uninstallation_keeps_the_data_and_a_new_installation_finds_it(installed: Cluster) -> None:
    facts = kept_facts(installed)
    assert FACT in facts
    known, published = runs(installed), aliases(installed)
    assert known and published
    installed.helm("uninstall", "--wait", "--cascade", "foreground", "--timeout", "10m")
    until(lambda: not installed.pods(), 240, "the end of all pods")
    assert not [thing for thing in left(installed) if "test-run" not in thing]
    assert claims(installed) == {"nesycd-artifacts", "data-nesycd-valkey-0", "data-nesycd-weaviate-0"}
    done = installed.install()
    print(f"`helm install --wait` was ready again after {done.seconds:.0f} s")
    installed.ready(PODS)
    assert kept_facts(installed) == facts
    assert runs(installed) == known
    assert aliases(installed) == published


def test_data_goes_when_it_is_asked_for(installed: Cluster) -> None:
    installed.helm("uninstall", "--wait", "--cascade", "foreground", "--timeout", "10m")
    installed.kubectl("delete", "pvc", "-l", f"app.kubernetes.io/instance={installed.release}", "--timeout=120s")
    assert not claims(installed)
