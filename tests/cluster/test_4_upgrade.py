"""`helm upgrade` and `helm rollback` while a run goes on and clients call: nobody notices."""

from __future__ import annotations

from tests.cluster.kubernetes import Cluster
from tests.cluster.load_pod import Load
from tests.cluster.test_1_install import PODS
from tests.cluster.work import ended_well, small_run, submit, teacher_calls, usage, wait


def started(cluster: Cluster) -> dict[str, set[str]]:
    """The pods of each component, by their unique ids."""
    return {name: {pod["metadata"]["uid"] for pod in cluster.pods(name)} for name in PODS}


def test_an_upgrade_during_a_run_fails_no_call_and_the_run_pays_nothing_twice(installed: Cluster) -> None:
    before, pods = teacher_calls(installed), started(installed)
    with Load(installed) as load:
        name = submit(installed, small_run(101, train=12, test=2))
        wait(installed, name, "rationalize")
        # It changes the settings of everything of ours, so that all these pods are replaced.
        done = installed.upgrade("--set", "logLevel=debug")
        print(f"`helm upgrade --wait` took {done.seconds:.0f} s")
        run = wait(installed, name)
    ended_well(run)
    result = load.result()
    print(result)
    assert result["calls"] > 1000 and not result["failures"]
    after, now = teacher_calls(installed), started(installed)
    print(before, after, usage(installed))
    assert after["answered_again"] == before["answered_again"]
    kept = {component for component in PODS if pods[component] & now[component]}
    assert kept == {"standin", "valkey", "weaviate"}


def test_a_rollback_restores_the_settings_of_the_revision_before(installed: Cluster) -> None:
    before = started(installed)
    with Load(installed) as load:
        done = installed.helm("rollback", "1", "--wait", "--timeout", "12m")
    print(f"`helm rollback --wait` took {done.seconds:.0f} s")
    assert not load.result()["failures"]
    installed.ready(PODS)
    settings = installed.get("configmap", f"{installed.release}-teacher")["data"]
    assert settings["NESYCD_TEACHER_LOG_LEVEL"] == "info"
    assert not before["teacher"] & started(installed)["teacher"]
