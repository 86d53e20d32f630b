"""Writes the names of the free settings into the chart's values.schema.json: `python deploy/helm/make_schema.py`.

`teacher.settings`, `student.settings` and so on take every setting of the process but those that the chart gives itself; a
name that is none is refused by helm instead of being ignored by the process. All else in the schema is written by hand.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Path(__file__).resolve().parent / "nesycd" / "values.schema.json"
FREE_OF_ALL = {"max_concurrent_calls", "max_message_bytes"}
"""Settings of every server that are free; the others are values of the chart: TLS, token, ports, drain, log level."""
GIVEN: dict[str, set[str]] = {
    "teacher": {"upstream_url", "upstream_api_key", "backend", "default_model", "redis_url", "prices"},
    "extraction": {"teacher_address", "knowledge_address"},
    "knowledge": {
        "store", "data_dir", "weaviate_url", "weaviate_grpc_host", "weaviate_grpc_port", "weaviate_grpc_secure", "weaviate_api_key",
        "redis_url", "embedder", "embedder_model", "embedder_url", "embedder_api_key",
    },
    "student": {
        "base_model", "base_model_dir", "knowledge_address", "artifacts_url", "state_dir", "threads", "engine", "engine_url",
        "engine_api_key", "engine_model",
    },
    "runs": {"redis_url", "artifacts_url", "teacher_prices", "lease_seconds"},
    "jobs": {
        "redis_url", "artifacts_url", "scratch_dir", "teacher_address", "knowledge_address", "extraction_address",
        "student_address", "lease_seconds", "log_level", "device", "heartbeat_file",
    },
}  # fmt: skip
"""What the chart gives each process itself (base_model_dir: what only makes sense on one's own machine)."""


def settings_of(process: str) -> set[str]:
    """The names of all settings of a process."""
    module = importlib.import_module("jobs.settings" if process == "jobs" else f"services.{process}.settings")
    return set(module.Settings.model_fields)


def free_settings(process: str) -> list[str]:
    """The names that are free."""
    common = set(importlib.import_module("services.common.settings").ServerSettings.model_fields) - FREE_OF_ALL
    return sorted(settings_of(process) - GIVEN[process] - common)


def make() -> str:
    """The schema's text."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text())
    for process in GIVEN:
        holder = schema["definitions"]["worker"] if process == "jobs" else schema["properties"][process]
        holder["properties"]["settings"]["propertyNames"]["enum"] = free_settings(process)
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    SCHEMA.write_text(make())
