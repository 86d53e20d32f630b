"""A proxy as a company has one on its way out; it lets nobody through and notes who asked for what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

NAMES = ("https_proxy", "http_proxy", "grpc_proxy", "all_proxy", "no_proxy", "no_grpc_proxy")


class Proxy:
    """Answers everything with 403.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        asked: The head of each request.
    """

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []

    @property
    def lines(self) -> list[str]:
        """The first line of each request."""
        return [head.splitlines()[0] for head in self.asked]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes one request."""
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def company_proxy(monkeypatch: pytest.MonkeyPatch, *variables: str, no_proxy: str = "") -> AsyncIterator[Proxy]:
    """Runs one that the environment names, and nothing else.

    Args:
        monkeypatch: The test's.
        variables: Which variables name it, such as HTTPS_PROXY.
        no_proxy: NO_PROXY.
    """
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    proxy = Proxy()
    async with await asyncio.start_server(proxy.answer, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        for name in variables:
            monkeypatch.setenv(name, f"http://team:pass@127.0.0.1:{proxy.port}")
        if no_proxy:
            monkeypatch.setenv("NO_PROXY", no_proxy)
        yield proxy
