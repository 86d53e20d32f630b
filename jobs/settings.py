"""Settings of the Celery application and its workers, read once from the environment (prefix NESYCD_JOBS_)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import PeerSettings


class Settings(PeerSettings):
    """Where everything is, and how long things may take.

    Attributes:
        redis_url: Redis or Valkey: broker, results, and the state of runs.
        artifacts_url: Artifact store, any fsspec URL: ``file:///data/artifacts``, ``s3://bucket/prefix``.
        scratch_dir: Local folder for files of a remote artifact store while they are worked on.
        teacher_address: Address of the teacher proxy.
        extraction_address: Address of the extraction service.
        knowledge_address: Address of the knowledge store.
        student_address: Address of the student.
        peer_tls, peer_tls_ca, peer_tls_cert, peer_tls_key, peer_token, max_message_bytes: See PeerSettings.
        lease_seconds: How long a run stays a worker's after the worker's last sign of life.
        recover_seconds: How often runs are looked for whose worker is gone.
        max_attempts: Attempts of a stage without lasting progress, after which the run is given up.
        patience_seconds: How long a service, or Redis, may be away before the stage's attempt fails.
        call_seconds: Deadline of one call to a service.
        silence_seconds: Longest time without a result in a batch. Longer than the slowest group takes that is answered together: the
            student's 48 questions with long demonstrations on two cores take minutes, and are no sign that it hangs.
        stall_seconds: A stage that tells nothing for so long (no row, no step, no question whether to stop) is taken to hang: its worker
            writes the stacks of all threads to its log and ends itself, to be started again. Longer than patience_seconds:
            a stage that waits for Redis tells nothing either.
        stage_seconds: Longest stage that the broker's visibility timeout allows for; Celery's own time limits do not work with the solo pool.
        result_seconds: How long Celery keeps a task's small result.
        device: What a worker trains on. `auto`: a GPU where there is one that torch can use, else the CPU; `cuda`: a GPU, or the worker
            does not start.
        heartbeat_file: File that the worker touches every few seconds while it gets on (jobs/heartbeat.py); None: none.
        log_level: debug, info, warning or error.
    """

    model_config = SettingsConfigDict(env_prefix="NESYCD_JOBS_", extra="ignore", hide_input_in_errors=True)

    redis_url: str = "redis://127.0.0.1:6379/0"
    artifacts_url: str = "file://.nesycd/artifacts"
    scratch_dir: Path | None = None
    teacher_address: str = "127.0.0.1:50061"
    knowledge_address: str = "127.0.0.1:50062"
    extraction_address: str = "127.0.0.1:50063"
    student_address: str = "127.0.0.1:50064"
    max_message_bytes: int = Field(default=64 * 1024 * 1024, ge=1024, lt=2**31)
    lease_seconds: float = Field(default=30.0, ge=0.3)
    recover_seconds: float = Field(default=5.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    patience_seconds: float = Field(default=600.0, ge=0)
    call_seconds: float = Field(default=120.0, gt=0)
    silence_seconds: float = Field(default=900.0, gt=0)
    stall_seconds: float = Field(default=1800.0, gt=0)
    stage_seconds: int = Field(default=24 * 3600, ge=60)
    result_seconds: int = Field(default=3600, ge=1)
    device: Literal["auto", "cuda", "cpu"] = "auto"
    heartbeat_file: Path | None = None
    log_level: str = "info"
