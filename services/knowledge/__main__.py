"""Starts the knowledge store: `python -m services.knowledge`."""

from __future__ import annotations

import os

# Before numpy: the threads of OpenBLAS would compete with those of the searches.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from nesycd.knowledge.v1 import add_KnowledgeServiceServicer_to_server, knowledge_pb2

from services.common.server import Service, run, serve
from services.knowledge.embedder import make_embedder
from services.knowledge.library import Library
from services.knowledge.servicer import KnowledgeServicer
from services.knowledge.settings import Settings
from services.knowledge.stores.embedded import EmbeddedStore


async def main(settings: Settings) -> None:
    """Serves until SIGTERM; ready when the index is filled."""
    store = EmbeddedStore(settings.data_dir, compiled=settings.compiled)
    library = Library(store, make_embedder(settings.embedder))
    service = Service(
        name="nesycd.knowledge.v1.KnowledgeService",
        descriptor=knowledge_pb2.DESCRIPTOR,
        add=add_KnowledgeServiceServicer_to_server,
        servicer=KnowledgeServicer(library),
    )
    await serve(settings, [service], ready=library.open, close=library.close)


if __name__ == "__main__":
    run(lambda: main(Settings()))
