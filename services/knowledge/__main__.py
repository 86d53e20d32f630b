"""Starts the knowledge store: `python -m services.knowledge`."""

from __future__ import annotations

import os

# Before numpy: the threads of OpenBLAS would compete with those of the searches.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from nesycd.knowledge.v1 import add_KnowledgeServiceServicer_to_server, knowledge_pb2

from services.common.server import Service, StartError, run, serve
from services.knowledge.embedders import make_embedder
from services.knowledge.library import Library
from services.knowledge.servicer import KnowledgeServicer
from services.knowledge.settings import Settings
from services.knowledge.stores import Store


def make_store(settings: Settings) -> Store:
    """The store that the settings name, not opened yet; what the other one needs is not imported.

    Raises:
        StartError: A package that it needs is not installed.
    """
    try:
        if settings.store == "weaviate":
            from services.knowledge.stores.weaviate import Connection, WeaviateStore

            connection = Connection(
                settings.weaviate_url,
                grpc_host=settings.weaviate_grpc_host,
                grpc_port=settings.weaviate_grpc_port,
                grpc_secure=settings.weaviate_grpc_secure,
                api_key=settings.weaviate_api_key.get_secret_value(),
                start_timeout=settings.weaviate_start_timeout_seconds,
                timeout=settings.weaviate_timeout_seconds,
            )
            return WeaviateStore(connection, settings.redis_url)
        from services.knowledge.stores.embedded import EmbeddedStore

        return EmbeddedStore(settings.data_dir, compiled=settings.compiled)
    except ModuleNotFoundError as error:
        raise StartError(
            f"the store {settings.store} needs the package {error.name}: install the extra `knowledge`"
        ) from error


async def serve_library(settings: Settings, library: Library) -> None:
    """Serves a library until SIGTERM; ready when its store answers."""
    service = Service(
        name="nesycd.knowledge.v1.KnowledgeService",
        descriptor=knowledge_pb2.DESCRIPTOR,
        add=add_KnowledgeServiceServicer_to_server,
        servicer=KnowledgeServicer(library),
    )
    await serve(settings, [service], ready=library.open, close=library.close)


async def main() -> None:
    """Serves what the settings name."""
    settings = Settings()
    await serve_library(settings, Library(make_store(settings), make_embedder(settings)))


if __name__ == "__main__":
    run(main)
