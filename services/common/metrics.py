"""Prometheus metrics of every server: calls, latency and calls in flight, by method and code."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("nesycd_grpc_server_calls", "Calls that ended, by method and status code.", ["method", "code"])
SECONDS = Histogram(
    "nesycd_grpc_server_call_seconds",
    "Time from start to end of a call.",
    ["method", "code"],
    # From a cache hit to a batch that runs for an hour.
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
)
IN_FLIGHT = Gauge("nesycd_grpc_server_calls_in_flight", "Calls that run now.", ["method"])
