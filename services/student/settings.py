"""Settings of the student service."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServerSettings


class Settings(ServerSettings):
    """Environment variables with the prefix `NESYCD_STUDENT_`.

    Attributes:
        base_model: Name of the base model; its folder is `<artifacts_url>/models/<base_model>` unless base_model_dir is set.
        base_model_dir: A transformers folder on this machine.
        knowledge_address: Where the knowledge service is; empty: answers are given without knowledge.
        artifacts_url: Artifact store that adapters and models come from, any fsspec URL.
        registry_url: Where the students of a base model keep what is loaded and the aliases, any fsspec URL of a folder; those
            that share it serve the same. Empty: `<artifacts_url>/students/<base_model>`.
        registry_poll_seconds: How often a student looks there for what the others changed.
        state_dir: Keeps copies of models from a remote store.
        max_batch: Most questions that are answered together.
        batch_window_ms: How long a lone question waits for company, in milliseconds.
        batch_idle_seconds: After so long without a new row a BatchAnswer stream's group is answered though not full.
        max_new_tokens: Most tokens of an answer whose request does not say.
        dtype: Number format; auto is bfloat16 where the hardware computes in it, else float32.
        threads: Computing threads; 0 is one a core.
        hot_adapters: How many sets of weights, each an adapter's or the base model's, are kept ready in memory.
        device: `auto`: a GPU where there is one that torch can use, else the CPU; `cpu`; `cuda`: a GPU, or the service does not start.
        engine: What writes: `transformers` in this process; or a server, `openai` for any with OpenAI's completions API
            (vLLM, SGLang, llama.cpp), `tgi` for text-generation-inference. dtype, threads, hot_adapters, device and
            batch_window_ms are for the first only, the settings below for the others.
        engine_url: The server's address, with or without /v1.
        engine_api_key: Sent as a bearer token; never printed.
        engine_model: The base model's name there; empty: the only one that it has.
        engine_models: JSON, adapter -> model (or adapter id) there, for adapters that it was started with or that are
            merged into a model of it.
        engine_artifacts: The artifact store as the server sees it, a folder that both mount, for adapters that it loads
            at run time; empty: artifacts_url's folder.
        engine_extra_fields: Say what OpenAI's API has no fields for, too: top_k, and that min_p and repetition_penalty of the
            server's defaults do not count. vLLM, SGLang and llama.cpp know them; false for a server that refuses them.
        engine_context_length: Most tokens of a prompt and its completion together; 0: what the server says.
        engine_concurrency: Most requests at the server at the same time, of this process.
        engine_timeout_seconds: For one whole completion.
        engine_connect_timeout_seconds: For the connection.
        engine_attempts: Tries of a completion, none of whose text was passed on, while the server is away or overloaded.
    """

    model_config = SettingsConfigDict(env_prefix="NESYCD_STUDENT_", extra="ignore", hide_input_in_errors=True)

    port: int = Field(default=50064, ge=0, le=65535)
    base_model: str = Field(default="smollm2-135m-instruct", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    base_model_dir: Path | None = None
    knowledge_address: str = "127.0.0.1:50062"
    artifacts_url: str = ""
    registry_url: str = ""
    registry_poll_seconds: float = Field(default=2.0, gt=0)
    state_dir: Path = Path("state/student")
    max_batch: int = Field(default=48, ge=1, le=1024)
    batch_window_ms: float = Field(default=5.0, ge=0, le=1000)
    batch_idle_seconds: float = Field(default=2.0, gt=0)
    max_new_tokens: int = Field(default=128, ge=1, le=2048)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(default=0, ge=0)
    hot_adapters: int = Field(default=2, ge=1)
    device: str = "auto"
    engine: Literal["transformers", "openai", "tgi"] = "transformers"
    engine_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    engine_api_key: SecretStr = SecretStr("")
    engine_model: str = ""
    engine_models: dict[str, str] = Field(default_factory=dict)
    engine_artifacts: str = ""
    engine_extra_fields: bool = True
    engine_context_length: int = Field(default=0, ge=0)
    engine_concurrency: int = Field(default=64, ge=1)
    engine_timeout_seconds: float = Field(default=300, gt=0)
    engine_connect_timeout_seconds: float = Field(default=10, gt=0)
    engine_attempts: int = Field(default=3, ge=1, le=10)

    @field_validator("device")
    @classmethod
    def _choose(cls, device: str) -> str:
        return device or "auto"  # As the empty default of before said it.

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.engine != "transformers" and not self.engine_url:
            raise ValueError(
                f"NESYCD_STUDENT_ENGINE={self.engine} needs NESYCD_STUDENT_ENGINE_URL, the server's address"
            )
        return self
