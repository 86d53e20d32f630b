"""The knowledge store with an embedder that costs nothing, so that a search is measured without it.

`python -m bench.server`, with the settings of `python -m services.knowledge`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from nesycd.knowledge.v1 import add_KnowledgeServiceServicer_to_server, knowledge_pb2

from bench import corpus
from services.common.server import Service, run, serve
from services.knowledge.__main__ import make_store
from services.knowledge.embedders import Embedder, Urgency
from services.knowledge.library import Library
from services.knowledge.servicer import KnowledgeServicer
from services.knowledge.settings import Settings
from services.knowledge.stores import Vector


class FreeEmbedder(Embedder):
    """See corpus.vector."""

    async def _load(self) -> tuple[str, int]:
        return corpus.EMBEDDER, corpus.DIMENSION

    async def _embed(self, texts: list[str], urgency: Urgency) -> list[Vector]:
        return [corpus.vector(text) for text in texts]


async def main(settings: Settings) -> None:
    """Serves until SIGTERM."""
    library = Library(make_store(settings), FreeEmbedder())
    service = Service(
        name="nesycd.knowledge.v1.KnowledgeService",
        descriptor=knowledge_pb2.DESCRIPTOR,
        add=add_KnowledgeServiceServicer_to_server,
        servicer=KnowledgeServicer(library),
    )
    await serve(settings, [service], ready=library.open, close=library.close)


if __name__ == "__main__":
    run(lambda: main(Settings()))
