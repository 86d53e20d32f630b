"""The settings of the knowledge store, `NESYCD_KNOWLEDGE_*`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServerSettings


class Settings(ServerSettings):
    """Read once at start.

    Attributes:
        store: Where entries are kept: embedded (files in data_dir, one process) or weaviate (a server of its own, any
            number of processes), see docs/weaviate.md.
        data_dir: The folder of the embedded store; one process owns it.
        weaviate_url: The server's HTTP address; https means TLS, also for gRPC.
        weaviate_grpc_host: Where its gRPC port is; empty: the host of weaviate_url.
        weaviate_grpc_port: Its gRPC port.
        weaviate_grpc_secure: Whether that port speaks TLS; not set: as weaviate_url.
        weaviate_api_key: Sent with every call; empty: none. Never printed.
        weaviate_start_timeout_seconds: How long the server is waited for at start.
        weaviate_timeout_seconds: Longest wait for one call of the server.
        redis_url: Redis or Valkey in which the writers of several processes take turns; empty: one process writes.
        embedder: Makes the vectors that searches by meaning need, see docs/embedders.md: none (searches go by words),
            minilm (the packaged all-MiniLM-L6-v2), local (an encoder from a folder) or openai (an HTTP endpoint).
        embedder_model: For local the folder of a transformers encoder; for openai the endpoint's name of the model.
        embedder_url: The endpoint's address, with or without /v1.
        embedder_api_key: Sent to the endpoint as a bearer token; never printed.
        embedder_query_prefix: Put before every query; what the model was trained with ("query: " for E5).
        embedder_document_prefix: Put before every entry's text; another one means that all vectors are made anew.
        embedder_batch_size: Most texts of one request to the endpoint.
        embedder_concurrency: Most requests to the endpoint at a time, of this process.
        embedder_timeout_seconds: How long a query or a write waits for the endpoint, with all tries.
        compiled: Whether the search may use numba.
    """

    model_config = SettingsConfigDict(env_prefix="NESYCD_KNOWLEDGE_")

    port: int = 50062
    store: Literal["embedded", "weaviate"] = "embedded"
    data_dir: Path = Path(".nesycd/knowledge")
    weaviate_url: str = "http://127.0.0.1:8080"
    weaviate_grpc_host: str = ""
    weaviate_grpc_port: int = Field(default=50051, ge=1, le=65535)
    weaviate_grpc_secure: bool | None = None
    weaviate_api_key: SecretStr = SecretStr("")
    weaviate_start_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    weaviate_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    redis_url: str = ""
    embedder: Literal["none", "minilm", "local", "openai"] = "none"
    embedder_model: str = ""
    embedder_url: str = ""
    embedder_api_key: SecretStr = SecretStr("")
    embedder_query_prefix: str = ""
    embedder_document_prefix: str = ""
    embedder_batch_size: int = Field(default=32, ge=1, le=2048)
    embedder_concurrency: int = Field(default=4, ge=1, le=256)
    embedder_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    compiled: bool = True

    @model_validator(mode="after")
    def _check_store(self) -> Self:
        prefix = self.model_config.get("env_prefix", "")
        if self.store != "weaviate":
            return self
        url = _parts(self.weaviate_url)
        if url is None or url.path not in ("", "/"):
            raise ValueError(f"{prefix}WEAVIATE_URL is no address such as http://weaviate:8080")
        if url.username or url.password:
            raise ValueError(f"{prefix}WEAVIATE_URL holds a password: set {prefix}WEAVIATE_API_KEY instead")
        if set(self.weaviate_grpc_host) & set("/: "):
            raise ValueError(f"{prefix}WEAVIATE_GRPC_HOST is no host name; the port is {prefix}WEAVIATE_GRPC_PORT")
        if self.redis_url and not self.redis_url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError(f"{prefix}REDIS_URL is no address such as redis://valkey:6379/0")
        return self

    @model_validator(mode="after")
    def _check_embedder(self) -> Self:
        prefix = self.model_config.get("env_prefix", "")
        if self.embedder in ("local", "openai") and not self.embedder_model:
            what = "a model's folder" if self.embedder == "local" else "the endpoint's name of the model"
            raise ValueError(f"{prefix}EMBEDDER={self.embedder} needs {prefix}EMBEDDER_MODEL, {what}")
        if self.embedder == "openai":
            url = _parts(self.embedder_url)
            if url is None:
                raise ValueError(
                    f"{prefix}EMBEDDER=openai needs {prefix}EMBEDDER_URL, such as http://127.0.0.1:8080/v1"
                )
            if url.username or url.password:
                raise ValueError(f"{prefix}EMBEDDER_URL holds a password: set {prefix}EMBEDDER_API_KEY instead")
        return self


def _parts(url: str) -> SplitResult | None:
    """The parts of an HTTP address; None where it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it finds a port that is no number
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None
