"""Settings of the student service."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServerSettings


class Settings(ServerSettings):
    """Environment variables with the prefix `NESYCD_STUDENT_`.

    Attributes:
        base_model: Name of the base model; its folder is `<artifacts_url>/models/<base_model>` unless base_model_dir is set.
        base_model_dir: A transformers folder on this machine.
        knowledge_address: Where the knowledge service is; empty: answers are given without knowledge.
        artifacts_url: Artifact store that adapters and models come from, any fsspec URL.
        state_dir: Keeps what is loaded and the aliases over a restart, and copies of models from a remote store.
        max_batch: Most questions that are answered together.
        batch_window_ms: How long a lone question waits for company, in milliseconds.
        batch_idle_seconds: After so long without a new row a BatchAnswer stream's group is answered though not full.
        max_new_tokens: Most tokens of an answer whose request does not say.
        dtype: Number format; auto is bfloat16 where the hardware computes in it, else float32.
        threads: Computing threads; 0 is one a core.
        hot_adapters: How many sets of weights, each an adapter's or the base model's, are kept ready in memory.
        device: `cpu`, `cuda` and so on; empty is a GPU where there is one.
    """

    model_config = SettingsConfigDict(env_prefix="NESYCD_STUDENT_", extra="ignore", hide_input_in_errors=True)

    port: int = Field(default=50064, ge=0, le=65535)
    base_model: str = Field(default="smollm2-135m-instruct", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    base_model_dir: Path | None = None
    knowledge_address: str = "127.0.0.1:50062"
    artifacts_url: str = ""
    state_dir: Path = Path("state/student")
    max_batch: int = Field(default=48, ge=1, le=1024)
    batch_window_ms: float = Field(default=5.0, ge=0, le=1000)
    batch_idle_seconds: float = Field(default=2.0, gt=0)
    max_new_tokens: int = Field(default=128, ge=1, le=2048)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(default=0, ge=0)
    hot_adapters: int = Field(default=2, ge=1)
    device: str = ""
