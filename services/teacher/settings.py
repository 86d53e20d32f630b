"""The teacher proxy's settings: environment variables `NESYCD_TEACHER_*`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, SecretStr
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServerSettings


class Settings(ServerSettings):
    """What the process reads once, at its start.

    Attributes:
        upstream_url: The teacher's address, with or without /v1.
        upstream_api_key: Sent as a bearer token; never printed.
        backend: "openai" for any OpenAI-compatible server, "tgi" for text-generation-inference.
        default_model: Asked where a request names none.
        max_tokens_field: How the teacher calls its limit; OpenAI's reasoning models want the second.
        redis_url: Where answers, leases and usage are kept. Give it a durable Redis (appendonly yes).
        prices: JSON, model -> [prompt, completion] in US dollars per million tokens; "*" is any other model.
        default_temperature: For requests that give none (the paper's value).
        default_top_p: The same for nucleus sampling.
        default_max_tokens: The same for the most tokens to write.
        max_tokens_limit: Most tokens that a request may ask for, and the bound when a cut-off answer is asked again.
        slots: Most requests at the teacher at the same time, of this process.
        requests_per_minute: 0 for no limit; of this process.
        tokens_per_minute: Prompt and completion, 0 for no limit; of this process.
        max_attempts: Tries of one request when the teacher fails or limits the rate.
        max_asks_again: How often a broken or invalid answer is asked again, at its price.
        backoff_seconds: The first delay's upper end; doubles with every attempt.
        max_backoff_seconds: Where it stops doubling.
        max_retry_after_seconds: A longer Retry-After is reported instead of waited for.
        request_timeout_seconds: For one whole answer.
        connect_timeout_seconds: For the connection.
        max_response_bytes: A longer response is refused.
        lease_seconds: After a crash, so long until another process asks the same question.
        max_messages: Of one request.
        max_characters: Of all messages of one request together.
        max_schema_characters: Of its JSON schema.
        batch_concurrency: Rows of one BatchGenerate stream at work at the same time.
    """

    model_config = SettingsConfigDict(env_prefix="NESYCD_TEACHER_")

    port: int = 50061
    upstream_url: str = Field(min_length=1)
    upstream_api_key: SecretStr = SecretStr("")
    backend: Literal["openai", "tgi"] = "openai"
    default_model: str = "teacher"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    prices: dict[str, tuple[NonNegativeFloat, NonNegativeFloat]] = Field(default_factory=dict)
    default_temperature: float = Field(0.8, ge=0, le=2)
    default_top_p: float = Field(1.0, gt=0, le=1)
    default_max_tokens: int = Field(1024, ge=1)
    max_tokens_limit: int = Field(8192, ge=1)
    slots: int = Field(64, ge=1)
    requests_per_minute: float = Field(0, ge=0)
    tokens_per_minute: float = Field(0, ge=0)
    max_attempts: int = Field(6, ge=1)
    max_asks_again: int = Field(2, ge=0)
    backoff_seconds: float = Field(0.5, gt=0)
    max_backoff_seconds: float = Field(30, gt=0)
    max_retry_after_seconds: float = Field(120, ge=0)
    request_timeout_seconds: float = Field(300, gt=0)
    connect_timeout_seconds: float = Field(10, gt=0)
    max_response_bytes: int = Field(16 * 1024 * 1024, ge=1024)
    lease_seconds: float = Field(10, gt=0.1)
    max_messages: int = Field(64, ge=1)
    max_characters: int = Field(400_000, ge=1)
    max_schema_characters: int = Field(64_000, ge=1)
    batch_concurrency: int = Field(64, ge=1)
