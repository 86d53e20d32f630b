"""A real Weaviate server as a process, for tests: killed, started again, with or without an API key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli import weaviate
from tests.processes import Process, free_port


def server_binary() -> Path:
    """The server; where it is missing the test fails if NESYCD_TEST_WEAVIATE=required, and is skipped otherwise."""
    found = weaviate.find_server()
    if found is None:
        missing = (
            f"no weaviate-server {weaviate.VERSION}: run `make weaviate` (needs Go), or set NESYCD_TEST_WEAVIATE_URL"
        )
        if os.environ.get("NESYCD_TEST_WEAVIATE") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class WeaviateServer:
    """A server with a folder and ports of its own, the same for its whole life.

    Args:
        folder: For its data and its log; made where missing.
        api_key: Callers must send it; empty: anybody may call.
        memory: Size that its heap is kept below, as Go writes it.

    Attributes:
        http_port, grpc_port: Where it listens, on loopback.
        url: `http://127.0.0.1:{http_port}`.
        api_key: As given.
    """

    def __init__(self, folder: Path, *, api_key: str = "", memory: str = "1GiB") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        ports = {name: free_port() for name in weaviate.PORTS}
        self.api_key = api_key
        self.http_port = ports["http"]
        self.grpc_port = ports["grpc"]
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._process = Process(
            weaviate.command(server_binary(), "127.0.0.1", self.http_port),
            folder / "weaviate.log",
            weaviate.environment(folder, ports, api_key=api_key, memory=memory),
            lambda: weaviate.ready(f"127.0.0.1:{self.http_port}"),
            self.http_port,
        )

    @property
    def pid(self) -> int:
        """The process's id; it must have been started."""
        assert self._process.popen is not None
        return self._process.popen.pid

    def start(self) -> WeaviateServer:
        """Starts it and waits until it is ready, about 7 seconds."""
        self._process.start(patience=120)
        return self

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        return self._process.stop(patience=60)

    def settings(self) -> dict[str, str]:
        """Settings of a knowledge service that keeps its entries there: `service("knowledge", folder, **settings())`."""
        settings = {"store": "weaviate", "weaviate_url": self.url, "weaviate_grpc_port": str(self.grpc_port)}
        return {**settings, "weaviate_api_key": self.api_key} if self.api_key else settings


class GivenServer(WeaviateServer):
    """The server that NESYCD_TEST_WEAVIATE_URL names; it is somebody else's, so it is neither stopped nor killed."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.url = environment["NESYCD_TEST_WEAVIATE_URL"].rstrip("/")
        self.http_port = urlsplit(self.url).port or 80
        self.grpc_port = int(environment.get("NESYCD_TEST_WEAVIATE_GRPC_PORT", "50051"))
        self.api_key = environment.get("NESYCD_TEST_WEAVIATE_API_KEY", "")

    @property
    def pid(self) -> int:
        """It has none that is known."""
        return self._not_ours()

    def start(self) -> WeaviateServer:
        """Does nothing: it runs."""
        return self

    def kill(self) -> None:
        """Skips the test."""
        self._not_ours()

    def stop(self) -> int:
        """Skips the test."""
        return self._not_ours()

    def _not_ours(self) -> int:
        pytest.skip(f"this test stops the server, and {self.url} is not ours: unset NESYCD_TEST_WEAVIATE_URL")
