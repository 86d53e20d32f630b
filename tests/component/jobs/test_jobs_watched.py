"""What a cluster looks at: a worker's heartbeat, and how many stages are queued and running. Real Valkey, real workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

from prometheus_client import CollectorRegistry, generate_latest

from jobs import state
from services.runs.metrics import RunMetrics
from tests.component.jobs.conftest import World, lapse
from tests.processes import ROOT, running, service
from tests.tiny import make_tiny_model


def figures(store: state.RunStore) -> dict[str, float]:
    """What the runs service tells Prometheus; what has not happened is left out."""
    registry = CollectorRegistry()
    registry.register(RunMetrics(store))
    lines = generate_latest(registry).decode().splitlines()
    told = {name: float(value) for name, value in (line.split(" ") for line in lines if not line.startswith("#"))}
    return {name: value for name, value in told.items() if value or name.startswith("nesycd_run_stages{")}


def of_stage(name: str, stage: str, **labels: str) -> str:
    ordered = sorted({"stage": stage, **labels}.items())
    return f"nesycd_run_{name}{{" + ",".join(f'{key}="{value}"' for key, value in ordered) + "}"


def test_an_idle_worker_touches_its_file_and_one_without_a_broker_does_not(world: World) -> None:
    file = world.folder / "heartbeat"
    world.worker(NESYCD_JOBS_HEARTBEAT_FILE=str(file))
    world.wait(file.exists)
    first = file.stat().st_mtime
    world.wait(lambda: file.stat().st_mtime > first)
    world.broker.kill()
    time.sleep(6)
    last = file.stat().st_mtime
    time.sleep(7)
    assert file.stat().st_mtime == last
    world.broker.start()
    world.wait(lambda: file.stat().st_mtime > last)


def test_queued_and_running_stages_are_counted_by_queue_and_none_while_redis_is_away(world: World) -> None:
    for run in ("a", "b"):
        world.store.create(run, {"name": run}, [("prepare", 1), ("train-general", 1)])
    assert world.store.take("a", "prepare", 1, "worker") == "TAKEN"
    names = ('nesycd_run_stages{{queue="nesycd.{}",state="{}"}}'.format(*pair) for pair in (
        ("cpu", "queued"), ("cpu", "running"), ("gpu", "queued"), ("gpu", "running"), ("runs", "queued"), ("runs", "running"),
    ))  # fmt: skip
    told = figures(world.store)
    assert {name: value for name, value in told.items() if name.startswith("nesycd_run_stages{")} == dict(
        zip(names, (1, 1, 0, 0, 0, 0), strict=True)
    )
    world.store.end_stage("a", "prepare", 1, "worker", "DONE", following=("train-general", 1))
    assert figures(world.store)['nesycd_run_stages{queue="nesycd.gpu",state="queued"}'] == 1
    world.broker.kill()
    away = state.RunStore(state.connect(world.redis_url, patience=0.2))
    assert figures(away) == {}


def test_how_stages_end_is_counted_once_and_outlives_workers(world: World) -> None:
    store = state.RunStore(world.store.client, lease_seconds=60, max_attempts=2)
    began = time.time()
    plan = [("prepare", 1), ("train-general", 1)]
    store.create("a", {"name": "a"}, plan)

    store.take("a", "prepare", 1, "first")
    store.end_stage("a", "prepare", 1, "first", "HANDBACK")
    store.take("a", "prepare", 1, "second")
    lapse(store, "a")
    assert store.take("a", "prepare", 1, "third") == "TAKEN"
    assert store.end_stage("a", "prepare", 1, "second", "DONE") is False, (
        "its lease has expired, and another has the run"
    )
    store.end_stage("a", "prepare", 1, "third", "DONE", following=plan[1])
    store.end_stage("a", "prepare", 1, "third", "DONE", following=plan[1])  # the answer to the first was lost
    told = figures(store)
    assert told[of_stage("stage_attempts_total", "prepare", outcome="handback")] == 1
    assert told[of_stage("stage_attempts_total", "prepare", outcome="lost")] == 1
    assert told[of_stage("stage_attempts_total", "prepare", outcome="done")] == 1
    assert told[of_stage("stage_seconds_count", "prepare")] == 1
    assert 0 < told[of_stage("stage_seconds_sum", "prepare")] < time.time() - began

    for token in ("fourth", "fifth"):
        assert store.take("a", "train-general", 1, token) == "TAKEN"
        lapse(store, "a")
        assert store.reclaim("a", dead="", queued_before=0)[0] == "AGAIN"
    assert store.take("a", "train-general", 1, "sixth") == "EXHAUSTED"
    told = figures(store)
    assert told[of_stage("stage_attempts_total", "train-general", outcome="lost")] == 2
    assert told[of_stage("failures_total", "train-general", reason="WORKER_LOST")] == 1

    store.create("b", {"name": "b"}, plan)
    store.take("b", "prepare", 1, "seventh")
    store.end_stage(
        "b", "prepare", 1, "seventh", "FAILED", error={"reason": "DATA_NOT_FOUND", "message": "", "stage": "prepare"}
    )
    told = figures(store)
    assert told[of_stage("failures_total", "prepare", reason="DATA_NOT_FOUND")] == 1
    assert told[of_stage("stage_attempts_total", "prepare", outcome="failed")] == 1


def test_a_run_that_goes_on_tells_how_long_it_is_silent_and_how_much_of_its_budget_is_spent(world: World) -> None:
    silent, budget = 'nesycd_run_silent_seconds{run="a",stage="prepare"}', 'nesycd_run_budget_used_ratio{run="a"}'
    world.store.create("a", {"name": "a", "teacher": {"budget_usd": 4.0}}, [("prepare", 1)])
    assert figures(world.store).keys().isdisjoint({silent, budget}), "nobody is at it, and nothing is spent"
    told = time.time()
    world.store.take("a", "prepare", 1, "worker")
    world.store.annotate("a", cost_usd=3.0)
    time.sleep(1.2)
    assert 1 < figures(world.store)[silent] < time.time() - told
    assert figures(world.store)[budget] == 0.75
    told = time.time()
    assert world.store.progress("a", "prepare", 1, "worker", {"done": 1})
    assert figures(world.store)[silent] < time.time() - told
    world.store.end_stage("a", "prepare", 1, "worker", "DONE")
    assert figures(world.store).keys().isdisjoint({silent, budget}), "it is over"


def test_how_full_redis_is_is_told_where_its_memory_has_a_limit(world: World) -> None:
    ratio = "nesycd_redis_memory_used_ratio"
    assert ratio not in figures(world.store)
    world.store.client.config_set("maxmemory", "64mb")
    assert 0 < figures(world.store)[ratio] < 0.5


def test_what_helm_test_runs_submits_a_run_and_tells_that_it_ended_well_or_why_not(world: World) -> None:
    make_tiny_model(world.folder / "artifacts" / "models" / "tiny")
    rows = world.folder / "rows"
    rows.mkdir()
    shutil.copy(world.data(5, "t"), rows / "train.jsonl")
    shutil.copy(world.data(3), rows / "test.jsonl")
    artifacts = f"file://{world.folder}/artifacts"
    runs = service("runs", world.folder, redis_url=world.redis_url, artifacts_url=artifacts)
    command = [sys.executable, "-m", "examples.clients.submit_and_wait", "--runs", "", "--data", str(rows)]
    with running(runs):
        command[4] = f"dns:///{runs.address}"
        world.worker()
        done = subprocess.run([*command, "--base-model", "tiny"], capture_output=True, text=True, cwd=ROOT, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ended well: adapters/cluster-test" in done.stdout
        done = subprocess.run([*command, "--base-model", "none"], capture_output=True, text=True, cwd=ROOT, timeout=200)
        assert done.returncode == 1
        assert "failed: MODEL_NOT_FOUND" in done.stderr
