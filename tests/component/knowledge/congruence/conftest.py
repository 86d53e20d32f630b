"""The services that the suite compares: one with the embedded store, one with Weaviate; and both with an embedder, too."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli.weaviate import find_server
from tests.component.knowledge.congruence.backends import Backend
from tests.processes import ROOT, Process, free_port, service

STORES = os.environ.get("NESYCD_TEST_STORES", "embedded,weaviate").split(",")
"""One of them alone is for work on it: the suite's own assertions hold for each."""


def embeddings(folder: Path) -> Process:
    """The stand-in for an embeddings endpoint."""
    port = free_port()

    def ready() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
        except OSError:
            return False

    command = [sys.executable, "-m", "tests.embeddings", "--port", str(port)]
    return Process(command, folder / "embeddings.log", {"PYTHONPATH": str(ROOT)}, ready, port)


def stores() -> list[str]:
    """The stores that take part. Without a Weaviate server, and where none is demanded, what the cases say of the
    embedded store is tested all the same."""
    given = os.environ.get("NESYCD_TEST_WEAVIATE_URL") or os.environ.get("NESYCD_TEST_WEAVIATE") == "required"
    there = given or find_server() is not None
    return [store for store in STORES if store != "weaviate" or there]


def store_settings(store: str, folder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of a service over a store; the embedded one's data are in the folder."""
    if store == "weaviate":
        return request.getfixturevalue("weaviate_server").settings()
    return {"data_dir": str(folder / "data")}


def _backends(folder: Path, request: pytest.FixtureRequest, **settings: str) -> Iterator[list[Backend]]:
    with ExitStack() as stack:
        made = []
        for store in stores():
            own = store_settings(store, folder, request)
            process = service("knowledge", folder / store, compiled="false", log_level="warning", **own, **settings)
            made.append(Backend(store, process))
        for backend in made:
            backend.process.start()
            stack.callback(backend.process.kill)
        yield made


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[list[Backend]]:
    """Services without an embedder."""
    yield from _backends(tmp_path_factory.mktemp("plain"), request)


@pytest.fixture(scope="session")
def vector_backends(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[list[Backend]]:
    """Services whose embedder is an endpoint."""
    folder = tmp_path_factory.mktemp("vectors")
    endpoint = embeddings(folder).start()
    try:
        yield from _backends(
            folder,
            request,
            embedder="openai",
            embedder_model="fake-embedding",
            embedder_url=f"http://{endpoint.address}",
        )
    finally:
        endpoint.kill()
