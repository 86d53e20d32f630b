"""Prometheus metrics of every server: calls, latency and calls in flight, by method and code."""

from __future__ import annotations

from functools import lru_cache

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


@lru_cache(maxsize=4096)  # to find them by their labels takes longer than to count
def ended(method: str, code: str) -> tuple[Counter, Histogram]:
    """The counter and the histogram of a method's calls that ended with a code."""
    return CALLS.labels(method, code), SECONDS.labels(method, code)


@lru_cache(maxsize=1024)
def in_flight(method: str) -> Gauge:
    """The gauge of a method's calls that run now."""
    return IN_FLIGHT.labels(method)
