from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from nesycd.knowledge.v1 import KnowledgeServiceStub, add_KnowledgeServiceServicer_to_server

from services.common.server import Server, Service
from services.common.settings import ServerSettings
from services.knowledge.embedders import Embedder, Urgency
from services.knowledge.library import Library
from services.knowledge.search import words
from services.knowledge.servicer import KnowledgeServicer
from services.knowledge.stores.embedded import EmbeddedStore


class LetterEmbedder(Embedder):
    """Vectors of letter counts: real vectors, made in no time."""

    async def _load(self) -> tuple[str, int]:
        return "letters", 26

    async def _embed(self, texts: list[str], urgency: Urgency) -> list[np.ndarray]:
        vectors = []
        for text in texts:
            vector = np.full(26, 0.01, np.float32)
            for letter in "".join(words(text)):
                if "a" <= letter <= "z":
                    vector[ord(letter) - 97] += 1
            vectors.append(vector / np.linalg.norm(vector))
        return vectors


@pytest.fixture
def embedder() -> LetterEmbedder:
    """An embedder that costs nothing."""
    return LetterEmbedder()


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    """A library over a store in a new folder, with the base kb."""
    one = Library(EmbeddedStore(tmp_path / "data", compiled=False))
    await one.open()
    await one.create_base("kb", "A base", "")
    yield one
    await one.close()


@pytest.fixture
async def stub(library: Library) -> AsyncIterator[KnowledgeServiceStub]:
    """A client of a real server over the library."""
    service = Service(
        "nesycd.knowledge.v1.KnowledgeService",
        None,
        add_KnowledgeServiceServicer_to_server,
        KnowledgeServicer(library),
    )
    async with Server(ServerSettings(grace_seconds=1), [service]) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield KnowledgeServiceStub(channel)
