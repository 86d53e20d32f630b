"""The settings of the knowledge store, `NESYCD_KNOWLEDGE_*`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic_settings import SettingsConfigDict

from services.common.settings import ServerSettings


class Settings(ServerSettings):
    """Read once at start.

    Attributes:
        data_dir: The folder of the embedded store; one process owns it.
        embedder: none (searches go by words) or minilm (all-MiniLM-L6-v2; hybrid by default).
        compiled: Whether the search may use numba.
    """

    model_config = SettingsConfigDict(env_prefix="NESYCD_KNOWLEDGE_")

    port: int = 50062
    data_dir: Path = Path(".nesycd/knowledge")
    embedder: Literal["none", "minilm"] = "none"
    compiled: bool = True
