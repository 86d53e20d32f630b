"""What is known of runs and their stages in Redis, as Prometheus metrics: for autoscalers of workers, dashboards and alerts.

Workers need no port for it: they come and go, and what they did is told by whoever is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from jobs.app import CPU_QUEUE, GPU_QUEUE, RUN_QUEUE, queue_of
from jobs.state import OUTCOMES, QUEUED, AtWork, RunStore, Totals
from method.methods.base import STAGES
from services.common.logs import get_logger

log = get_logger("nesycd.runs.metrics")


class RunMetrics(Collector):
    """Figures that are read from Redis at each scrape. Every replica of the service tells the same ones; while Redis is away there are none.

    Args:
        store: The state of runs.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def describe(self) -> Iterator[Metric]:
        """Nothing: to register asks no Redis."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment."""
        try:
            at_work = self._store.at_work()
            submitted = int(self._store.client.llen(RUN_QUEUE))
            totals = self._store.totals()
            memory = self._store.client.info("memory")
        except RedisError as error:
            log.warning("redis_away", error=type(error).__name__)
            return
        yield _stages(at_work, submitted)
        yield from _runs(at_work)
        yield from _totals(totals)
        yield _memory(memory)


def _stages(at_work: list[AtWork], submitted: int) -> Metric:
    """What an autoscaler looks at. Both states count: a message that a worker has taken is in no queue any more, and its worker must not be
    taken away.
    """
    counts = Counter((queue_of(run.stage), "queued" if run.state == QUEUED else "running") for run in at_work)
    counts[RUN_QUEUE, "queued"] += submitted
    gauge = GaugeMetricFamily("nesycd_run_stages", "Stages of runs, by queue and state.", labels=["queue", "state"])
    for queue in (CPU_QUEUE, GPU_QUEUE, RUN_QUEUE):
        for state in ("queued", "running"):
            gauge.add_metric([queue, state], counts[queue, state])
    return gauge


def _memory(memory: Mapping[str, Any]) -> Metric:
    """Redis evicts nothing that was acknowledged: full, it refuses what runs write, and the teacher is not asked any more."""
    gauge = GaugeMetricFamily(
        "nesycd_redis_memory_used_ratio", "The used part of the memory that Redis may use; none where it has no limit."
    )
    if limit := int(memory.get("maxmemory", 0)):
        gauge.add_metric([], int(memory.get("used_memory", 0)) / limit)
    return gauge


def _runs(at_work: list[AtWork]) -> Iterator[Metric]:
    """Of each run that is not over; its series end with it."""
    silent = GaugeMetricFamily(
        "nesycd_run_silent_seconds",
        "Seconds since the worker of a run told anything, while it is at a stage.",
        labels=["run", "stage"],
    )
    budget = GaugeMetricFamily(
        "nesycd_run_budget_used_ratio", "The part of its budget that a run that goes on has spent.", labels=["run"]
    )
    for run in at_work:
        if run.silent_seconds is not None:
            silent.add_metric([run.run, run.stage], run.silent_seconds)
        if run.budget_used is not None:
            budget.add_metric([run.run], run.budget_used)
    yield silent
    yield budget


def _totals(totals: Totals) -> Iterator[Metric]:
    """Kept in Redis, so they outlive this process. What has not happened is told as 0: a rate needs the step from there."""
    attempts = CounterMetricFamily(
        "nesycd_run_stage_attempts", "Turns of workers at a stage, by how they ended.", labels=["stage", "outcome"]
    )
    failures = CounterMetricFamily(
        "nesycd_run_failures", "Runs that failed, by stage and reason.", labels=["stage", "reason"]
    )
    seconds = SummaryMetricFamily(
        "nesycd_run_stage_seconds", "What stages took that were done, all turns together.", labels=["stage"]
    )
    for stage in STAGES:
        for outcome in OUTCOMES:
            attempts.add_metric([stage, outcome], totals.attempts.get((stage, outcome), 0))
        seconds.add_metric([stage], totals.done.get(stage, 0), totals.seconds.get(stage, 0.0))
    for (stage, reason), number in sorted(totals.failures.items()):
        failures.add_metric([stage, reason], number)
    yield attempts
    yield failures
    yield seconds
