"""Settings of the extraction service, from `NESYCD_EXTRACTION_*`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServerSettings


class Settings(ServerSettings):
    """Where the peers are, and how hard to try.

    Attributes:
        teacher_address: The teacher proxy, host:port.
        knowledge_address: The knowledge store, host:port.
        max_attempts: How often the teacher is asked about one case before the case is reported as failed.
        concurrency: How many cases of one stream are with the teacher at once.
        max_tokens: Most tokens that the teacher writes about a case (the paper: 1024).
        call_timeout_seconds: Longest wait for one call of a peer.
    """

    model_config = SettingsConfigDict(env_prefix="NESYCD_EXTRACTION_")

    port: int = Field(default=50063, ge=0, le=65535)
    teacher_address: str = "127.0.0.1:50061"
    knowledge_address: str = "127.0.0.1:50062"
    max_attempts: int = Field(default=3, ge=1, le=10)
    concurrency: int = Field(default=16, ge=1, le=256)
    max_tokens: int = Field(default=1024, ge=16, le=16384)
    call_timeout_seconds: float = Field(default=300, gt=0)
