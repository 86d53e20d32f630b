"""A server that writes for the student, behind a company's proxy."""

from __future__ import annotations

import pytest
from huggingface_hub.utils import _http

from services.student.engines.openai import OpenAiServer
from services.student.engines.servers import Passing, Server
from services.student.engines.tgi import TgiServer
from services.student.settings import Settings
from tests.proxy import company_proxy


@pytest.mark.parametrize(("kind", "server"), [("openai", OpenAiServer), ("tgi", TgiServer)])
async def test_an_engine_elsewhere_is_asked_through_the_proxy_and_one_of_this_machine_is_not(
    monkeypatch: pytest.MonkeyPatch, kind: str, server: type[Server]
) -> None:
    # As the service sets it before it imports the hub's client; and what the client makes its connections with is everybody's.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(_http, "_GLOBAL_ASYNC_CLIENT_FACTORY", _http.default_async_client_factory)

    async def describe(url: str) -> str:
        engine = server(Settings(engine=kind, engine_url=url))  # type: ignore[arg-type,call-arg]
        try:
            with pytest.raises(Passing) as caught:
                await engine.describe()
        finally:
            await engine.close()
        return str(caught.value)

    async with company_proxy(monkeypatch, "HTTPS_PROXY", "http_proxy") as proxy:
        assert "proxy" in await describe("https://vllm.example.com:8443/v1")
        assert proxy.lines == ["CONNECT vllm.example.com:8443 HTTP/1.1"]
        assert "proxy" not in await describe("http://127.0.0.1:9")
        assert len(proxy.asked) == 1
