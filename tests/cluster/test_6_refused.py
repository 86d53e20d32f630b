"""What is wrong is refused before anything is changed, or told, with what to do."""

from __future__ import annotations

import json

from tests.cluster.kubernetes import CHART, Cluster, until


def revision(cluster: Cluster, *, deployed: bool = False) -> int:
    """The release's newest revision, or the one that is deployed."""
    history = json.loads(cluster.helm("history", "--output", "json").output)
    return max(one["revision"] for one in history if not deployed or one["status"] == "deployed")


def refused(cluster: Cluster, *arguments: str) -> str:
    """What helm says to an upgrade that it must refuse; the release must be as before."""
    before = revision(cluster)
    done = cluster.helm("upgrade", str(CHART), *cluster.values, *arguments, "--wait", "--timeout", "5m", check=False)
    assert done.status != 0
    print(done.output)
    assert revision(cluster) == before
    return done.output


def test_a_value_of_the_wrong_type_is_refused_with_its_place(installed: Cluster) -> None:
    said = refused(installed, "--set-string", "teacher.replicas=two")
    assert "teacher" in said and "replicas" in said and "integer" in said


def test_an_unknown_value_is_refused_with_its_name(installed: Cluster) -> None:
    said = refused(installed, "--set", "teacher.replcas=2")
    assert "replcas" in said


def test_values_that_do_not_fit_together_are_refused_with_what_to_do(installed: Cluster) -> None:
    said = refused(installed, "--set", "knowledge.store=embedded,weaviate.enabled=false")
    assert "set knowledge.replicas=1" in said


def test_a_redis_that_does_not_answer_stops_the_upgrade_with_why(installed: Cluster) -> None:
    before = revision(installed)
    done = installed.helm(
        "upgrade",
        str(CHART),
        *installed.values,
        *("--set", "valkey.enabled=false,redis.address=nowhere.example.com:6379,redis.existingSecret=nesycd-secrets"),
        *("--set", "secrets.create=false,weaviate.existingSecret=nesycd-secrets,preflight.timeoutSeconds=5"),
        *("--wait", "--timeout", "5m"),
        check=False,
    )
    print(done.output)
    assert done.status != 0 and revision(installed) != before
    assert "Redis at nowhere.example.com:6379 does not answer" in done.output and "check redis.address" in done.output
    # Nothing was replaced: Valkey, which these values do not want, is there.
    assert installed.pods("valkey")
    installed.kubectl("delete", "job", f"{installed.release}-preflight", "--ignore-not-found")


def test_a_secret_that_is_missing_is_told_by_its_pod_and_the_others_go_on(installed: Cluster) -> None:
    good = revision(installed, deployed=True)
    values = ("--set", "auth.enabled=true,auth.existingSecret=not-there")
    installed.helm("upgrade", str(CHART), *installed.values, *values)  # without --wait, as it would wait in vain

    def told() -> bool:
        pods = installed.pods("teacher")
        waiting = [
            s.get("state", {}).get("waiting", {}) for pod in pods for s in pod["status"].get("containerStatuses", [])
        ]
        return any(
            why.get("reason") == "CreateContainerConfigError"
            and 'secret "not-there" not found' in why.get("message", "")
            for why in waiting
        )

    try:
        until(told, 180, "a pod that tells of the missing secret")
        assert sum(1 for pod in installed.pods("teacher") if pod["status"]["phase"] == "Running") >= 2
    finally:
        installed.helm("rollback", str(good), "--wait", "--timeout", "12m")
