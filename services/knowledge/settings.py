"""The settings of the knowledge store, `NESYCD_KNOWLEDGE_*`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServerSettings


class Settings(ServerSettings):
    """Read once at start.

    Attributes:
        data_dir: The folder of the embedded store; one process owns it.
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
    data_dir: Path = Path(".nesycd/knowledge")
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
    def _check_embedder(self) -> Self:
        prefix = self.model_config.get("env_prefix", "")
        if self.embedder in ("local", "openai") and not self.embedder_model:
            what = "a model's folder" if self.embedder == "local" else "the endpoint's name of the model"
            raise ValueError(f"{prefix}EMBEDDER={self.embedder} needs {prefix}EMBEDDER_MODEL, {what}")
        if self.embedder == "openai":
            url = urlsplit(self.embedder_url)
            if url.scheme not in ("http", "https") or not url.hostname:
                raise ValueError(
                    f"{prefix}EMBEDDER=openai needs {prefix}EMBEDDER_URL, such as http://127.0.0.1:8080/v1"
                )
            if url.username or url.password:
                raise ValueError(f"{prefix}EMBEDDER_URL holds a password: set {prefix}EMBEDDER_API_KEY instead")
        return self
