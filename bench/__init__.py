"""Benchmarks: what the project promises, measured beside its peers. See docs/benchmarks.md."""
