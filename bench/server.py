"""The knowledge store with an embedder that costs nothing, so that a search is measured without it.

`python -m bench.server`, with the settings of `python -m services.knowledge`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench import corpus
from services.common.server import run
from services.knowledge.__main__ import make_store, serve_library
from services.knowledge.embedders import Embedder, Urgency
from services.knowledge.library import Library
from services.knowledge.settings import Settings
from services.knowledge.stores import Vector


class FreeEmbedder(Embedder):
    """See corpus.vector."""

    async def _load(self) -> tuple[str, int]:
        return corpus.EMBEDDER, corpus.DIMENSION

    async def _embed(self, texts: list[str], urgency: Urgency) -> list[Vector]:
        return [corpus.vector(text) for text in texts]


async def main() -> None:
    """Serves until SIGTERM."""
    settings = Settings()
    await serve_library(settings, Library(make_store(settings), FreeEmbedder()))


if __name__ == "__main__":
    run(main)
