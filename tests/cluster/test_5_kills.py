"""Pods that end without a word: the run completes, and what was stored is there."""

from __future__ import annotations

from tests.cluster.kubernetes import Cluster, until
from tests.cluster.test_1_install import PODS
from tests.cluster.work import FACT, ended_well, kept_facts, known_run, read, small_run, submit, teacher_calls, wait


def test_a_run_whose_worker_and_services_are_killed_completes(installed: Cluster) -> None:
    before = teacher_calls(installed)
    name = submit(installed, small_run(202, train=6, test=2))
    wait(installed, name, "rationalize")
    installed.kill("teacher")
    installed.kill("worker-cpu")
    wait(installed, name, "train-general")
    installed.kill("worker-cpu")
    wait(installed, name, "extract")
    installed.kill("extraction")
    installed.kill("knowledge")
    wait(installed, name, "evaluate")
    installed.kill("student")
    installed.kill("runs")
    ended_well(wait(installed, name))
    installed.ready(PODS)
    # The one call that the killed teacher may have had open is answered, and paid, and unknown: it may be asked again, and no other.
    after = teacher_calls(installed)
    print(before, after)
    assert after["answered_again"] - before["answered_again"] <= 1


def test_weaviate_and_valkey_keep_what_they_had_when_they_are_killed(installed: Cluster) -> None:
    facts = kept_facts(installed)
    assert FACT in facts
    name = submit(installed, known_run("outlives"))
    installed.kill("weaviate")
    installed.kill("valkey")
    installed.ready(PODS)
    assert kept_facts(installed) == facts
    # The service may not have found Valkey's new pod yet.
    run = until(lambda: read(installed, name), 60, f"{name}, as it was stored")
    assert run.name == name
    ended_well(wait(installed, name))
